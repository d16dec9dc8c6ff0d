import keras
import numpy as np
import pytest
from keras import ops

from keras_vit.ops import attention
from keras_vit.ops.attention import attend
from tests.helpers import backends, once_but, to_numpy, weighted_sum

B, N, M, H, K = 2, 5, 7, 3, 4


def reference(q, k, v, mask=None, causal=False, bias=None, scale=None):
    """Attention pair by pair, in NumPy and float64: outputs and scores."""
    scores = np.zeros((B, H, N, M))
    for b, h, i in np.ndindex(B, H, N):
        logits = k[b, :, h] @ q[b, i, h] * (K**-0.5 if scale is None else scale)
        logits = logits + (0 if bias is None else bias[b % len(bias), h, i])
        may = np.ones(M, bool) if mask is None else np.broadcast_to(mask, (B, H, N, M))[b, h, i]
        may = may & (np.arange(M) <= i) if causal else may
        if may.any():
            exp = np.exp(logits[may] - logits[may].max())
            scores[b, h, i, may] = exp / exp.sum()
    return np.einsum("bhnm,bmhk->bnhk", scores, v), scores


def masks(rng):
    padding = np.arange(M) < np.array([[4], [7]])  # (B, M)
    empty = rng.random((B, 1, N, M)) < 0.5
    empty[1, 0, 3] = False  # a query that may attend to nothing
    return {
        "none": {},
        "padding": {"mask": padding[:, None, None]},
        "of one image": {"mask": rng.random((N, M)) < 0.7},
        "an empty row": {"mask": empty},
        "nothing at all": {"mask": np.zeros((B, 1, 1, M), bool)},
        "causal": {"causal": True},
        "causal and padding": {"causal": True, "mask": padding[:, None, None]},
        "causal from the second key on": {"causal": True, "mask": (np.arange(M) > 0)[None]},
        "bias": {"bias": rng.normal(size=(1, H, N, M)), "scale": 2.0},
        "bias of each and mask": {"bias": rng.normal(size=(B, H, N, M)), "mask": empty},
        "bias and causal": {"bias": rng.normal(size=(1, H, N, M)), "causal": True},
    }


def inputs(rng):
    return [rng.normal(size=(B, length, H, K)) for length in (N, M, M)]


def tensors(arguments):
    found = dict(arguments)
    for name, x in arguments.items():
        if isinstance(x, np.ndarray):
            found[name] = ops.convert_to_tensor(x, "bool" if x.dtype == bool else "float32")
    return found


@pytest.mark.parametrize("case", list(masks(np.random.default_rng(0))))
def test_equals_the_formula_fused_or_not(rng, case, monkeypatch):
    arguments = masks(rng)[case]
    q, k, v = inputs(rng)
    expected, expected_scores = reference(q, k, v, **arguments)
    q, k, v = (ops.convert_to_tensor(x, "float32") for x in (q, k, v))
    arguments = tensors(arguments)
    fused, nothing = attend(q, k, v, **arguments)
    assert nothing is None
    explicit, scores = attend(q, k, v, **arguments, return_scores=True)
    for found in (fused, explicit):
        np.testing.assert_allclose(to_numpy(found), expected, atol=1e-5)
    np.testing.assert_allclose(to_numpy(scores), expected_scores, atol=1e-6)
    if keras.backend.backend() == "jax":  # what it takes on an accelerator
        monkeypatch.setattr("jax.default_backend", lambda: "gpu")
        found, _ = attend(q, k, v, **arguments)
        np.testing.assert_allclose(to_numpy(found), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "case",
    once_but(
        [name for name in masks(np.random.default_rng(0)) if name != "none"],
        "an empty row",
        "bias of each and mask",
    ),
)
def test_masks_are_finite_in_16_bits(rng, case, dtype):
    arguments = masks(rng)[case]
    q, k, v = (x * 8 for x in inputs(rng))  # large logits beside the masked ones
    expected, _ = reference(q, k, v, **arguments)
    q, k, v = (ops.convert_to_tensor(x.astype("float32"), dtype) for x in (q, k, v))
    arguments = tensors(arguments)
    for return_scores in (False, True):
        found, _ = attend(q, k, v, **arguments, return_scores=return_scores)
        assert keras.backend.standardize_dtype(found.dtype) == dtype
        error = np.abs(to_numpy(found) - expected)
        assert np.isfinite(error).all()
        assert error.mean() < 0.02 * np.abs(expected).max() + 1e-6


