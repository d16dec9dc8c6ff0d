"""Random masks of tokens, and the gathering of tokens by index.

Letters: B batch, N tokens, K tokens that stay, D width.
"""

from keras import ops


def masked_order(noise, count):
    """Which tokens stay, and the way back: those with the smallest noise stay.

    Args:
        noise: float tensor (B, N).
        count: int, K.

    Returns:
        (int tensor (B, K), the indices of the tokens that stay, in the order of the noise;
        int tensor (B, N), for every token its place in that order;
        float32 tensor (B, N), 1 where a token is removed).

    Source: He et al. 2022 (arXiv:2111.06377), facebookresearch/mae `random_masking`.
    """
    order = ops.argsort(noise, axis=1)
    places = ops.argsort(order, axis=1)
    return order[:, :count], places, ops.cast(places >= count, "float32")


def take_tokens(tokens, indices):
    """Gathers tokens (B, N, D) by indices (B, K), of each example its own; returns (B, K, D).

    The tokens of all examples are gathered as rows of one matrix, whose gradient is fast on every
    backend.
    """
    batch, n, width = ops.shape(tokens)
    first = ops.arange(batch, dtype=indices.dtype)[:, None] * n
    return ops.take(ops.reshape(tokens, (-1, width)), indices + first, axis=0)
