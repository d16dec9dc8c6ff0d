"""The hybrids: any CNN serves, rates and conventions reach every layer, errors explain."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_vit
from keras_vit import optimizers
from tests.helpers import backends, images, once, randomize, run, tiny_hybrid


def cnn(size=(24, 16), strides=4, norm="batch_norm"):
    """A Keras CNN with layers of its own kinds."""
    pixels = keras.Input((*size, 3))
    conv = {"padding": "same", "data_format": "channels_last", "name": "first"}
    x = layers.Conv2D(6, 3, strides=strides, **conv)(pixels)
    x = layers.ReLU()(layers.BatchNormalization(axis=-1, name=norm)(x))
    return keras.Model(pixels, x, name="cnn")


def test_features_and_pyramid():
    model = tiny_hybrid()
    randomize(model)
    pixels = images()
    names = ["stage0_block00", "stage1_block00", "block00"]
    whole = keras.Model(
        model.input, {**model.pyramid_model().output, **model.feature_model(names).output}
    )
    found = whole.predict(pixels, verbose=0)
    shapes = {stage: found[stage].shape for stage in ("stage0", "stage1", "tokens")}
    assert shapes == {"stage0": (3, 6, 4, 32), "stage1": (3, 3, 2, 64), "tokens": (3, 3, 2, 16)}
    np.testing.assert_array_equal(found["stage1"], found["stage1_block00"])
    # without the class token, row by row
    np.testing.assert_array_equal(found["tokens"], found["block00"][:, 1:].reshape(3, 3, 2, 16))
    assert list(model.feature_model().output) == ["block00"]
    assert model.grid_size == (3, 2) and model.patch_size == (8, 8)


@backends("torch", "tensorflow")  # JAX compiles it operation by operation
def test_attention_maps():
    model = tiny_hybrid()
    randomize(model)
    maps = keras_vit.attention_maps(model, images())["block00"]
    assert maps.shape == (3, 2, 7, 7)
    np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-5)


def test_a_cnn_as_the_stem():
    stem = cnn((None, None))
    model = tiny_hybrid(stem=stem, image_size=None, patch_size=2)
    assert model.patch_size == (8, 8)
    randomize(model)
    pixels = images((16, 40))
    inner = keras.Model(model.input, model.get_layer("patch_embedding").input)
    np.testing.assert_allclose(run(inner, pixels), run(stem, pixels), atol=1e-5)
    resized = keras_vit.resize(model, (16, 40))
    assert resized.grid_size == (2, 5)
    np.testing.assert_allclose(run(resized, pixels), run(model, pixels), atol=1e-4)
    with pytest.raises(ValueError, match="A pyramid needs a family with stages"):
        model.pyramid(pixels)
    # the CNN learns least of all, whatever its layers are named
    shares = optimizers.layer_shares(model, 0.5)
    rates = {v.path: share for v, share in zip(model.trainable_variables, shares, strict=True)}
    assert rates["first/kernel"] == 0.25 and rates["head/dense/bias"] == 1


@once
def test_rates_reach_the_blocks_and_remat_the_resnet_s():
    rates = {"drop_path_rate": 0.8, "dropout_rate": 0.3, "attention_dropout_rate": 0.1}
    model = tiny_hybrid(**rates, depth=2, remat=True)
    blocks = [model.get_layer(name) for name in ("block00", "block01")]
    np.testing.assert_allclose([x.drop_path1.rate for x in blocks], [0, 0.8])
    assert {x.attention.dropout.rate for x in blocks} == {model.get_layer("dropout").rate} == {0.3}
    assert {x.attention.attention_dropout.rate for x in blocks} == {0.1}
    assert all(x.remat for x in model.layers if "block" in x.name)


@once
@pytest.mark.parametrize(("convention", "epsilon"), [("authors", 1e-6), ("timm", 1e-5)])
def test_the_convention_reaches_every_layer(convention, epsilon):
    model = tiny_hybrid(convention=convention, norm_epsilon=0.1)
    kinds = (layers.GroupNormalization, keras_vit.layers.StandardizedConv2D)
    found = [x for x in model._flatten_layers() if isinstance(x, kinds)]
    assert {getattr(x, "epsilon", epsilon) for x in found} == {epsilon}
    assert {getattr(x, "convention", convention) for x in found} == {convention}
    assert len(found) == 2 + 2 * 8


@once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 20}, "stride of the CNN. Received: image_size=\\(20, 20\\).*\\(8, 8\\)"),
        ({"patch_size": 2}, "Received: image_size=\\(24, 16\\), patch_size=\\(2, 2\\)"),
        ({"stem_depths": (1, 0)}, "stem_depths must be an integer >= 1. Received: stem_depths=0"),
        ({"stem_groups": 3}, "multiple of stem_groups. Received: stem_width=8, stem_groups=3"),
        ({"convention": "bit"}, "convention must be one of 'authors', 'timm'. Received.*'bit'"),
        ({"position_resample": "area"}, "'timm', 'hf', 'flax'.*'area'"),
        ({"num_heads": 3}, "multiple of num_heads. Received: width=16, num_heads=3"),
        ({"drop_path_rate": 1}, "drop_path_rate"),
        ({"class_names": ["cat"]}, "one name for each class. Received: 1 names"),
        ({"stem": layers.Dense(3)}, "stem must be a keras.Model from images.*Received: <Dense"),
        ({"stem": "resnet"}, "stem must be a keras.Model from images.*Received: 'resnet'"),
        (
            {"stem": cnn((32, 32))},
            "image_size and num_channels that fit \\(32, 32, 3\\).*\\(24, 16, 3\\)",
        ),
        (
            {"stem": cnn(strides=5)},
            "image_size must be a multiple.*Received: a map of size \\(5, 4\\)",
        ),
        ({"stem": cnn(norm="norm")}, "other names than those of this model"),
    ],
)
def test_bad_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_hybrid(**arguments)