def gradient(function, x):
    """The gradient of the sum of a function's squares, on every backend."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = ops.sum(ops.square(function(x)))
        return tape.gradient(loss, x)
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(lambda x: ops.sum(ops.square(function(x))))(x)
    import torch

    x.requires_grad_()
    return torch.autograd.grad(ops.sum(ops.square(function(x))), x)[0]


@pytest.mark.parametrize("return_scores", [False, True])
def test_gradients_at_masked_keys_and_empty_rows_are_zero(rng, return_scores):
    q, k, v = (ops.convert_to_tensor(x, "float32") for x in inputs(rng))
    mask = np.ones((B, 1, N, M), bool)
    mask[0, :, :, 5:] = False  # keys that nobody attends to
    mask[1, :, 2] = False  # a query that attends to nobody

    def of_keys(k):
        return attend(q, k, v, mask=mask, return_scores=return_scores)[0]

    def of_queries(q):
        return attend(q, k, v, mask=mask, return_scores=return_scores)[0]

    keys, queries = to_numpy(gradient(of_keys, k)), to_numpy(gradient(of_queries, q))
    assert np.isfinite(keys).all() and np.isfinite(queries).all()
    assert (keys[0, 5:] == 0).all() and np.abs(keys[0, :5]).min() > 0
    assert (queries[1, 2] == 0).all() and np.abs(queries[1, 1]).min() > 0


def test_dropout_and_offset_act_on_the_scores(rng):
    q, k, v = inputs(rng)
    _, scores = reference(q, k, v)
    offset = rng.normal(size=scores.shape)
    found, returned = attend(
        *(ops.convert_to_tensor(x, "float32") for x in (q, k, v)),
        dropout=lambda x: x * 2,
        scores_offset=ops.convert_to_tensor(offset, "float32"),
        return_scores=True,
    )
    expected = np.einsum("bhnm,bmhk->bnhk", 2 * (scores + offset), v)
    np.testing.assert_allclose(to_numpy(found), expected, atol=1e-4)
    np.testing.assert_allclose(to_numpy(returned), scores + offset, atol=1e-5)  # before dropout


@backends("jax")
@pytest.mark.parametrize(
    "n, m, causal",
    [(5, 5, False), (6, 6, False), (5, 4, False), (4, 7, False), (5, 5, True), (6, 6, True)],
)
def test_cudnn_takes_an_even_number_of_tokens(n, m, causal, monkeypatch):
    """What would go to cuDNN, computed by JAX's other implementation of the same function."""
    import jax

    by_jax, calls = jax.nn.dot_product_attention, []

    def dot_product_attention(q, k, v, *, implementation, **options):
        calls.append((implementation, q.shape[1], k.shape[1]))
        return by_jax(q, k, v, implementation="xla", **options)

    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, tokens, 3, 8)).astype("float32") for tokens in (n, m, m))

    def compute(q, k, v):
        return weighted_sum(attention.fused_attention(q, k, v, causal=causal))

    expected = jax.value_and_grad(compute, argnums=(0, 1, 2))(q, k, v)
    monkeypatch.setattr(attention, "jax_platform", lambda: "gpu")
    monkeypatch.setattr(attention, "_cudnn_takes", lambda q: True)
    monkeypatch.setattr(jax.nn, "dot_product_attention", dot_product_attention)
    found = jax.value_and_grad(compute, argnums=(0, 1, 2))(q, k, v)
    assert calls == [("cudnn", n + n % 2, m + m % 2)]
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), rtol=1e-4, atol=1e-5)


@backends("jax")
def test_cudnn_is_asked_only_for_what_it_takes(monkeypatch):
    import jax

    class Device:
        compute_capability = "9.0"

    half, wide = np.zeros((1, 5, 3, 8), "float16"), np.zeros((1, 5, 3, 136), "float16")
    assert not attention._cudnn_takes(half)  # on a CPU
    monkeypatch.setattr(attention, "jax_platform", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [Device])
    assert attention._cudnn_takes(half)
    assert not attention._cudnn_takes(half.astype("float32")) and not attention._cudnn_takes(wide)
    Device.compute_capability = "7.5"
    assert not attention._cudnn_takes(half)
