"""Class attention, in which only the class token attends, and its block.

Letters: B batch, N tokens (the class token included), D width, H heads, K = D / H width of a head.
"""

import keras
from keras import ops

from keras_vit.layers.attention import head_width
from keras_vit.layers.block import Block
from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost, dense_cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.mlp import MLP
from keras_vit.layers.regularization import active, drop
from keras_vit.layers.sublayer import direct, sublayer
from keras_vit.layers.tokenwise import linear
from keras_vit.layers.validation import check_count, check_rate, check_tokens
from keras_vit.ops.attention import attend
from keras_vit.ops.shapes import reshape, unstack


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class ClassAttention(ConfiguredLayer):
    """Multi-head attention of the first token to all tokens.

    Args:
        num_heads: int, H; the width of the tokens must be a multiple of it.
        qkv_bias: bool, whether the projections to the query, keys and values have biases.
        attention_dropout_rate: float in [0, 1), dropout on the attention scores.
        dropout_rate: float in [0, 1), dropout after the output projection.

    Call arguments:
        tokens: float tensor (B, N, D), the class token first.
        training: bool, whether to apply dropout.
        return_attention_scores: bool, whether to return the scores too, before dropout. They are
            computed explicitly; without them the backend's fused kernel is used, if it has one.
        scores_offset: float tensor of the shape of the scores, added to them, or None. The
            gradient of an offset of zeros is the gradient of the scores.

    Returns:
        Tokens (B, 1, D), or (tokens, float32 scores (B, H, 1, N)). The scores of a head sum to one.

    Raises:
        ValueError: if the input has another rank, or its width is not a multiple of `num_heads`.

    Example:
        >>> ClassAttention(8)(np.zeros((1, 197, 384))).shape
        (1, 1, 384)

    Source: Touvron et al. 2021 (arXiv:2103.17239), section 3, equations 5 to 7.
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
        check_tokens(tokens_shape, "ClassAttention")
        width = tokens_shape[-1]
        self.head_dim = head_width(width, self.num_heads)
        layer = {"dtype": self.dtype_policy}
        glorot = {"kernel_initializer": Initial("glorot_uniform"), **layer}
        self.query = keras.layers.Dense(width, use_bias=self.qkv_bias, name="query", **glorot)
        self.key_value = keras.layers.Dense(
            2 * width,
            use_bias=self.qkv_bias,
            kernel_initializer=Initial(
                "lecun_uniform"
            ),  # equals Glorot uniform for each (D, D) part
            name="key_value",
            **layer,
        )
        self.proj = keras.layers.Dense(width, name="proj", **glorot)
        for dense in (self.query, self.key_value, self.proj):
            dense.build(tokens_shape)
        self.attention_dropout = keras.layers.Dropout(
            self.attention_dropout_rate, name="attention_dropout", **layer
        )
        self.dropout = keras.layers.Dropout(self.dropout_rate, name="dropout", **layer)

    def call(self, tokens, training=None, return_attention_scores=False, scores_offset=None):
        _, n, width = ops.shape(tokens)
        q = reshape(linear(self.query, tokens[:, :1]), (-1, 1, self.num_heads, self.head_dim))
        kv = reshape(linear(self.key_value, tokens), (-1, n, 2, self.num_heads, self.head_dim))
        k, v = unstack(kv, axis=2)  # (B, N, H, K) each

        x, scores = attend(  # (B, 1, H, K), (B, H, 1, N)
            q,
            k,
            v,
            dropout=active(self.attention_dropout, training),
            scores_offset=scores_offset,
            return_scores=return_attention_scores,
        )
        x = reshape(x, (-1, 1, width))
        x = drop(self.dropout, linear(self.proj, x), training)  # (B, 1, D)
        return (x, scores) if return_attention_scores else x

    def compute_output_shape(self, tokens_shape):
        return (tokens_shape[0], 1, tokens_shape[2])

    def cost(self, tokens_shape):
        _, n, width = tokens_shape
        products = Cost(macs=2 * n * width, activations=width)  # q kᵀ and scores v
        query, proj = dense_cost(1, width, width), dense_cost(1, width, width)
        return query + dense_cost(n, width, 2 * width) + products + proj


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class ClassAttentionBlock(Block):
    """Pre-norm block that updates the class token only; the patches do not change.

    Args:
        num_heads: int, number of attention heads; the width of the tokens must be a multiple of it.
        mlp_dim: int, hidden width of the MLP.
        mlp: str, activation of the MLP (`keras_vit.layers.MLP`).
        qkv_bias: bool, whether the projections to the query, keys and values have biases.
        layer_scale: float, initial value of LayerScale, or None for no LayerScale.
        dropout_rate: float in [0, 1), dropout after the attention and in the MLP.
        attention_dropout_rate: float in [0, 1), dropout on the attention scores.
        drop_path_rate: float in [0, 1), probability of dropping a residual branch for a sample.
        norm_epsilon: float, epsilon of both layer normalisations.
        remat: bool, whether training recomputes the block in the backward pass instead of keeping
            its intermediate results (gradient checkpointing).

    Call arguments:
        tokens: float tensor (B, N, D), the class token first.
        training: bool, whether to apply dropout, drop path and `remat`.

    Returns:
        Tokens (B, N, D), of which only the first differs from the input.

    Raises:
        ValueError: if a rate is outside [0, 1), or the input has another rank or a width that is
            not a multiple of `num_heads`.

    Example:
        >>> ClassAttentionBlock(8, mlp_dim=1536)(np.zeros((1, 197, 384))).shape
        (1, 197, 384)

    Source: Touvron et al. 2021 (arXiv:2103.17239), section 3 and figure 2.
    """

    queries = "class_token"

    def __init__(
        self,
        num_heads,
        mlp_dim,
        mlp="gelu",
        qkv_bias=True,
        layer_scale=None,
        dropout_rate=0.0,
        attention_dropout_rate=0.0,
        drop_path_rate=0.0,
        norm_epsilon=1e-6,
        remat=False,
        **kwargs,
    ):
        super().__init__(remat=remat, **kwargs)
        layer = {"dtype": self.dtype_policy}
        attention = ClassAttention(
            num_heads, qkv_bias, attention_dropout_rate, dropout_rate, name="attention", **layer
        )
        mlp = MLP(mlp_dim, mlp, dropout_rate=dropout_rate, name="mlp", **layer)
        self.add_branches(attention, mlp, layer_scale, drop_path_rate, norm_epsilon)

    def build(self, tokens_shape):
        check_tokens(tokens_shape, "ClassAttentionBlock")
        super().build(tokens_shape)

    def compute(self, x, training=None, **attention):
        token, patches = x[:, :1], x[:, 1:]
        y = sublayer(self.norm1, x)
        y = sublayer(self.attention, y, training=training, **attention)
        token = token + self.scaled(1, y, training)
        y = sublayer(self.mlp, sublayer(self.norm2, token), training=training)  # (B, 1, D)
        token = token + self.scaled(2, y, training)
        return ops.concatenate([token, patches], axis=1)  # (B, N, D)

    def num_scores(self, tokens_shape):
        return self.num_heads * tokens_shape[1]

    def full_cost(self, tokens_shape):
        batch, n, width = tokens_shape
        # both norms, both sums, LayerScale, and the concatenation of the tokens
        scaled = 2 if self.layer_scale1 is not None else 0
        rest = Cost(activations=2 * n * width + (3 + scaled) * width)
        return self.attention.cost(tokens_shape) + self.mlp.cost((batch, 1, width)) + rest
