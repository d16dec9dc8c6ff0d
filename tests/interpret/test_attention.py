"""Scores are those with which the blocks work, and lie on the image where they belong."""

import keras
import numpy as np
import pytest

import keras_vit
from tests.helpers import (
    images,
    once,
    randomize,
    tiny_cait,
    tiny_hybrid,
    tiny_swin,
    tiny_vit,
    to_numpy,
)


@pytest.mark.parametrize("arguments", [{}, {"image_size": None}, {"num_registers": 2}], ids=str)
def test_attention_maps(arguments):
    model = tiny_vit(**arguments)
    randomize(model)
    pixels = images()
    before = to_numpy(model(pixels))
    maps = keras_vit.attention_maps(model, pixels)
    tokens = 6 + model.num_prefix_tokens
    assert list(maps) == ["block00", "block01"]
    for scores in maps.values():
        assert scores.shape == (3, 2, tokens, tokens) and scores.dtype == np.float32
        np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(to_numpy(model(pixels)), before)

    # They are the scores with which the block really works.
    block = model.get_layer("block01")
    x = to_numpy(model.features(pixels, ["block00"])["block00"])
    _, scores = block.attention(block.norm1(x), return_attention_scores=True)
    np.testing.assert_allclose(maps["block01"], to_numpy(scores), atol=1e-6)
    only = keras_vit.attention_maps(model, pixels, layers=["block01"], heads=[1])
    np.testing.assert_array_equal(only.pop("block01"), maps["block01"][:, 1:])
    assert not only

    # On the grid, row by row, without the tokens in front.
    grid = keras_vit.attention_maps(model, pixels, grid=True)["block01"]
    assert grid.shape == (3, 2, tokens, 3, 2)
    np.testing.assert_array_equal(grid[..., 2, 1], maps["block01"][..., -1])
    np.testing.assert_array_equal(grid[..., 1, 0], maps["block01"][..., -4])


@pytest.mark.parametrize(
    ("size", "convention"), [((32, 32), "authors"), ((40, 28), "authors"), ((40, 28), "timm")]
)
def test_windows_lie_where_they_were_cut_out(size, convention):
    """Mixing values by the map is what the block's attention does, shift and padding undone."""
    model = tiny_swin(image_size=None, convention=convention)
    randomize(model)
    names = ["stage0_block00", "stage0_block01"]  # the second one shifts
    for name in names:  # no biases behind the scores: what padding is given then adds nothing
        attention = model.get_layer(name).attention
        qkv = to_numpy(attention.qkv.bias)
        attention.qkv.bias.assign(np.concatenate([qkv[:16], np.zeros(8)]))
        attention.proj.bias.assign(np.zeros(8))
    pixels = images(size, batch=2)
    maps = keras_vit.attention_maps(model, pixels, names, grid=True)
    features = model.features(pixels, ["patch_norm", *names], grid=True)
    for before, name in zip(features, names, strict=False):
        block, scores = model.get_layer(name), maps[name]
        x = to_numpy(block.norm1(features[before]))
        _, h, w, width = x.shape
        assert scores.shape == (2, 2, h * w, h, w)
        if (h % 4, w % 4) == (0, 0):
            np.testing.assert_allclose(scores.sum((-2, -1)), 1, atol=1e-5)
        else:
            assert scores.sum((-2, -1)).min() < 0.99  # the padding has its share
        values = x @ to_numpy(block.attention.qkv.kernel)[:, 2 * width :]  # (B, h, w, D)
        values = values.reshape(2, h * w, 2, width // 2)
        mixed = np.einsum("bhqk,bkhd->bqhd", scores.reshape(2, 2, h * w, h * w), values)
        mixed = mixed.reshape(2, h, w, width) @ to_numpy(block.attention.proj.kernel)
        np.testing.assert_allclose(to_numpy(block._attend(x, False)), mixed, atol=1e-5)


def test_windows_have_nothing_outside_of_them():
    model = tiny_swin()
    pixels = images((32, 32), batch=1)
    maps = keras_vit.attention_maps(model, pixels, ["stage0_block00", "stage0_block01"], grid=True)
    first = maps["stage0_block00"].reshape(1, 2, 8, 8, 8, 8)
    assert (first[:, :, 0, 0, :4, :4] > 0).all() and (first[:, :, 0, 0, 4:] == 0).all()
    shifted = maps["stage0_block01"].reshape(1, 2, 8, 8, 8, 8)
    assert (shifted[:, :, 3, 3, 2:6, 2:6] > 0).all()  # its window lies two further
    assert (shifted[:, :, 3, 3, :2] == 0).all() and (shifted[:, :, 3, 3, :, 6:] == 0).all()


@once  # shapes
def test_smaller_maps_of_keys_and_the_class_token():
    pvt = keras_vit.PyramidVisionTransformer(
        image_size=(48, 32),
        depths=(1, 1),
        widths=(8, 16),
        num_heads=(1, 2),
        mlp_ratios=(2, 2),
        reductions=(2, 1),
        patch_sizes=(4, 2),
        num_classes=4,
    )
    maps = keras_vit.attention_maps(pvt, images((48, 32)), grid=True)
    assert maps["stage0_block00"].shape == (3, 1, 12 * 8, 6, 4)  # the keys' map
    assert maps["stage1_block00"].shape == (3, 2, 1 + 6 * 4, 6, 4)

    maps = keras_vit.attention_maps(tiny_cait(), images(), grid=True)
    assert maps["block00"].shape == (3, 2, 6, 3, 2)
    assert maps["class_block00"].shape == (3, 2, 1, 3, 2)

    maps = keras_vit.attention_maps(tiny_hybrid(), images(), grid=True)
    assert maps["block00"].shape == (3, 2, 7, 3, 2)

    pooled = tiny_vit(pooling="map", distillation_token=True, distillation_head=False)
    maps = keras_vit.attention_maps(pooled, images(), ["pool", "block00"], grid=True)
    assert list(maps) == ["block00", "pool"] and maps["pool"].shape == (3, 2, 1, 3, 2)


def test_bad_input_is_explained():
    maps, model, pixels = keras_vit.attention_maps, tiny_vit(), images()
    for arguments, message in [
        ({"layers": ["block07"]}, "block00, block01. Received: \\['block07'\\]"),
        ({"layers": []}, "block00, block01. Received: \\[\\]"),
        (
            {"layers": "block01"},
            "list of names, such as \\['block01'\\]. Received: layers='block01'",
        ),
        ({"heads": [0, 2]}, "from 0 to 1: block00 has 2 heads. Received: heads=\\[0, 2\\]"),
        ({"heads": 1}, "list of indices from 0 to 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            maps(model, pixels, **arguments)
    with pytest.raises(ValueError, match="images\\[None\\].*Received: \\(24, 16, 3\\)"):
        maps(model, pixels[0])
    with pytest.raises(ValueError, match="was built for images of shape"):
        maps(model, images((32, 16)))
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="no transformer blocks"):
        maps(plain, np.zeros((1, 4)))
    functional = keras.Model(model.input, model.output)
    assert set(maps(functional, pixels)) == {"block00", "block01"}
    with pytest.raises(ValueError, match="families only.*Received: .*a Functional"):
        maps(functional, pixels, grid=True)
