"""Rollout by its mathematics: small cases by hand, uniform attention, the product of the maps."""

import numpy as np
import pytest

import keras_vit
from keras_vit.interpret.rollout import accumulate
from tests.helpers import images, once, randomize, tiny_cait, tiny_hybrid, tiny_vit, to_numpy


def deep_cait():
    """A CaiT whose branches have a say."""
    return tiny_cait(depth=2, class_depth=2, layer_scale=0.5)


def half(before, read):
    return (before + read) / 2


@once  # NumPy alone
def test_two_tokens_by_hand():
    first = np.array([[[0.8, 0.2], [0.6, 0.4]]], "float32")
    second = np.array([[[0.4, 0.6], [0.0, 1.0]]], "float32")
    found = accumulate([first, second], half)
    # (A + I) / 2: [[.9, .1], [.3, .7]], then [[.7, .3], [0, 1]]; the second times the first
    np.testing.assert_allclose(found[0], [[0.72, 0.28], [0.3, 0.7]], atol=1e-6)
    # R = I + A1, then R + A2 R
    found = accumulate([first, second], lambda before, read: before + read)
    one = np.eye(2) + first[0]
    np.testing.assert_allclose(found[0], one + second[0] @ one, atol=1e-6)


@once
def test_a_class_token_that_comes_late_reads_what_the_patches_have():
    patches = np.array([[[0.5, 0.5], [0.0, 1.0]]], "float32")
    token = np.array([[[0.2, 0.4, 0.4]]], "float32")
    (found,) = accumulate([patches, token], half)
    # patches: [[.75, .25], [0, 1]]; the token keeps half of itself and reads half
    expected = [[0.6, 0.2 * 0.75, 0.2 * 0.25 + 0.2], [0, 0.75, 0.25], [0, 0, 1]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"pooling": "gap", "num_registers": 1},
        {"pooling": "token_gap"},
        {"pooling": "map"},
        {"distillation_token": True, "image_size": None},
    ],
    ids=str,
)
def test_uniform_attention_reads_every_patch_alike(arguments):
    """Zero queries and keys: 1 / n each. Then rollout is known in closed form."""
    model = tiny_vit(**arguments)
    randomize(model)
    for block in (model.get_layer("block00"), model.get_layer("block01")):
        kernel = to_numpy(block.attention.qkv.kernel)
        kernel[:, :32] = 0
        block.attention.qkv.kernel.assign(kernel)
        block.attention.qkv.bias.assign(np.zeros(48))
    maps = keras_vit.attention_rollout(model, images())
    n = 6 + model.num_prefix_tokens
    reads = 0.75  # a token keeps 1/4 of itself after two blocks and reads the rest of all
    expected = np.full(6, reads / n)
    pooling = arguments.get("pooling", "token")
    if pooling == "gap":
        expected += (1 - reads) / 6
    if pooling == "token_gap":
        expected += (1 - reads) / 6 / 2
    if pooling == "map":  # of tokens that differ, it reads more of some
        assert np.ptp(maps[0]) > 1e-3
        np.testing.assert_allclose(maps.sum((1, 2)), 1, atol=1e-5)
    else:
        np.testing.assert_allclose(maps.reshape(3, 6), [expected] * 3, atol=1e-6)


@pytest.mark.parametrize("make", [tiny_vit, deep_cait, tiny_hybrid], ids=lambda make: make.__name__)
def test_rollout_is_the_product_of_the_maps(make):
    model = make()
    randomize(model)
    rollout = keras_vit.attention_rollout(model, images())
    assert rollout.shape == (3, 3, 2) and rollout.dtype == np.float32
    product = np.eye(7)
    for scores in keras_vit.attention_maps(model, images()).values():
        scores = scores.mean(1)[0].astype("float64")
        whole = np.eye(7)
        whole[7 - scores.shape[1] :, 7 - scores.shape[1] :] = scores  # the patches alone
        if scores.shape == (1, 7):
            whole = np.concatenate([scores, np.eye(7)[1:]])
        product = (whole + np.eye(7)) @ product
        product /= product.sum(-1, keepdims=True)
    np.testing.assert_allclose(rollout[0].reshape(-1), product[0, 1:], atol=1e-6)

    last = [name for name in keras_vit.attention_maps(model, images())][-1]
    one = keras_vit.attention_rollout(model, images(), layers=[last])
    scores = keras_vit.attention_maps(model, images(), [last])[last].mean(1)[:, 0, 1:] / 2
    np.testing.assert_allclose(one.reshape(3, 6), scores, atol=1e-6)
