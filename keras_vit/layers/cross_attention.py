"""Multi-head attention of queries to keys and values that may come from other tokens.

Letters: B batch, N queries, M keys, D width, H heads, K = D / H width of a head.
"""

import keras
from keras import ops

from keras_vit.layers.attention import head_width
from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost, dense_cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.regularization import active
from keras_vit.layers.sublayer import direct
from keras_vit.layers.tokenwise import linear
from keras_vit.layers.validation import check_count, check_rate, check_tokens
from keras_vit.ops.attention import attend
from keras_vit.ops.shapes import reshape


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class CrossAttention(ConfiguredLayer):
    """Multi-head attention with separate projections of queries, keys and values.

    Args:
        num_heads: int, H; the width of the tokens must be a multiple of it.
        attention_dropout_rate: float in [0, 1), dropout on the attention scores.

    Call arguments:
        queries: float tensor (B, N, D).
        keys: float tensor (B, M, D); by default the queries.
        values: float tensor (B, M, D); by default the keys.
        training: bool, whether to apply dropout.
        return_attention_scores, scores_offset: as in `keras_vit.layers.Attention`.
        attention_mask: boolean tensor that broadcasts to (B, H, N, M), True where a query may
            attend to a key, or None. For a padding mask of the keys (B, M), pass
            `mask[:, None, None]`.

    Returns:
        Tokens (B, N, D), or (tokens, float32 scores (B, H, N, M)). Each row of the scores sums to
        one, or is all zeros if the mask excludes every key.

    Raises:
        ValueError: if an input has another rank, or its width is not a multiple of `num_heads`.

    Example:
        >>> queries, memory = np.zeros((1, 100, 256)), np.zeros((1, 850, 256))
        >>> CrossAttention(8)(queries, memory).shape
        (1, 100, 256)

    Source: Vaswani et al. 2017 (arXiv:1706.03762), section 3.2.
    """

    def __init__(self, num_heads, attention_dropout_rate=0.0, **kwargs):
        super().__init__(**kwargs)
        check_count(num_heads, "num_heads")
        check_rate(attention_dropout_rate, "attention_dropout_rate")
        self.num_heads = num_heads
        self.attention_dropout_rate = attention_dropout_rate

    def build(self, queries_shape, keys_shape=None, values_shape=None):
        check_tokens(queries_shape, "CrossAttention")
        width = queries_shape[-1]
        self.head_dim = head_width(width, self.num_heads)
        # Glorot uniform of the three matrices stacked, as PyTorch initialises them.
        stacked = keras.initializers.VarianceScaling(0.5, "fan_in", "uniform")
        self.query = self._dense(width, stacked, "query")
        self.key = self._dense(width, stacked, "key")
        self.value = self._dense(width, stacked, "value")
        self.proj = self._dense(width, "glorot_uniform", "proj")
        for layer in (self.query, self.key, self.value, self.proj):
            layer.build(queries_shape)
        self.attention_dropout = keras.layers.Dropout(
            self.attention_dropout_rate, name="attention_dropout", dtype=self.dtype_policy
        )

    def _dense(self, width, initializer, name):
        return keras.layers.Dense(
            width, kernel_initializer=Initial(initializer), name=name, dtype=self.dtype_policy
        )

    def call(
        self,
        queries,
        keys=None,
        values=None,
        training=None,
        return_attention_scores=False,
        scores_offset=None,
        attention_mask=None,
    ):
        keys = queries if keys is None else keys
        values = keys if values is None else values
        _, n, width = ops.shape(queries)
        q = self._heads(linear(self.query, queries))  # (B, N, H, K)
        k = self._heads(linear(self.key, keys))  # (B, M, H, K)
        v = self._heads(linear(self.value, values))  # (B, M, H, K)
        x, scores = attend(  # (B, N, H, K), (B, H, N, M)
            q,
            k,
            v,
            mask=attention_mask,
            dropout=active(self.attention_dropout, training),
            scores_offset=scores_offset,
            return_scores=return_attention_scores,
        )
        x = linear(self.proj, reshape(x, (-1, n, width)))  # (B, N, D)
        return (x, scores) if return_attention_scores else x

    def _heads(self, x):
        return reshape(x, (-1, ops.shape(x)[1], self.num_heads, self.head_dim))

    def compute_output_shape(self, queries_shape, keys_shape=None, values_shape=None):
        return queries_shape

    def cost(self, queries_shape, keys_shape=None, values_shape=None):
        (_, n, width), m = queries_shape, (keys_shape or queries_shape)[1]
        products = Cost(macs=2 * n * m * width, activations=n * width)  # q kᵀ and scores v
        return (
            dense_cost(n, width, width)
            + dense_cost(m, width, 2 * width)
            + products
            + dense_cost(n, width, width)
        )
