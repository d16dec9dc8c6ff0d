"""Attention between queries and keys, fused or explicit.

Letters: B batch, N queries, M keys, H heads, K width of a head.
"""

import keras
from keras import ops

from keras_vit.hardware import jax_platform


def attention_scores(q, k, bias=None, scale=None):
    """softmax(q kᵀ / sqrt(K)): (B, N, H, K), (B, M, H, K) -> (B, H, N, M), in float32.

    The rows sum to one. The softmax runs in float32 whatever the precision of q and k is.

    Args:
        q, k: tensors.
        bias: tensor (G, H, N, M) that is added before the softmax, again for every G of the B, or
            None for none.
        scale: float instead of 1 / sqrt(K).
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q = ops.transpose(q, (0, 2, 1, 3))  # (B, H, N, K)
    k = ops.transpose(k, (0, 2, 3, 1))  # (B, H, K, M)
    q = q * ops.cast(scale, q.dtype)  # scaled first: float16 overflows less
    scores = ops.cast(ops.matmul(q, k), "float32")
    if bias is not None:
        grouped = ops.reshape(scores, (-1, *ops.shape(bias)))  # (B/G, G, H, N, M)
        scores = ops.reshape(grouped + ops.cast(bias, "float32"), ops.shape(scores))
    return ops.softmax(scores, axis=-1)


def apply_scores(scores, v):
    """Sums the values by their scores: (B, H, N, M), (B, M, H, K) -> (B, N, H, K)."""
    out = ops.matmul(ops.cast(scores, v.dtype), ops.transpose(v, (0, 2, 1, 3)))  # (B, H, N, K)
    return ops.transpose(out, (0, 2, 1, 3))


def fused_attention(q, k, v, bias=None, scale=None):
    """Attention by the backend's own kernel: (B, N, H, K), (B, M, H, K) twice -> (B, N, H, K).

    `bias` and `scale` are as in `attention_scores`.

    Where there is a fused one (PyTorch; JAX on an accelerator), no scores are written to memory. On
    TensorFlow, and on JAX on a CPU, plain products measured faster than what Keras has for them.
    """
    if keras.backend.backend() == "torch":
        # Not ops.dot_product_attention: it copies q, k and v to make them contiguous.
        from torch.nn.functional import scaled_dot_product_attention

        if bias is not None:
            groups = q.shape[0] // bias.shape[0]  # not len(), which an export would take as fixed
            bias = bias.to(q.dtype).expand(groups, -1, -1, -1, -1).flatten(0, 1)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return scaled_dot_product_attention(q, k, v, bias, scale=scale).transpose(1, 2)
    if keras.backend.backend() == "jax" and jax_platform() != "cpu":
        if bias is not None:
            bias = ops.tile(ops.cast(bias, q.dtype), (len(q) // len(bias), 1, 1, 1))
        return ops.dot_product_attention(q, k, v, bias, scale=scale)
    return apply_scores(attention_scores(q, k, bias, scale), v)
