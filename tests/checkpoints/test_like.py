"""A source without preprocessing is said to have none when it is loaded; like= lends it some."""

import shutil
import warnings

import numpy as np
import pytest

import keras_vit
from keras_vit.checkpoints.catalog import catalog
from keras_vit.checkpoints.errors import CheckpointError
from tests.checkpoints.helpers import GOLDEN
from tests.helpers import images, once, randomize, run, tiny_vit

pytestmark = once  # files are read the same way on every backend
LIKE = "deit_tiny_patch16_224.fb_in1k"
SAYS_NOTHING = "says nothing of preprocessing.*preprocessor=keras_vit.Preprocessor.*like="


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A source of every kind that holds no preprocessing, and what else it does not say."""
    root = tmp_path_factory.mktemp("sources")
    bare = {"num_heads": 4, "image_size": (24, 16)}
    shutil.copytree(GOLDEN / "hf_vit", root / "hf")
    (root / "hf" / "preprocessor_config.json").unlink(missing_ok=True)
    shutil.copy(GOLDEN / "timm_vit" / "model.safetensors", root / "bare.safetensors")
    tiny_vit().save(root / "own.keras")
    return {
        "npz": (GOLDEN / "vt_token_published" / "model.npz", {}),
        "pth": (GOLDEN / "torch_zip" / "model.pth", bare),
        "safetensors": (root / "bare.safetensors", bare),
        "folder": (root / "hf", {}),
        "keras": (root / "own.keras", {}),
    }


@pytest.mark.parametrize("kind", ["npz", "pth", "safetensors", "folder", "keras"])
def test_it_is_said_when_the_source_is_loaded(kind, sources):
    source, arguments = sources[kind]
    with pytest.warns(UserWarning, match=SAYS_NOTHING) as said:
        model = keras_vit.from_pretrained(source, **arguments)
    assert [x.filename for x in said] == [__file__]  # once, at the caller's line
    assert model.preprocessor is None and "says nothing of preprocessing" in str(model.load_report)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        given = keras_vit.from_pretrained(source, like=LIKE, **arguments)
        asked = keras_vit.from_pretrained(source, preprocessor=None, **arguments)
        inside = keras_vit.from_pretrained(source, include_preprocessing=True, **arguments)
    entry, ours = catalog()[LIKE], given.preprocessor
    assert (list(ours.mean), list(ours.std)) == (entry.mean, entry.std)
    assert (ours.crop_fraction, ours.interpolation) == (entry.crop_fraction, entry.interpolation)
    assert ours.image_size == given.input.shape[1:3]  # the model's, not the entry's 224
    for model in (given, asked):
        assert "preprocessing" not in model.load_report.summary()
    assert "makes -1..1 of pixels 0..255, which may not be" in inside.load_report.summary()


def test_what_has_its_preprocessing_is_not_spoken_of(tmp_path):
    tiny_vit(include_preprocessing=True).save(tmp_path / "own.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keras_vit.from_pretrained(tmp_path / "own.keras")
        model = keras_vit.from_pretrained(GOLDEN / "timm_vit")
    assert model.load_report.notes == []


def test_the_caller_s_sizes_and_channels_are_followed(sources):
    source, arguments = sources["safetensors"]
    larger = {**arguments, "position_grid": (3, 2), "image_size": (48, 32)}
    model = keras_vit.from_pretrained(source, like=LIKE, num_channels=1, **larger)
    assert model.preprocessor.image_size == (48, 32)
    np.testing.assert_allclose(model.preprocessor.mean, [np.mean(catalog()[LIKE].mean)])
    anysize = keras_vit.from_pretrained(sources["npz"][0], like=LIKE, image_size=None)
    assert anysize.preprocessor.image_size is not None


def test_the_names_of_imagenet_s_classes_where_both_have_them(tmp_path):
    model = tiny_vit(num_classes=1000)
    randomize(model)
    model.save(tmp_path / "thousand.keras")
    loaded = keras_vit.from_pretrained(tmp_path / "thousand.keras", like=LIKE)
    assert loaded.class_names[0] == "tench, Tinca tinca" and len(loaded.class_names) == 1000
    np.testing.assert_allclose(run(loaded, images()), run(model, images()), atol=1e-6)
    fewer = keras_vit.from_pretrained(tmp_path / "thousand.keras", like=LIKE, num_classes=5)
    assert fewer.class_names is None and fewer.preprocessor is not None
    picture = np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype("uint8")
    ((label, _),) = loaded.predict_images([picture], top=1)[0]
    assert label in loaded.class_names


def test_unknown_names_get_near_ones():
    with pytest.raises(CheckpointError, match=f"such as.*{LIKE}.*Received: like='deit_tiny'"):
        keras_vit.from_pretrained(GOLDEN / "timm_vit", like="deit_tiny")
    with pytest.raises(ValueError, match="given once, by like= or by preprocessor="):
        keras_vit.from_pretrained(GOLDEN / "timm_vit", like=LIKE, preprocessor=None)
    assert keras_vit.from_pretrained(GOLDEN / "timm_vit", like=f"timm/{LIKE}").preprocessor.mean
