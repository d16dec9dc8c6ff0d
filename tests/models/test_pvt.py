"""The two pyramids: epsilons, rates, features and attention are where they belong."""

import numpy as np
import pytest

import keras_vit
from tests.helpers import images, once, randomize, tiny_pvt, tiny_vit, to_numpy


@once
@pytest.mark.parametrize("version", [1, 2])
def test_the_two_epsilons_are_where_the_authors_have_them(version):
    model = tiny_pvt(version, norm_epsilon=0.1, conv_norm_epsilon=0.2)
    found = {x.name: x.epsilon for x in model.layers if hasattr(x, "epsilon")}
    for name in ("stage0_block00", "stage1_block01"):
        block = model.get_layer(name)
        found[f"{name}/norm1"], found[f"{name}/norm2"] = block.norm1.epsilon, block.norm2.epsilon
    found["reduction"] = model.get_layer("stage0_block00").attention.norm.epsilon
    after_convolutions = {name for name, epsilon in found.items() if epsilon == 0.2}
    assert after_convolutions == {"stage0_embedding_norm", "stage1_embedding_norm", "reduction"}
    assert set(found.values()) == {0.1, 0.2}


@once
@pytest.mark.parametrize("version", [1, 2])
def test_rates_reach_the_blocks(version):
    model = tiny_pvt(version, drop_path_rate=0.8, dropout_rate=0.3, attention_dropout_rate=0.1)
    names = ("stage0_block00", "stage1_block00", "stage1_block01")
    blocks = [model.get_layer(name) for name in names]
    np.testing.assert_allclose([x.drop_path1.rate for x in blocks], [0, 0.4, 0.8])
    np.testing.assert_allclose([x.drop_path2.rate for x in blocks], [0, 0.4, 0.8])
    assert {x.mlp.dropout1.rate for x in blocks} == {x.attention.dropout.rate for x in blocks}
    assert {x.attention.dropout.rate for x in blocks} == {0.3}
    assert {x.attention.attention_dropout.rate for x in blocks} == {0.1}


@pytest.mark.parametrize("version", [1, 2])
def test_features_pyramid_and_attention(version):
    model = tiny_pvt(version)
    randomize(model)
    pixels = images()
    pyramid = model.pyramid(pixels)
    shapes = {stage: tuple(x.shape) for stage, x in pyramid.items()}
    assert shapes == {"stage0": (3, 6, 4, 8), "stage1": (3, 3, 2, 16)}
    assert model.grid_size == (3, 2)

    blocks = ["stage0_block00", "stage1_block00", "stage1_block01"]
    assert list(model.features(pixels)) == blocks
    names = ["stage0_patch_embedding", "stage1_patch_embedding", *blocks]
    for name, grid in model.features(pixels, names, grid=True).items():
        assert tuple(grid.shape[1:3]) == ((6, 4) if "stage0" in name else (3, 2))
    if version == 1:  # without the class token, row by row
        tokens = to_numpy(model.features(pixels, ["stage1_block01"])["stage1_block01"])
        expected = tokens[:, 1:].reshape(3, 3, 2, 16)
        np.testing.assert_array_equal(to_numpy(pyramid["stage1"]), expected)

    maps = keras_vit.attention_maps(model, pixels)
    n = 6 + (version == 1)
    assert [maps[name].shape for name in blocks] == [(3, 1, 24, 6), (3, 2, n, n), (3, 2, n, n)]
    for scores in maps.values():
        np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-5)


def test_a_model_without_stages_has_no_pyramid():
    with pytest.raises(ValueError, match="A pyramid needs a family with stages.*Received: vit"):
        tiny_vit(name="vit").pyramid(images())


def test_too_small_for_the_second_is_said_before_anything_runs():
    model = tiny_pvt(2, image_size=None)
    assert tiny_pvt(2, image_size=(17, 5)).grid_size == (3, 1)  # maps are rounded up
    for call in (
        model,
        model.predict,
        model.pyramid,
        lambda x: tiny_pvt(2, image_size=x.shape[1:3]),
    ):
        with pytest.raises(ValueError, match="at least 5 x 5 pixels.*Received.*\\(4, 30\\)"):
            call(images((4, 30)))


@once
@pytest.mark.parametrize(
    ("version", "arguments", "message"),
    [
        (1, {"image_size": 20}, "product of patch_sizes. Received: image_size=\\(20, 20\\)"),
        (1, {"reductions": (2, 2)}, "reductions must end in 1.*Received: .*\\(2, 2\\)"),
        (1, {"widths": (8, 8, 8)}, "widths must hold one number for each stage. Received"),
        (1, {"depths": (1, 0)}, "depths must be an integer >= 1. Received: depths=0"),
        (1, {"mlp_ratios": (2, -1.5)}, "mlp_ratios must be .*Received.*-1.5"),
        (1, {"position_grid": 3}, "position_grid must be a multiple of.*Received.*3"),
        (1, {"position_resample": "area"}, "'bilinear'.*'area'"),
        (1, {"num_heads": (3, 2)}, "multiple of num_heads. Received: width=8, num_heads=3"),
        (1, {"drop_path_rate": 1}, "drop_path_rate"),
        (2, {"pool_size": 7}, "all reductions must be 1. Received: reductions=\\(2, 1\\)"),
        (2, {"patch_sizes": (4, 3)}, "patch_size must be odd.*Received: patch_size=4"),
        (2, {"class_names": ["cat"]}, "one name for each class. Received: 1 names"),
        (2, {"num_channels": 0}, "num_channels must be an integer >= 1"),
    ],
)
def test_bad_arguments_are_explained(version, arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_pvt(version, **arguments)
