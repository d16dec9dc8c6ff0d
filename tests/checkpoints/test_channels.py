"""RGB weights on images of another number of channels give timm's numbers, and are reported."""

from pathlib import Path

import numpy as np
import pytest

import keras_vit
from keras_vit.checkpoints.adapt import adapt_channels
from keras_vit.checkpoints.errors import CheckpointError
from tests.checkpoints.helpers import SOURCES
from tests.helpers import once, once_but, randomize, run, tiny_hybrid, tiny_vit, to_numpy

ROOT = Path(__file__).parent.parent / "golden"
GOLDEN = np.load(ROOT / "channels.npz")
FIRST = {"hybrid": "stem_conv", "pvt": "stage0_patch_embedding", "pvt_v2": "stage0_patch_embedding"}
SOURCE = ROOT / SOURCES["vit"]
RUNS = {f"{family}-{channels}": (family, channels) for family in SOURCES for channels in (1, 4)}


def first_kernel(model, family="vit"):
    layer = model.get_layer(FIRST.get(family, "patch_embedding"))
    return to_numpy(layer.kernel if family == "hybrid" else layer.projection.kernel)


@once
@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_kernels_become_those_of_timm(channels):
    ours = adapt_channels(GOLDEN["kernel"].transpose(2, 3, 1, 0), channels)
    expected = GOLDEN[f"kernel/{channels}"].transpose(2, 3, 1, 0)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


# Kernels are adapted by NumPy: elsewhere one family, whose images have one channel.
@pytest.mark.parametrize(("family", "channels"), once_but(RUNS, "vit-1"))
def test_every_family_gives_timm_s_numbers(family, channels):
    folder = ROOT / SOURCES[family]
    model = keras_vit.from_pretrained(folder, num_channels=channels)
    (path,) = model.load_report.adapted
    assert model.load_report.adapted[path] == (3, channels)
    assert f"adapted from 3 to {channels} channels, as timm does: {path}" in str(model.load_report)
    if family == "pvt":  # which timm has not
        whole = first_kernel(keras_vit.from_pretrained(folder), family)
        whole = whole.reshape(*model.get_layer(FIRST[family]).patch_size, 3, -1)
        expected = adapt_channels(whole, channels).reshape(-1, whole.shape[-1])
        np.testing.assert_allclose(first_kernel(model, family), expected, atol=1e-6)
    else:
        pixels = (GOLDEN[f"{family}/{channels}/pixels"] / 127.5 - 1).astype("float32")
        expected = GOLDEN[f"{family}/{channels}/logits"]
        np.testing.assert_allclose(run(model, pixels), expected, atol=1e-4)
    # A standing model says by itself how many channels it has.
    standing = type(model).from_config(model.get_config())
    randomize(standing, seed=3)
    assert keras_vit.load_weights(standing, folder).adapted == {path: (3, channels)}
    for ours, theirs in zip(standing.weights, model.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs), err_msg=ours.path)


@once
def test_the_preprocessor_follows():
    one = keras_vit.from_pretrained(SOURCE, num_channels=1)
    assert one.preprocessor.mean == pytest.approx((0.5,)) and one.preprocessor.crop_fraction == 0.9
    assert "followed: mean=[0.5], std=[0.5]" in one.load_report.summary()
    own = keras_vit.from_pretrained(SOURCE, num_channels=1, preprocessor=None)
    assert own.preprocessor is None


@once
def test_our_own_files_too(tmp_path):
    mean, std = (0.2, 0.4, 0.9), (0.1, 0.2, 0.3)
    preprocessor = keras_vit.Preprocessor((24, 16), mean=mean, std=std)
    model = tiny_vit(preprocessor=preprocessor, include_preprocessing=True)
    randomize(model)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    four = keras_vit.from_pretrained(tmp_path / "model.keras", num_channels=4)
    assert four.preprocessor.mean == (*mean, 0.2) and four.preprocessor.std == (*std, 0.1)
    assert four.load_report.adapted == {"patch_embedding/projection/kernel": (3, 4)}
    one = keras_vit.from_pretrained(tmp_path / "model.keras", num_channels=1)
    np.testing.assert_allclose(one.preprocessor.mean, [0.5])
    np.testing.assert_allclose(one.preprocessor.std, [0.2])
    kernel = first_kernel(model).reshape(64, 3, 16)
    np.testing.assert_allclose(first_kernel(one), kernel.sum(axis=1), atol=1e-6)
    standing = tiny_vit(num_channels=1)
    keras_vit.load_weights(standing, tmp_path / "model.keras")
    np.testing.assert_array_equal(first_kernel(standing), first_kernel(one))
    # Weights alone do not say what their 192 rows are made of.
    with pytest.raises(CheckpointError, match="projection.*Expected: the shape \\(64, 16\\)"):
        keras_vit.load_weights(standing, tmp_path / "model.weights.h5")


@once
def test_larger_patches_of_other_channels_in_one_call():
    arguments = {"patch_size": 16, "image_size": (48, 32)}
    grey = keras_vit.from_pretrained(SOURCE, num_channels=1, **arguments)
    colour = first_kernel(keras_vit.from_pretrained(SOURCE, **arguments)).reshape(256, 3, 32)
    np.testing.assert_allclose(first_kernel(grey), colour.sum(axis=1), atol=1e-5)
    assert grey.load_report.resampled[-1] == "patch_embedding/projection/kernel"
    assert list(grey.load_report.adapted) == ["patch_embedding/projection/kernel"]


@once
def test_channels_within_a_model_are_not_adapted(tmp_path):
    """The patches of a hybrid's map are no pixels."""
    tiny_hybrid(stem_depths=(), stem_width=8).save(tmp_path / "model.keras")
    with pytest.raises(CheckpointError, match="does not fit (stem|patch)"):
        keras_vit.from_pretrained(tmp_path / "model.keras", stem_width=4)
