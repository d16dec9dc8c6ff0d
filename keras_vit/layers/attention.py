"""Multi-head self-attention.

Letters: B batch, N queries, M keys, D width, H heads, K = D / H width of a head.
"""

import keras
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost, dense_cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.regularization import active, drop
from keras_vit.layers.sublayer import direct, sublayer
from keras_vit.layers.tokenwise import LayerNormalization, linear
from keras_vit.layers.validation import check_count, check_rate, check_tokens
from keras_vit.ops.attention import attend
from keras_vit.ops.shapes import reshape, unstack


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class Attention(ConfiguredLayer):
    """Multi-head self-attention with one fused projection for queries, keys and values.

    Args:
        num_heads: int, H; the width of the tokens must be a multiple of it.
        qkv_bias: bool, whether the fused projection has a bias.
        proj_bias: bool, whether the output projection has a bias.
        qk_norm: bool, whether queries and keys are layer-normalised within each head.
        attention_dropout_rate: float in [0, 1), dropout on the attention scores.
        dropout_rate: float in [0, 1), dropout after the output projection.
        norm_epsilon: float, epsilon of the `qk_norm` normalisations.

    Call arguments:
        tokens: float tensor (B, N, D).
        training: bool, whether to apply dropout.
        return_attention_scores: bool, whether to return the scores too, before dropout. They are
            computed explicitly; without them the backend's fused kernel is used, if it has one.
        scores_offset: float tensor of the shape of the scores, added to them, or None. The
            gradient of an offset of zeros is the gradient of the scores.
        attention_mask: boolean tensor that broadcasts to (B, H, N, N), True where a query may
            attend to a key, or None. For a padding mask (B, N), pass `mask[:, None, None]`.
        causal: bool, whether each token attends only to itself and the tokens before it.

    Returns:
        Tokens (B, N, D), or (tokens, float32 scores (B, H, N, N)). Each row of the scores sums to
        one, or is all zeros if the mask excludes every key.

    Raises:
        ValueError: if the input has another rank, or its width is not a multiple of `num_heads`.

    Example:
        >>> Attention(12)(np.zeros((1, 197, 768))).shape
        (1, 197, 768)

    Sources: Vaswani et al. 2017 (arXiv:1706.03762), section 3.2; Dosovitskiy et al. 2021
    (arXiv:2010.11929), appendix A; Dehghani et al. 2023 (arXiv:2302.05442) for `qk_norm`.
    """

    def __init__(
        self,
        num_heads,
        qkv_bias=True,
        proj_bias=True,
        qk_norm=False,
        attention_dropout_rate=0.0,
        dropout_rate=0.0,
        norm_epsilon=1e-6,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_count(num_heads, "num_heads")
        check_rate(attention_dropout_rate, "attention_dropout_rate")
        check_rate(dropout_rate, "dropout_rate")
        self.num_heads = num_heads
        self.qkv_bias = qkv_bias
        self.proj_bias = proj_bias
        self.qk_norm = qk_norm
        self.attention_dropout_rate = attention_dropout_rate
        self.dropout_rate = dropout_rate
        self.norm_epsilon = norm_epsilon

    def build(self, tokens_shape):
        check_tokens(tokens_shape, "Attention")
        width = tokens_shape[-1]
        self.head_dim = head_width(width, self.num_heads)
        layer = {"dtype": self.dtype_policy}
        self.qkv = keras.layers.Dense(
            3 * width,
            use_bias=self.qkv_bias,
            kernel_initializer=Initial(
                "lecun_uniform"
            ),  # equals Glorot uniform for each (D, D) part
            name="qkv",
            **layer,
        )
        self.proj = keras.layers.Dense(
            width,
            use_bias=self.proj_bias,
            kernel_initializer=Initial("glorot_uniform"),
            name="proj",
            **layer,
        )
        self.qkv.build(tokens_shape)
        self.proj.build(tokens_shape)
        if self.qk_norm:
            norm = {"epsilon": self.norm_epsilon, **layer}
            self.query_norm = LayerNormalization(name="query_norm", **norm)
            self.key_norm = LayerNormalization(name="key_norm", **norm)
            self.query_norm.build((None, None, self.num_heads, self.head_dim))
            self.key_norm.build((None, None, self.num_heads, self.head_dim))
        self.attention_dropout = keras.layers.Dropout(
            self.attention_dropout_rate, name="attention_dropout", **layer
        )
        self.dropout = keras.layers.Dropout(self.dropout_rate, name="dropout", **layer)

    def call(
        self,
        tokens,
        training=None,
        return_attention_scores=False,
        scores_offset=None,
        attention_mask=None,
        causal=False,
    ):
        _, n, width = ops.shape(tokens)
        qkv = linear(self.qkv, tokens)  # (B, N, 3D)
        qkv = reshape(qkv, (-1, n, 3, self.num_heads, self.head_dim))
        q, k, v = unstack(qkv, axis=2)  # (B, N, H, K) each
        if self.qk_norm:
            q, k = sublayer(self.query_norm, q), sublayer(self.key_norm, k)

        x, scores = attend(  # (B, N, H, K), (B, H, N, N)
            q,
            k,
            v,
            mask=attention_mask,
            causal=causal,
            dropout=active(self.attention_dropout, training),
            scores_offset=scores_offset,
            return_scores=return_attention_scores,
        )
        x = reshape(x, (-1, n, width))
        x = drop(self.dropout, linear(self.proj, x), training)  # (B, N, D)
        return (x, scores) if return_attention_scores else x

    def compute_output_shape(self, tokens_shape):
        return tokens_shape

    def cost(self, tokens_shape):
        _, n, width = tokens_shape
        norms = Cost(activations=2 * n * width if self.qk_norm else 0)
        products = Cost(macs=2 * n * n * width, activations=n * width)  # q kᵀ and scores v
        return dense_cost(n, width, 3 * width) + norms + products + dense_cost(n, width, width)


def head_width(width, num_heads):
    """D / H; raises a `ValueError` unless it is a whole number."""
    if width % num_heads:
        raise ValueError(
            "The width of the tokens must be a multiple of num_heads. "
            f"Received: width={width}, num_heads={num_heads}"
        )
    return width // num_heads
