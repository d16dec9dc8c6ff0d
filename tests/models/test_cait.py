"""The contract of CaiT: every argument acts, it saves, trains and explains bad input."""

import inspect
import json

import keras
import numpy as np
import pytest

import keras_vit
from tests.helpers import compile_model, images, randomize, tiny_cait, to_numpy


def test_contract(tmp_path):
    arguments = {
        "image_size": None,
        "position_grid": (5, 4),
        "layer_scale": 0.5,
        "qkv_bias": False,
        "class_names": ["cat", "dog", "car", "tree"],
    }
    model = tiny_cait(**arguments, frozen_layers=["position_embedding"])
    randomize(model)
    pixels = images()

    # the configuration is exactly the constructor's arguments
    config = model.get_config()
    assert keras_vit.CaiT(**config).get_config() == config
    for key, value in arguments.items():
        assert config[key] == value

    # it trains, saves and loads, optimizer included; what is frozen stays
    compile_model(model)
    before = {weight.path: to_numpy(weight) for weight in model.weights}
    model.fit(pixels, np.ones((3, 4)), verbose=0)
    after = {weight.path: to_numpy(weight) for weight in model.weights}
    same = {path for path, x in after.items() if np.abs(x - before[path]).max() == 0}
    # what is added to every key alike cancels in the softmax
    assert same - {"block00/attention/logits_projection/bias"} == {"position_embedding/grid"}
    assert all(np.isfinite(x).all() for x in after.values())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is keras_vit.CaiT
    assert json.dumps(loaded.get_config()) == json.dumps(config)  # which has no tuples
    assert not loaded.get_layer("position_embedding").trainable
    again = keras_vit.from_pretrained(tmp_path / "model.keras")
    for found in (loaded, again):
        for weight in found.weights:
            np.testing.assert_array_equal(to_numpy(weight), after[weight.path])


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


def test_a_dtype_policy_reaches_every_layer():
    model = tiny_cait(dtype="mixed_bfloat16")
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if layer.weights and "head" not in layer.path:
            assert layer.compute_dtype == "bfloat16", layer.path
    assert all(weight.dtype == "float32" for weight in model.weights)


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


def test_names_of_the_variants():
    variants = (keras_vit.CaiTSmall24, keras_vit.CaiTXXSmall36, keras_vit.CaiTMedium48)
    names = [inspect.signature(variant).parameters["name"].default for variant in variants]
    assert names == ["cait_small24", "cait_xxsmall36", "cait_medium48"]
