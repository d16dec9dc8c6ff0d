"""Scaled dot-product attention, fused or with explicit scores.

Letters: B batch, N queries, M keys, H heads, K width of a head.
"""

import keras
from keras import ops

from keras_vit.fast_paths import fast_paths_enabled
from keras_vit.hardware import jax_platform

HALF = ("float16", "bfloat16")
MASKED = -1e30  # the logit of a masked pair; finite, because -inf - -inf is NaN


def attend(
    query,
    key,
    value,
    *,
    mask=None,
    causal=False,
    bias=None,
    scale=None,
    dropout=None,
    scores_offset=None,
    return_scores=False,
):
    """Computes softmax(query keyᵀ / sqrt(K) + bias) value.

    It runs fused (`fused_attention`) unless the scores are needed: for `dropout`, for
    `scores_offset` or as a result.

    Args:
        query: float tensor (B, N, H, K).
        key, value: float tensors (B, M, H, K).
        mask: boolean tensor that broadcasts to (B, H, N, M), True where a query may attend to a
            key, or None for no mask. For a padding mask (B, M), pass `mask[:, None, None]`.
        causal: bool, whether query i attends only to keys 0 to i; with `mask`, both must allow a
            pair.
        bias: float tensor (G, H, N, M), added to the logits and repeated B / G times along the
            batch, or None.
        scale: float, used instead of 1 / sqrt(K), or None.
        dropout: function from scores to scores, such as a `Dropout` layer in training, or None.
        scores_offset: float tensor (B, H, N, M), added to the scores, or None. The gradient of an
            offset of zeros is the gradient of the scores.
        return_scores: bool, whether to return the scores too, before dropout.

    Returns:
        (float tensor (B, N, H, K), float32 scores (B, H, N, M) or None). Each row of the scores
        sums to one. If the mask excludes every key of a query, its output and scores are zeros.

    Example:
        >>> x = np.zeros((2, 77, 8, 64), "float32")
        >>> attend(x, x, x, causal=True)[0].shape
        (2, 77, 8, 64)

    Source: Vaswani et al. 2017 (arXiv:1706.03762), section 3.2.
    """
    found = None
    if mask is not None:
        mask = ops.cast(mask, "bool")
        mask = ops.reshape(mask, (1,) * (4 - len(mask.shape)) + tuple(ops.shape(mask)))
    if causal and (mask is not None or bias is not None):  # fused kernels take only one of them
        before = causal_mask(query, key)
        mask, causal = before if mask is None else ops.logical_and(mask, before), False
    if mask is not None:
        # Rows without any key are unmasked here, because their softmax would be NaN, and set to
        # zero below.
        found = ops.any(mask, axis=-1, keepdims=True)  # (B, H, N, 1), or 1 for any of these
        mask = ops.logical_or(mask, ops.logical_not(found))

    scores = None
    if dropout is None and scores_offset is None and not return_scores:
        x = fused_attention(query, key, value, bias, scale, mask, causal)
    else:
        scores = attention_scores(query, key, bias, scale, mask, causal)
        if found is not None:
            scores = scores * ops.cast(found, scores.dtype)
        if scores_offset is not None:
            scores = ops.add(scores, scores_offset)
        x = apply_scores(scores if dropout is None else dropout(scores), value)
    if found is not None:
        x = x * ops.cast(ops.transpose(found, (0, 2, 1, 3)), x.dtype)
    return x, scores if return_scores else None


def causal_mask(query, key):
    """Boolean (1, 1, N, M), True where the key does not come after the query."""
    queries = ops.arange(ops.shape(query)[1], dtype="int32")
    keys = ops.arange(ops.shape(key)[1], dtype="int32")
    return (keys[None] <= queries[:, None])[None, None]


