"""MLP, DropPath, tokens, pooling and the block that is made of them."""

import numpy as np
import pytest
from scipy.special import erf

from keras_vit.layers import MLP, ClassToken, DropPath, TokenPooling, TransformerBlock
from tests.helpers import randomize, to_numpy


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "quick_gelu", "swiglu"])
def test_mlp_equals_the_formula(activation, rng):
    tokens = rng.normal(size=(2, 3, 8))
    layer = MLP(12, activation)
    layer(tokens)
    randomize(layer, scale=0.5)
    w1, b1, w2, b2 = (to_numpy(weight).astype("float64") for weight in layer.weights)
    x = tokens @ w1 + b1
    x = {
        "gelu": lambda: 0.5 * x * (1 + erf(x / 2**0.5)),
        "gelu_tanh": lambda: 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
        "quick_gelu": lambda: x / (1 + np.exp(-1.702 * x)),
        "swiglu": lambda: x[..., :12] / (1 + np.exp(-x[..., :12])) * x[..., 12:],
    }[activation]()
    np.testing.assert_allclose(to_numpy(layer(tokens)), x @ w2 + b2, atol=1e-5)


def test_drop_path_drops_whole_samples_and_keeps_the_expectation():
    x = np.ones((4000, 3, 2), "float32")
    layer = DropPath(0.25, seed=3)
    np.testing.assert_array_equal(to_numpy(layer(x)), x)
    np.testing.assert_array_equal(to_numpy(layer(x, training=False)), x)
    y = to_numpy(layer(x, training=True)).reshape(4000, 6)
    assert (y == y[:, :1]).all()
    assert set(np.unique(y.round(5))) == {0.0, np.float32(4 / 3).round(5)}
    assert abs(y[:, 0].mean() - 1) < 5 * (1 / 3 / 4000) ** 0.5  # five standard errors
    assert (to_numpy(layer(x, training=True)).reshape(4000, 6) != y).any()
    assert layer.variables and not DropPath(0.0).variables


def test_class_tokens_come_first_and_differ(rng):
    tokens = rng.normal(size=(2, 4, 8)).astype("float32")
    layer = ClassToken(3)
    outputs = to_numpy(layer(tokens))
    np.testing.assert_array_equal(outputs[:, 3:], tokens)
    np.testing.assert_array_equal(outputs[0, :3], outputs[1, :3])
    assert np.abs(outputs[0, 0] - outputs[0, 1]).max() > 1e-3


def test_gap_leaves_prefix_tokens_out(rng):
    tokens = rng.normal(size=(2, 7, 8)).astype("float32")
    pooled = to_numpy(TokenPooling("gap", num_prefix_tokens=3)(tokens))
    np.testing.assert_allclose(pooled, tokens[:, 3:].mean(axis=1), atol=1e-6)
    pooled = to_numpy(TokenPooling("token", num_prefix_tokens=3)(tokens))
    np.testing.assert_array_equal(pooled, tokens[:, 0])


def test_block_is_pre_norm_with_two_residuals(rng):
    tokens = rng.normal(size=(2, 5, 8)).astype("float32")
    block = TransformerBlock(2, 16, layer_scale=0.3)
    block(tokens)
    randomize(block)
    x = tokens + to_numpy(block.layer_scale1(block.attention(block.norm1(tokens))))
    x = x + to_numpy(block.layer_scale2(block.mlp(block.norm2(x))))
    np.testing.assert_allclose(to_numpy(block(tokens)), x, atol=1e-5)


def test_every_rate_of_a_block_acts_in_training(rng):
    tokens = rng.normal(size=(8, 5, 8)).astype("float32")
    for rate in ("dropout_rate", "attention_dropout_rate", "drop_path_rate"):
        block = TransformerBlock(2, 16, **{rate: 0.5})
        block(tokens)
        randomize(block)
        inference = to_numpy(block(tokens))
        np.testing.assert_array_equal(to_numpy(block(tokens, training=False)), inference)
        assert np.abs(to_numpy(block(tokens, training=True)) - inference).max() > 1e-2, rate
