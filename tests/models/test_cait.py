"""CaiT: tokens, attention, rates and quantisation of its two kinds of blocks; errors explain."""

import keras
import numpy as np
import pytest

import keras_vit
from tests.helpers import images, once, randomize, tiny_cait


def test_features_know_where_the_class_token_is():
    model = tiny_cait()
    names = ["patch_embedding", "block00", "class_block00", "norm"]
    tokens = model.feature_model(names).output
    assert [tokens[name].shape[1] for name in names] == [6, 6, 7, 7]
    assert list(model.feature_model().output) == ["block00", "class_block00"]
    grids = model.feature_model(names, grid=True).output
    whole = keras.Model(model.input, [tokens["class_block00"], grids["class_block00"]])
    sequence, grid = whole.predict(images(), verbose=0)
    np.testing.assert_array_equal(grid, sequence[:, 1:].reshape(3, 3, 2, 16))
    assert {tuple(x.shape[1:3]) for x in grids.values()} == {(3, 2)}


def test_attention_of_patches_and_of_the_class_token():
    model = tiny_cait()
    randomize(model)
    maps = keras_vit.attention_maps(model, images())
    shapes = {name: scores.shape for name, scores in maps.items()}
    assert shapes == {"block00": (3, 2, 6, 6), "class_block00": (3, 2, 1, 7)}
    for scores in maps.values():
        np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-5)


@once
def test_rates_are_those_of_the_patches_blocks_alone():
    rates = {"drop_path_rate": 0.4, "dropout_rate": 0.3, "attention_dropout_rate": 0.1}
    model = tiny_cait(**rates, depth=2, remat=True)
    blocks = [model.get_layer(name) for name in ("block00", "block01", "class_block00")]
    assert (
        [x.drop_path1.rate for x in blocks]
        == [x.drop_path2.rate for x in blocks]
        == [0.4] * 2 + [0]
    )
    assert [x.mlp.dropout1.rate for x in blocks] == [0.3, 0.3, 0]
    assert [x.attention.dropout.rate for x in blocks] == [0.3, 0.3, 0]
    assert [x.attention.attention_dropout.rate for x in blocks] == [0.1, 0.1, 0]
    assert model.get_layer("dropout").rate == 0.3 and all(x.remat for x in blocks)


@once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 20}, "multiple of patch_size. Received: image_size=\\(20, 20\\)"),
        ({"class_depth": 0}, "class_depth must be an integer >= 1. Received: class_depth=0"),
        ({"num_heads": 3}, "multiple of num_heads. Received: width=16, num_heads=3"),
        ({"position_resample": "area"}, "'timm', 'hf', 'flax'.*'area'"),
        ({"layer_scale": None}, "layer_scale must be a number.*Received: layer_scale=None"),
        ({"drop_path_rate": 1}, "drop_path_rate"),
        ({"class_names": ["cat"]}, "one name for each class. Received: 1 names"),
    ],
)
def test_bad_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_cait(**arguments)


@once  # which layers Keras quantises is no backend's choice
def test_int8_leaves_the_projections_between_heads_as_they_are():
    """Their kernels are taken as numbers, which in int8 would be whole ones without a scale."""
    model = tiny_cait()
    randomize(model)
    pixels = images(batch=8)
    expected = model.predict(pixels, verbose=0)
    model.quantize("int8")
    difference = model.predict(pixels, verbose=0) - expected
    assert np.sqrt((difference**2).mean()) < 0.25 * expected.std(0).mean()
    attention = model.get_layer("block00").attention
    assert attention.qkv.quantization_mode == "int8"
    assert attention.logits_projection.quantization_mode is None
