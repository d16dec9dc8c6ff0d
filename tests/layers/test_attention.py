import keras
import numpy as np
import pytest
from keras import ops

from keras_vit.hardware import jax_platform
from keras_vit.layers import Attention, AttentionPooling, TransformerBlock
from keras_vit.ops.attention import fused_attention
from tests.helpers import compile_model, once, randomize, to_numpy


@pytest.fixture
def tokens(rng):
    return rng.normal(size=(2, 9, 16)).astype("float32")


def reference(layer, tokens):
    """Attention as the paper writes it, in NumPy and float64: outputs and scores."""
    b, n, d = tokens.shape
    h = layer.num_heads
    weights = {x.path.split("/", 1)[-1]: to_numpy(x).astype("float64") for x in layer.weights}
    weights = {"/".join(key.split("/")[-2:]): value for key, value in weights.items()}
    qkv = tokens @ weights["qkv/kernel"] + weights.get("qkv/bias", 0)
    q, k, v = np.moveaxis(qkv.reshape(b, n, 3, h, d // h), (2, 3), (0, 2))
    if layer.qk_norm:
        for name, x in (("query_norm", q), ("key_norm", k)):
            x -= x.mean(-1, keepdims=True)
            x /= np.sqrt(x.var(-1, keepdims=True) + 1e-6)
            x *= weights[f"{name}/gamma"]
            x += weights[f"{name}/beta"]
    logits = q @ np.swapaxes(k, -1, -2) / np.sqrt(d // h)
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    out = np.swapaxes(scores @ v, 1, 2).reshape(b, n, d)
    return out @ weights["proj/kernel"] + weights.get("proj/bias", 0), scores


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_equals_the_formula_fused_or_not(tokens, qk_norm, bias):
    layer = Attention(4, qkv_bias=bias, proj_bias=bias, qk_norm=qk_norm)
    layer(tokens)
    randomize(layer)
    expected, expected_scores = reference(layer, tokens.astype("float64"))
    outputs, scores = layer(tokens, return_attention_scores=True)
    np.testing.assert_allclose(to_numpy(layer(tokens)), expected, atol=1e-5)
    np.testing.assert_allclose(to_numpy(outputs), expected, atol=1e-5)
    np.testing.assert_allclose(to_numpy(scores), expected_scores, atol=1e-6)
    np.testing.assert_allclose(to_numpy(scores).sum(-1), 1, atol=1e-6)


def test_attention_dropout_acts_in_training_only(tokens):
    layer = Attention(4, attention_dropout_rate=0.5)
    plain = Attention(4)
    layer(tokens), plain(tokens)
    randomize(layer)
    for ours, theirs in zip(layer.trainable_weights, plain.trainable_weights, strict=True):
        theirs.assign(to_numpy(ours))
    expected = to_numpy(plain(tokens))
    np.testing.assert_allclose(to_numpy(layer(tokens, training=False)), expected, atol=1e-6)
    drawn = np.stack([to_numpy(layer(tokens, training=True)) for _ in range(300)])
    assert np.abs(drawn[0] - drawn[1]).max() > 0.01
    # Dropout keeps the expectation.
    np.testing.assert_allclose(drawn.mean(0), expected, atol=6 * drawn.std(0).max() / 300**0.5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_softmax_stays_accurate_in_16_bits(policy, rng):
    """Over many keys a softmax in 16 bits loses the sum; ours is taken in float32."""
    tokens = rng.normal(size=(1, 3000, 8)).astype("float32")
    layer = Attention(1, dtype=policy)
    _, scores = layer(tokens, return_attention_scores=True)
    assert keras.backend.standardize_dtype(scores.dtype) == "float32"
    np.testing.assert_allclose(to_numpy(scores).sum(-1), 1, atol=1e-5)


def test_large_logits_do_not_overflow_float16():
    tokens = np.full((1, 4, 64), 60.0, "float32")
    layer = Attention(1, qkv_bias=False, dtype="mixed_float16")
    layer(tokens)
    layer.qkv.kernel.assign(np.concatenate([np.eye(64)] * 3, axis=1))
    for scores in (False, True):
        outputs = layer(tokens, return_attention_scores=scores)
        assert np.isfinite(to_numpy(outputs[0] if scores else outputs)).all()


def test_pooling_scores_rows_sum_to_one(tokens):
    layer = AttentionPooling(4, 32)
    pooled, scores = layer(tokens, return_attention_scores=True)
    assert scores.shape == (2, 4, 1, 9)
    np.testing.assert_allclose(to_numpy(scores).sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(to_numpy(pooled), to_numpy(layer(tokens)), atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="PyTorch sees where a tensor is")
def test_on_the_cpu_of_a_machine_with_a_gpu(monkeypatch):
    """cuDNN's kernel, which Keras would choose by the machine, cannot be called there."""
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    assert jax_platform() == "gpu"
    with keras.device("cpu"):
        assert jax_platform() == "cpu"
        monkeypatch.setattr(keras.ops, "dot_product_attention", None)
        q = ops.ones((1, 5, 2, 4))
        np.testing.assert_allclose(to_numpy(fused_attention(q, q, q)), 1, atol=1e-6)


def padded_to(length, n, batch=2):
    """A mask of keys, (B, 1, 1, N), of which the first image has `length`."""
    return (np.arange(n) < np.array([length] + [n] * (batch - 1))[:, None])[:, None, None]


@pytest.mark.parametrize("remat", [False, True])
def test_what_is_masked_changes_nothing(tokens, remat):
    """In a model, trained and saved as any other, with and without checkpoints."""
    inputs, mask = keras.Input((9, 16)), keras.Input((1, 1, 9), dtype="bool")
    block = TransformerBlock(4, 24, remat=remat)
    model = keras.Model([inputs, mask], block(inputs, attention_mask=mask))
    randomize(block)
    valid = padded_to(6, 9)
    other = tokens.copy()
    other[0, 6:] += 3
    first, second = (to_numpy(model([x, valid])) for x in (tokens, other))
    np.testing.assert_allclose(first[0, :6], second[0, :6], atol=1e-5)
    np.testing.assert_allclose(first[0, :6], to_numpy(block(tokens[:1, :6]))[0], atol=1e-5)
    assert np.abs(first[0, :6] - to_numpy(block(tokens))[0, :6]).max() > 0.01

    compile_model(model, keras.optimizers.SGD(0.1))
    model.fit([tokens, valid], tokens, verbose=0)
    assert all(np.isfinite(to_numpy(weight)).all() for weight in model.weights)


def test_causal_attention_does_not_look_ahead(tokens):
    block = TransformerBlock(4, 24)
    inputs = keras.Input((9, 16))
    model = keras.Model(inputs, block(inputs, causal=True))
    randomize(block)
    other = tokens.copy()
    other[:, 5:] += 3
    first, second = to_numpy(model(tokens)), to_numpy(model(other))
    np.testing.assert_allclose(first[:, :5], second[:, :5], atol=1e-5)
    assert np.abs(first[:, 5:] - second[:, 5:]).max() > 0.1
    loaded = keras.Model.from_config(model.get_config())  # the call is part of it
    for ours, theirs in zip(model.weights, loaded.weights, strict=True):
        theirs.assign(to_numpy(ours))
    np.testing.assert_allclose(to_numpy(loaded(tokens)), first, atol=1e-6)
    _, scores = block.attention(tokens, causal=True, return_attention_scores=True)
    np.testing.assert_array_equal(np.triu(to_numpy(scores), 1), 0)


@once
def test_heads_that_talk_take_no_mask(tokens):
    with pytest.raises(ValueError, match="not supported with talking_heads"):
        TransformerBlock(4, 24, talking_heads=True)(tokens, causal=True)
