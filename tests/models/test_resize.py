import numpy as np
import pytest

import keras_vit
from keras_vit.layers import resample_grid
from keras_vit.layers.position_bias import resample_bias_table
from tests.helpers import images, randomize, tiny_swin, tiny_vit, to_numpy


def test_equal_size_is_the_identity():
    model = tiny_vit(num_registers=2)
    randomize(model)
    resized = keras_vit.resize(model, (24, 16))
    assert resized is not model
    np.testing.assert_array_equal(to_numpy(resized(images())), to_numpy(model(images())))


@pytest.mark.parametrize("mode", ["timm", "hf", "flax"])
def test_only_the_grid_of_positions_changes(mode):
    model = tiny_vit(num_registers=2, position_resample=mode)
    randomize(model)
    resized = keras_vit.resize(model, (40, 56))
    assert resized.grid_size == (5, 7)
    for old, new in zip(model.weights, resized.weights, strict=True):
        assert old.path == new.path
        if old.path == "position_embedding/grid":
            expected = to_numpy(resample_grid(old, (5, 7), mode))
            np.testing.assert_allclose(to_numpy(new), expected, atol=1e-6)
        else:
            np.testing.assert_array_equal(to_numpy(new), to_numpy(old))
    assert to_numpy(resized(images((40, 56)))).shape == (3, 4)
    # It is another model: training one leaves the other alone.
    resized.get_layer("norm").gamma.assign(np.zeros(16))
    assert to_numpy(model.get_layer("norm").gamma).min() != 0


def test_to_any_size_and_back():
    model = tiny_vit()
    randomize(model)
    anysize = keras_vit.resize(model, None)
    assert anysize.get_config()["position_grid"] == (3, 2)
    np.testing.assert_allclose(to_numpy(anysize(images())), to_numpy(model(images())), atol=1e-6)
    back = keras_vit.resize(anysize, (24, 16))
    np.testing.assert_allclose(to_numpy(back(images())), to_numpy(model(images())), atol=1e-6)


def test_fixed_positions_and_none_need_no_resampling():
    for kind in ("sincos", None):
        model = tiny_vit(position_embedding=kind)
        assert to_numpy(keras_vit.resize(model, (32, 32))(images((32, 32)))).shape == (3, 4)


def test_frozen_layers_and_precision_stay():
    model = tiny_vit(dtype="mixed_bfloat16")
    model.get_layer("block00").trainable = False
    resized = keras_vit.resize(model, (32, 32))
    assert not resized.get_layer("block00").trainable
    assert resized.get_layer("block01").trainable
    assert resized.get_layer("block01").compute_dtype == "bfloat16"


def test_bad_input_is_explained():
    model = tiny_vit()
    with pytest.raises(
        ValueError, match="multiple of patch_size. Received: image_size=\\(25, 25\\)"
    ):
        keras_vit.resize(model, 25)
    model.get_layer("head").dense.enable_lora(2)
    with pytest.raises(ValueError, match="resize first, then call enable_lora"):
        keras_vit.resize(model, 32)
    with pytest.raises(ValueError, match="expects a model of keras_vit. Received: str"):
        keras_vit.resize("vit_base", 32)
    with pytest.raises(ValueError, match="VisionTransformer has no windows.*window_size=7"):
        keras_vit.resize(tiny_vit(), 32, window_size=7)


@pytest.mark.parametrize("convention", ["authors", "timm"])
def test_windows_and_their_bias_tables(convention):
    pixels = images((32, 32))
    model = tiny_swin(convention=convention)
    randomize(model)
    for same in (keras_vit.resize(model, 32), keras_vit.resize(model, None)):
        np.testing.assert_allclose(to_numpy(same(pixels)), to_numpy(model(pixels)), atol=1e-6)
    larger = keras_vit.resize(model, (56, 64), window_size=(6, 4))
    for old, new in zip(model.weights, larger.weights, strict=True):
        assert old.path == new.path
        if "stage0" in old.path and old.path.endswith("table"):
            expected = to_numpy(resample_bias_table(old, (11, 11), convention))
            np.testing.assert_allclose(to_numpy(new), expected, atol=1e-6)
        else:
            np.testing.assert_array_equal(to_numpy(new), to_numpy(old))
    assert larger.get_config()["window_size"] == (6, 4)
    small = keras_vit.resize(model, (16, 24))  # maps 4 x 6, then 2 x 3
    shapes = {
        w.path: w.shape
        for w in small.weights
        if w.path.endswith("block00/attention/position_bias/table")
    }
    assert list(shapes.values()) == [(7, 7, 2), (3, 3, 4) if convention == "authors" else (3, 5, 4)]
    assert not any("table" in w.path for w in keras_vit.resize(tiny_swin(version=2), 48).weights)
