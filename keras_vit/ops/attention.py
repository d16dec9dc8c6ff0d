"""Attention between queries and keys, fused or explicit.

Letters: B batch, N queries, M keys, H heads, K width of a head.
"""

import keras
from keras import ops

from keras_vit.hardware import jax_platform

MASKED = -1e30  # what a masked score becomes; finite, since -inf - -inf is not a number


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
    """softmax(query keyᵀ / sqrt(K) + bias) value.

    It runs fused (`fused_attention`) unless somebody needs the scores: for `dropout`, for
    `scores_offset` or as a result.

    Args:
        query: float tensor (B, N, H, K).
        key, value: float tensors (B, M, H, K).
        mask: boolean tensor that broadcasts to (B, H, N, M), True where a query may attend to a
            key, or None for everywhere. A padding mask (B, M) is given as `mask[:, None, None]`.
        causal: whether query i attends to keys 0 to i only; with `mask`, both must allow a pair.
        bias: float tensor (G, H, N, M) that is added to the logits, repeated B / G times along the
            batch, or None.
        scale: float instead of 1 / sqrt(K).
        dropout: function from scores to scores, such as a `Dropout` layer in training, or None.
        scores_offset: float tensor (B, H, N, M) that is added to the scores, or None. The gradient
            with respect to an offset of zeros is the gradient with respect to the scores.
        return_scores: whether to return the scores too, before dropout.

    Returns:
        (float tensor (B, N, H, K), float32 scores (B, H, N, M) or None). The rows of the scores
        sum to one. A query that may attend to no key gets zeros, and its scores are zeros.

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
    if causal and (mask is not None or bias is not None):  # kernels take one of them
        before = causal_mask(query, key)
        mask, causal = before if mask is None else ops.logical_and(mask, before), False
    if mask is not None:
        # Rows without a key are opened here and set to zero below: a softmax needs something.
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
    """softmax(q kᵀ / sqrt(K)): (B, N, H, K), (B, M, H, K) -> (B, H, N, M), in float32.

    The softmax runs in float32 whatever the precision of q and k is. The arguments are those of
    `attend`, but every query must have a key, and `causal` excludes `mask`.
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
    """Sums the values by their scores: (B, H, N, M), (B, M, H, K) -> (B, N, H, K)."""
    out = ops.matmul(ops.cast(scores, v.dtype), ops.transpose(v, (0, 2, 1, 3)))  # (B, H, N, K)
    return ops.transpose(out, (0, 2, 1, 3))


def fused_attention(q, k, v, bias=None, scale=None, mask=None, causal=False):
    """Attention by the backend's own kernel: (B, N, H, K), (B, M, H, K) twice -> (B, N, H, K).

    The arguments are those of `attend`, but every query must have a key, and `causal` excludes
    `mask` and `bias`.

    Where there is a fused one (PyTorch; JAX on an accelerator), no scores are written to memory. On
    TensorFlow, and on JAX on a CPU, plain products measured faster than what Keras has for them.
    """
    if keras.backend.backend() == "torch":
        return _attend_on_torch(q, k, v, bias, scale, mask, causal)
    if keras.backend.backend() == "jax" and jax_platform() != "cpu":
        if bias is not None:
            bias = ops.tile(ops.cast(bias, q.dtype), (len(q) // len(bias), 1, 1, 1))
        return ops.dot_product_attention(q, k, v, bias, mask, scale, causal)
    return apply_scores(attention_scores(q, k, bias, scale, mask, causal), v)


def _attend_on_torch(q, k, v, bias, scale, mask, causal):
    # Not ops.dot_product_attention: it copies q, k and v to make them contiguous.
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    if bias is not None:
        groups = q.shape[0] // bias.shape[0]  # not len(), which an export would take as fixed
        bias = bias.to(q.dtype).expand(groups, -1, -1, -1, -1).flatten(0, 1)
        if mask is not None:
            bias = torch.where(mask, bias, torch.finfo(q.dtype).min)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    added = mask if bias is None else bias
    x = scaled_dot_product_attention(q, k, v, added, is_causal=causal, scale=scale)
    return x.transpose(1, 2)
