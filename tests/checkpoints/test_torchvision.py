"""torchvision's names and published files; test_golden.py and test_swin.py hold the numbers."""

import hashlib
import json
import re
import warnings

import numpy as np
import pytest

import keras_vit
from keras_vit.checkpoints import torchvision
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.families import family_of
from keras_vit.checkpoints.readers.open import open_file
from keras_vit.checkpoints.swin import names as swin_names
from keras_vit.checkpoints.vit import names as vit_names
from keras_vit.checkpoints.writing import arrays_of, values_of, write_safetensors
from tests.checkpoints.helpers import GOLDEN
from tests.helpers import images, once, randomize, run, tiny_swin, tiny_vit

pytestmark = once  # names and files, the same everywhere
FILES = {
    "vit": (GOLDEN / "tv_vit/vit.pth", vit_names.TORCHVISION),
    "older vit": (GOLDEN / "tv_vit_published/vit.pth", vit_names.TORCHVISION_PUBLISHED),
    "swin": (GOLDEN.parent / "swin/tv_swin/swin.pth", swin_names.TORCHVISION),
    "swin v2": (GOLDEN.parent / "swin/tv_swinv2/swin.pth", swin_names.TORCHVISION_V2),
}


def arrays(path):
    reader = open_file(path)
    found = {name: reader.read(name).copy() for name in reader.tensors}
    reader.close()
    return found


def loaded(path, **arguments):
    if "vit" in path.name:
        arguments = {"num_heads": 4, **arguments}
    return keras_vit.from_pretrained(path, preprocessor=None, **arguments)


def named(model, table):
    """The model's weights as torchvision would have them."""
    config = {**model.get_config(), "patch_size": model.patch_size}
    if "position_resample" in config:
        grid = model.grid_size
        config |= {"class_token": True, "position_grid": grid}
    return arrays_of(values_of(model), table, family_of(model).read.facts(config))


