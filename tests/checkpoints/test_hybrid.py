"""Hybrids of timm and of the authors: their numbers, both ways."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from tests.checkpoints import everywhere
from tests.checkpoints.helpers import tensors
from tests.helpers import once, once_but, run, to_numpy

GOLDEN = Path(__file__).parent.parent / "golden" / "hybrid"
ARGUMENTS = {  # what nobody's tensors tell, or the names of a published model
    "timm_root": {},
    "timm_resnet": {"stem_groups": 4, "num_heads": 2},
    "authors": {"stem_groups": 4},
}


def load(case, **arguments):
    file = GOLDEN / case / "model.npz" if case == "authors" else GOLDEN / case
    return keras_vit.from_pretrained(file, **ARGUMENTS[case], **arguments)


def inputs(pixels):
    return (pixels / 127.5 - 1).astype("float32")


def outputs(model, images):
    """Every stage, every block and the logits, in one run."""
    names = [x.name for x in model.layers if "block" in x.name]
    features = model.feature_model(names).output
    whole = keras.Model(model.input, {**features, "logits": model.output})
    return run(whole, images)


@pytest.mark.parametrize("case", once_but(list(ARGUMENTS), *everywhere.HYBRID))
def test_equals_the_library_that_wrote_it(case):
    expected = np.load(GOLDEN / case / "expected.npz")
    model = load(case)
    assert not model.load_report.fresh and not model.load_report.dropped
    found = outputs(model, inputs(expected["pixels"]))
    for name, layer in (("stage0", "stage0_block01"), ("stage1", "stage1_block00")):
        if case != "timm_root":  # which has no stages
            np.testing.assert_allclose(found[layer], expected[name], atol=1e-4, err_msg=name)
    for name in ("block00", "block01", "logits"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4, err_msg=name)


@once
def test_published_files_have_flax_s_older_names(tmp_path):
    older = {"Attention_0": "Attention_1", "LayerNorm_1": "LayerNorm_2", "MlpBlock_0": "MlpBlock_3"}
    arrays = {}
    for name, value in np.load(GOLDEN / "authors" / "model.npz").items():
        for new, old in older.items():
            name = name.replace(new, old)
        arrays[name] = value
    np.savez(tmp_path / "model.npz", **arrays)
    found = keras_vit.from_pretrained(tmp_path / "model.npz", **ARGUMENTS["authors"])
    assert not found.load_report.fresh and not found.load_report.dropped
    for ours, theirs in zip(found.weights, load("authors").weights, strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs), err_msg=ours.path)


@once
def test_timm_reads_the_authors_file_with_its_own_epsilons():
    expected = np.load(GOLDEN / "authors" / "expected.npz")
    images = inputs(expected["pixels"])
    model = load("authors", convention="timm", mlp="gelu")
    logits = run(model, images)
    np.testing.assert_allclose(logits, expected["timm_logits"], atol=1e-4)
    assert np.abs(expected["timm_logits"] - expected["logits"]).max() > 1e-4  # it shows


@pytest.mark.parametrize("image_size", [(32, 96), None])
def test_another_size(image_size):
    expected = np.load(GOLDEN / "timm_resnet" / "expected.npz")
    model = load("timm_resnet", image_size=image_size)
    if image_size is not None:
        assert model.load_report.resampled == ["position_embedding/grid"]
        assert model.grid_size == (4, 12)
    logits = run(model, inputs(expected["other_pixels"]))
    np.testing.assert_allclose(logits, expected["other_logits"], atol=1e-4)


@once
def test_gives_back_the_file_of_timm_itself(tmp_path):
    model = load("timm_root")
    folder = keras_vit.save_pretrained(model, tmp_path / "out", format="timm")
    ours, theirs = tensors(folder), tensors(GOLDEN / "timm_root")
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
    config, original = (
        json.loads((x / "config.json").read_text()) for x in (folder, GOLDEN / "timm_root")
    )
    for key in set(config) & set(original) - {"model_args", "pretrained_cfg"}:
        assert config[key] == original[key], key
    for key in ("patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "in_chans"):
        assert config["model_args"][key] == original["model_args"][key], key
    assert config["pretrained_cfg"]["first_conv"] == original["pretrained_cfg"]["first_conv"]
    again = keras_vit.from_pretrained(folder)
    configs = [{**x.get_config(), "name": "", "preprocessor": None} for x in (model, again)]
    assert configs[0] == configs[1]
    for mine, yours in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(yours), to_numpy(mine))


def test_keras_files_and_standing_models(tmp_path):
    model = load("timm_resnet")
    folder = keras_vit.save_pretrained(model, tmp_path / "out", format="keras")
    again = keras_vit.from_pretrained(folder / "model.keras")
    for mine, yours in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(yours), to_numpy(mine))
    report = keras_vit.load_weights(again, GOLDEN / "timm_resnet", skip=["head"])
    assert set(report.fresh) == {"head/dense/kernel", "head/dense/bias"}
    with pytest.raises(ValueError, match="convention': 'authors'.*Received.*'timm'"):
        keras_vit.load_weights(again, GOLDEN / "authors" / "model.npz")


@once
def test_a_new_head_and_larger_patches():
    model = load("timm_root", num_classes=3, patch_size=4)
    assert set(model.load_report.fresh) == {"head/dense/kernel", "head/dense/bias"}
    assert model.load_report.resampled == ["patch_embedding/projection/kernel"]
    assert model.patch_size == (16, 16) and model.grid_size == (3, 3)


@once
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "vit_tiny_patch16_224"}, "timm's vit_\\*_r\\*. Received.*vit_tiny_p"),
        ({"architecture": None}, "Received: architecture=None"),
        ({"model_args": {"global_pool": "avg"}}, "global_pool.*'gap'"),
        ({"model_args": {"act_layer": "relu"}}, "act_layer cannot be honoured.*'relu'"),
    ],
)
def test_what_a_configuration_asks_for_in_vain_is_refused(changes, message, tmp_path):
    shutil.copy(GOLDEN / "timm_root" / "model.safetensors", tmp_path)
    config = json.loads((GOLDEN / "timm_root" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ValueError, match=message):
        keras_vit.from_pretrained(tmp_path)


@once
@pytest.mark.parametrize(
    ("case", "arguments", "format", "message"),
    [
        ("timm_root", {}, "hf", "transformers has no hybrid"),
        ("timm_root", {"convention": "authors"}, "timm", "convention of \\('timm',\\).*'authors'"),
        ("timm_resnet", {}, "timm", "stem_depths of .*Received: stem_depths=\\(2, 1\\)"),
    ],
)
def test_what_the_other_library_has_not_is_refused(case, arguments, format, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        keras_vit.save_pretrained(load(case, **arguments), tmp_path / "out", format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parity
def test_timm_opens_it(tmp_path):
    timm = pytest.importorskip("timm")
    import torch

    folder = keras_vit.save_pretrained(load("timm_root"), tmp_path / "out", "timm")
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    expected = np.load(GOLDEN / "timm_root" / "expected.npz")
    with torch.no_grad():
        logits = theirs(torch.tensor(inputs(expected["pixels"]).transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)
