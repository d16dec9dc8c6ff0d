"""Talking-heads attention.

Letters: B batch, N tokens, D width, H heads, K = D / H width of a head.
"""

import keras
from keras import ops

from keras_vit.layers.attention import head_width
from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost, dense_cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.regularization import drop
from keras_vit.layers.sublayer import direct
from keras_vit.layers.tokenwise import linear
from keras_vit.layers.validation import check_count, check_rate, check_tokens
from keras_vit.ops.attention import apply_scores
from keras_vit.ops.shapes import reshape, unstack


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class TalkingHeadsAttention(ConfiguredLayer):
    """Multi-head self-attention with a linear map over the heads before and after the softmax.

    No fused kernel supports this, so the scores of all heads are written to memory.

    Args:
        num_heads: int, H; the width of the tokens must be a multiple of it.
        qkv_bias: bool, whether the projection to queries, keys and values has a bias.
        attention_dropout_rate: float in [0, 1), dropout on the scores after the second map.
        dropout_rate: float in [0, 1), dropout after the output projection.

    Call arguments:
        tokens: float tensor (B, N, D).
        training: bool, whether to apply dropout.
        return_attention_scores: bool, whether to return the scores too, as they are between the
            softmax and the second map.
        scores_offset: float tensor of the shape of the scores, added to them, or None. The
            gradient of an offset of zeros is the gradient of the scores.

    Returns:
        Tokens (B, N, D), or (tokens, float32 scores (B, H, N, N)). Each row of the scores sums to
        one.

    Raises:
        ValueError: if the input has another rank, or its width is not a multiple of `num_heads`.

    Example:
        >>> TalkingHeadsAttention(8)(np.zeros((1, 196, 384))).shape
        (1, 196, 384)

    Sources: Shazeer et al. 2020 (arXiv:2003.02436), section 3; Touvron et al. 2021
    (arXiv:2103.17239), section 4.
    """

    def __init__(
        self, num_heads, qkv_bias=True, attention_dropout_rate=0.0, dropout_rate=0.0, **kwargs
    ):
        super().__init__(**kwargs)
        check_count(num_heads, "num_heads")
        check_rate(attention_dropout_rate, "attention_dropout_rate")
        check_rate(dropout_rate, "dropout_rate")
        self.num_heads = num_heads
        self.qkv_bias = qkv_bias
        self.attention_dropout_rate = attention_dropout_rate
        self.dropout_rate = dropout_rate

    def build(self, tokens_shape):
        check_tokens(tokens_shape, "TalkingHeadsAttention")
        width = tokens_shape[-1]
        self.head_dim = head_width(width, self.num_heads)
        layer = {"dtype": self.dtype_policy}
        glorot = {"kernel_initializer": Initial("glorot_uniform"), **layer}
        self.qkv = keras.layers.Dense(
            3 * width,
            use_bias=self.qkv_bias,
            kernel_initializer=Initial(
                "lecun_uniform"
            ),  # equals Glorot uniform for each (D, D) part
            name="qkv",
            **layer,
        )
        self.proj = keras.layers.Dense(width, name="proj", **glorot)
        self.qkv.build(tokens_shape)
        self.proj.build(tokens_shape)
        self.logits_projection = HeadProjection(self.num_heads, name="logits_projection", **glorot)
        self.weights_projection = HeadProjection(
            self.num_heads, name="weights_projection", **glorot
        )
        self.logits_projection.build((None, self.num_heads))
        self.weights_projection.build((None, self.num_heads))
        self.attention_dropout = keras.layers.Dropout(
            self.attention_dropout_rate, name="attention_dropout", **layer
        )
        self.dropout = keras.layers.Dropout(self.dropout_rate, name="dropout", **layer)

    def call(self, tokens, training=None, return_attention_scores=False, scores_offset=None):
        _, n, width = ops.shape(tokens)
        qkv = reshape(linear(self.qkv, tokens), (-1, n, 3, self.num_heads, self.head_dim))
        q, k, v = unstack(qkv, axis=2)  # (B, N, H, K) each
        q = ops.transpose(q, (0, 2, 1, 3)) * ops.cast(self.head_dim**-0.5, q.dtype)
        logits = ops.matmul(q, ops.transpose(k, (0, 2, 3, 1)))  # (B, H, N, N)

        logits = _mix(ops.cast(logits, "float32"), self.logits_projection)
        scores = ops.softmax(logits, axis=-1)
        if scores_offset is not None:
            scores = ops.add(scores, scores_offset)
        weights = _mix(scores, self.weights_projection)
        x = apply_scores(drop(self.attention_dropout, weights, training), v)  # (B, N, H, K)

        x = reshape(x, (-1, n, width))
        x = drop(self.dropout, linear(self.proj, x), training)  # (B, N, D)
        return (x, scores) if return_attention_scores else x

    def compute_output_shape(self, tokens_shape):
        return tokens_shape

    def cost(self, tokens_shape):
        _, n, width = tokens_shape
        products = Cost(macs=2 * n * n * width, activations=n * width)  # q kᵀ and scores v
        mixing = Cost(macs=2 * (n * self.num_heads) ** 2, activations=4 * self.num_heads * n * n)
        return dense_cost(n, width, 3 * width) + products + mixing + dense_cost(n, width, width)


class HeadProjection(keras.layers.Dense):
    """A dense layer over the heads, whose kernel `_mix` reads directly.

    `model.quantize` does not change it: it is small, and the kernel of a quantised layer holds
    integers without their scale.
    """

    def quantize(self, *args, **kwargs):
        pass


def _mix(scores, projection):
    """Applies `projection` over the heads of (B, H, N, N), without transposing them."""
    _, h, n, _ = ops.shape(scores)
    kernel = ops.cast(ops.transpose(projection.kernel), scores.dtype)
    mixed = ops.matmul(kernel, reshape(scores, (-1, h, n * n)))  # (B, H, N*N)
    mixed = mixed + ops.cast(ops.expand_dims(projection.bias, 1), scores.dtype)
    return reshape(mixed, (-1, h, n, n))