@pytest.mark.parametrize("case", FILES)
def test_every_tensor_has_its_place_both_ways(case):
    path, table = FILES[case]
    model = loaded(path)
    assert model.load_report.names == table.name and not model.load_report.fresh
    theirs, ours = arrays(path), named(model, table)
    assert set(theirs) - set(ours) == set(model.load_report.dropped)  # indices of windows
    assert all("relative_" in name for name in model.load_report.dropped)
    for name, value in ours.items():
        if case == "swin v2" and name.endswith("qkv.bias"):  # whose keys have none in any call
            keys = slice(len(value) // 3, 2 * len(value) // 3)
            assert (theirs[name][keys] == 1).all() and (value[keys] == 0).all()
            theirs[name][keys] = 0
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_what_the_files_are():
    config = loaded(FILES["older vit"][0]).get_config()
    assert config["representation_size"] == 16 and config["norm_epsilon"] == 1e-6
    assert config["mlp"] == "gelu" and config["position_resample"] == "torchvision"
    assert config["image_size"] == (24, 24)
    for case, version in (("swin", 1), ("swin v2", 2)):
        config = loaded(FILES[case][0]).get_config()
        assert config["version"] == version and config["convention"] == "torchvision"
        assert config["window_size"] == 4 and config["norm_epsilon"] == 1e-5


def test_both_names_of_one_layer_are_too_many(tmp_path):
    path, _ = FILES["vit"]
    found = arrays(path)
    for name in list(found):
        if ".mlp.0." in name:
            found[name.replace(".0.", ".linear_1.")] = found[name] + 1
    write_safetensors(tmp_path / "vit.safetensors", found, {})
    with pytest.raises(CheckpointError, match="tensors without a weight:\n.*mlp.linear_1"):
        loaded(tmp_path / "vit.safetensors")


def test_preprocessing_of_published_files_is_torchvision_s():
    text = (GOLDEN.parent / "processors" / "torchvision.json").read_text()
    published = json.loads(text)
    del published["made_with"]
    assert set(published) == set(torchvision.PUBLISHED)
    for name, expected in published.items():
        found = torchvision.describe(torchvision.config_of(name)).preprocessor
        assert found.image_size == (expected["crop"],) * 2
        assert found.resized_size == (expected["resized"],) * 2 and found.resize == "short_side"
        assert found.interpolation == expected["interpolation"]
        assert list(found.mean) == expected["mean"] and list(found.std) == expected["std"]
        assert re.fullmatch("[0-9a-f]{8}", torchvision.hash_in(name))


@pytest.mark.parametrize("family", ["vit", "swin"])
def test_a_published_file_brings_preprocessing_and_names(family, tmp_path, monkeypatch):
    """One of a tiny model, whose name has the digits that such names have."""
    if family == "vit":
        model = tiny_vit(num_classes=1000, image_size=24, position_resample="torchvision")
        table = vit_names.TORCHVISION_PUBLISHED
    else:
        model = tiny_swin(num_classes=1000, image_size=24, window_size=3)
        table = swin_names.TORCHVISION
    randomize(model)
    write_safetensors(tmp_path / "x", named(model, table), {})
    digits = hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest()[:8]
    path = (tmp_path / "x").rename(tmp_path / f"{family}_b_16-{digits}.pth")
    monkeypatch.setitem(torchvision.PUBLISHED, path.name, (24, 32, "bilinear"))
    arguments = {"num_heads": model.get_config()["num_heads"]} if family == "vit" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = keras_vit.from_pretrained(path, **arguments)
    assert found.preprocessor.image_size == (24, 24)
    assert found.preprocessor.resized_size == (32, 32)
    assert found.class_names[0] == "tench, Tinca tinca" and len(found.class_names) == 1000
    pixels = images((24, 24))
    np.testing.assert_allclose(run(found, pixels), run(model, pixels), atol=1e-6)
    other = keras_vit.from_pretrained(path, num_classes=3, image_size=48, **arguments)
    assert other.class_names is None and other.preprocessor.image_size == (48, 48)
    standing = type(found).from_config(found.get_config())
    keras_vit.load_weights(standing, path)
    np.testing.assert_array_equal(run(standing, pixels), run(found, pixels))


def test_a_file_of_a_published_name_must_be_that_file(tmp_path):
    path = tmp_path / "vit_b_16-c867db91.pth"
    path.write_bytes(FILES["vit"][0].read_bytes())
    message = (
        "not the file that its authors published.*starts with c867db91. Received: [0-9a-f]{64}"
    )
    with pytest.raises(CheckpointError, match=message):
        keras_vit.from_pretrained(path)
    path = path.rename(tmp_path / "mine.pth")
    with pytest.warns(UserWarning, match="says nothing of preprocessing"):
        keras_vit.from_pretrained(path, num_heads=4)


def test_a_configuration_of_no_published_file_is_refused(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", arrays(FILES["vit"][0]), {})
    (tmp_path / "config.json").write_text(json.dumps({"torchvision": ["vit_b_16"]}))
    with pytest.raises(CheckpointError, match="no such weights. Received: torchvision="):
        keras_vit.from_pretrained(tmp_path, num_heads=4)


def test_swin_goes_to_other_libraries_where_they_compute_the_same(tmp_path):
    model, pixels = loaded(FILES["swin"][0]), images((32, 32))
    for format in ("hf", "timm"):
        folder = keras_vit.save_pretrained(model, tmp_path / format, format)
        again = keras_vit.from_pretrained(folder, preprocessor=None)
        np.testing.assert_allclose(run(again, pixels), run(model, pixels), atol=1e-6)
    small = keras_vit.resize(model, (24, 40))  # windows larger than the map
    with pytest.raises(CheckpointError, match="convention='authors'. Received.*'torchvision'"):
        keras_vit.save_pretrained(small, tmp_path / "small", "hf")