def attention_scores(q, k, bias=None, scale=None, mask=None, causal=False):
    """Computes softmax(q kᵀ / sqrt(K) + bias): (B, N, H, K), (B, M, H, K) -> float32 (B, H, N, M).

    The softmax is in float32, whatever the dtype of q and k. The arguments are those of `attend`,
    but the mask must leave every query a key, and `mask` is ignored if `causal` is True.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    mask = causal_mask(q, k) if causal else mask
    q = ops.transpose(q, (0, 2, 1, 3))  # (B, H, N, K)
    k = ops.transpose(k, (0, 2, 3, 1))  # (B, H, K, M)
    q = q * ops.cast(scale, q.dtype)  # scaled first: float16 overflows less
    scores = ops.cast(ops.matmul(q, k), "float32")
    if bias is not None:
        grouped = ops.reshape(scores, (-1, *ops.shape(bias)))  # (B/G, G, H, N, M)
        scores = ops.reshape(grouped + ops.cast(bias, "float32"), ops.shape(scores))
    if mask is not None:
        scores = ops.where(mask, scores, MASKED)
    return ops.softmax(scores, axis=-1)


def apply_scores(scores, v):
    """Weighted sum of the values: scores (B, H, N, M), values (B, M, H, K) -> (B, N, H, K)."""
    out = ops.matmul(ops.cast(scores, v.dtype), ops.transpose(v, (0, 2, 1, 3)))  # (B, H, N, K)
    return ops.transpose(out, (0, 2, 1, 3))


def fused_attention(q, k, v, bias=None, scale=None, mask=None, causal=False):
    """Attention by the backend's kernel: (B, N, H, K), (B, M, H, K) twice -> (B, N, H, K).

    PyTorch, and JAX on an accelerator, have fused kernels that write no scores to memory. On
    TensorFlow, and on JAX on a CPU, plain matrix products were measured to be faster than
    `keras.ops.dot_product_attention`.

    The arguments are those of `attend`, but the mask must leave every query a key, and `causal`
    must not be combined with `mask` or `bias`.
    """
    if keras.backend.backend() == "torch":
        return _attend_on_torch(q, k, v, bias, scale, mask, causal)
    if keras.backend.backend() == "jax" and jax_platform() != "cpu":
        if bias is None and mask is None and fast_paths_enabled() and _cudnn_takes(q):
            return _attend_by_cudnn(q, k, v, scale, causal)
        if bias is not None:
            bias = ops.tile(ops.cast(bias, q.dtype), (len(q) // len(bias), 1, 1, 1))
        return ops.dot_product_attention(q, k, v, bias, mask, scale, causal)
    return apply_scores(attention_scores(q, k, bias, scale, mask, causal), v)


def _cudnn_takes(q):
    """Whether cuDNN has a fused kernel for queries of this dtype and width, on JAX's device."""
    import jax

    if jax_platform() != "gpu" or keras.backend.standardize_dtype(q.dtype) not in HALF:
        return False
    major = str(getattr(jax.devices()[0], "compute_capability", "0")).partition(".")[0]
    return major.isdecimal() and int(major) >= 8 and q.shape[-1] % 8 == 0 and q.shape[-1] <= 128


def _attend_by_cudnn(q, k, v, scale, causal):
    # Not ops.dot_product_attention: JAX refuses the gradient of an odd number of tokens, such as
    # 197, also where there is no bias, and Keras then silently takes a way that writes the scores
    # to memory (seen with JAX 0.11.2: 2.1 times the time). A token more, which is left out by its
    # length, makes the number even.
    import jax

    lengths = {}
    for name, tokens in (("query_seq_lengths", q), ("key_value_seq_lengths", k)):
        if q.shape[1] % 2 or k.shape[1] % 2:
            lengths[name] = jax.numpy.full(tokens.shape[:1], tokens.shape[1], "int32")
    even = (jax.numpy.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) for x in (q, k, v))
    x = jax.nn.dot_product_attention(
        *even, scale=scale, is_causal=causal, implementation="cudnn", **lengths
    )
    return x[:, : q.shape[1]]


def _attend_on_torch(q, k, v, bias, scale, mask, causal):
    # Not ops.dot_product_attention: it copies q, k and v to make them contiguous.
    import torch

    if bias is not None:
        groups = q.shape[0] // bias.shape[0]  # not len(), which an export would make static
        bias = bias.to(q.dtype).expand(groups, -1, -1, -1, -1).flatten(0, 1)
        if mask is not None:
            bias = torch.where(mask, bias, torch.finfo(q.dtype).min)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    added = mask if bias is None else bias
    attention = torch.nn.functional.scaled_dot_product_attention
    x = attention(q, k, v, added, is_causal=causal, scale=scale)
    return x.transpose(1, 2)
