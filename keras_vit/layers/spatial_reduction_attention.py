"""Spatial-reduction attention: keys and values come from a smaller feature map than queries.

Letters: B batch, h x w grid, N = h*w queries, M keys, D width, H heads, K = D / H, R reduction.
"""

import keras
from keras import ops

from keras_vit.layers.attention import head_width
from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost, dense_cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.regularization import active, drop
from keras_vit.layers.sublayer import direct, sublayer
from keras_vit.layers.tokenwise import LayerNormalization, linear
from keras_vit.layers.validation import check_count, check_grid, check_rate
from keras_vit.ops.attention import attend
from keras_vit.ops.gradients import gelu
from keras_vit.ops.resample import adaptive_average
from keras_vit.ops.shapes import reshape, unstack


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class SpatialReductionAttention(ConfiguredLayer):
    """Multi-head self-attention on a feature map, with fewer keys and values than queries.

    Keys and values come from R x R patches of the map, each reduced to one position by a linear
    layer and a normalisation, or from the map averaged to a fixed size ("linear" attention: its
    cost grows with N instead of N squared).

    Args:
        num_heads: int, H; the width of the map must be a multiple of it.
        reduction: int, R; 1 for plain attention. Rows and columns after the last whole patch are
            dropped, as in a strided convolution.
        pool_size: int, side of the grid that keys and values are averaged to, or None. If it is
            given, `reduction` must be 1.
        qkv_bias: bool, whether the projections to queries, keys and values have biases.
        attention_dropout_rate: float in [0, 1), dropout on the attention scores.
        dropout_rate: float in [0, 1), dropout after the output projection.
        norm_epsilon: float, epsilon of the normalisation after the reduction.

    Call arguments:
        grid: float tensor (B, h, w, D).
        training: bool, whether to apply dropout.
        return_attention_scores: bool, whether to return the scores too, before dropout. They are
            computed explicitly; without them the backend's fused kernel is used, if it has one.

    Returns:
        Feature map (B, h, w, D), or (map, float32 scores (B, H, h*w, M)). Each row of the scores
        sums to one. M is (h // R) * (w // R), or the square of `pool_size`.

    Raises:
        ValueError: if the input has another rank, a width that is not a multiple of `num_heads`, or
            a side smaller than `reduction`, or both `reduction` and `pool_size` are given.

    Example:
        >>> SpatialReductionAttention(2, reduction=4)(np.zeros((1, 28, 28, 128))).shape
        (1, 28, 28, 128)

    Sources: Wang et al. 2021 (arXiv:2102.12122), section 3.3; Wang et al. 2022 (arXiv:2106.13797),
    section 3.2, for `pool_size`.
    """

    def __init__(
        self,
        num_heads,
        reduction=1,
        pool_size=None,
        qkv_bias=True,
        attention_dropout_rate=0.0,
        dropout_rate=0.0,
        norm_epsilon=1e-5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_count(num_heads, "num_heads")
        check_count(reduction, "reduction")
        check_rate(attention_dropout_rate, "attention_dropout_rate")
        check_rate(dropout_rate, "dropout_rate")
        if pool_size is not None:
            check_count(pool_size, "pool_size")
            if reduction != 1:
                raise ValueError(
                    "With pool_size, which averages keys and values, reduction must be 1. "
                    f"Received: reduction={reduction}, pool_size={pool_size}"
                )
        self.num_heads = num_heads
        self.reduction = reduction
        self.pool_size = pool_size
        self.qkv_bias = qkv_bias
        self.attention_dropout_rate = attention_dropout_rate
        self.dropout_rate = dropout_rate
        self.norm_epsilon = norm_epsilon
        self.reduces = reduction > 1 or pool_size is not None

    def build(self, grid_shape):
        check_grid(grid_shape, self.reduction, "SpatialReductionAttention")
        width = grid_shape[-1]
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
            dense.build((None, None, width))
        if self.reduces:
            self.reduce = keras.layers.Dense(width, name="reduce", **glorot)
            self.reduce.build((None, None, self.reduction**2 * width))
            self.norm = LayerNormalization(epsilon=self.norm_epsilon, name="norm", **layer)
            self.norm.build((None, None, width))
        self.attention_dropout = keras.layers.Dropout(
            self.attention_dropout_rate, name="attention_dropout", **layer
        )
        self.dropout = keras.layers.Dropout(self.dropout_rate, name="dropout", **layer)

    def call(self, grid, training=None, return_attention_scores=False):
        check_grid(grid.shape, self.reduction, "SpatialReductionAttention")
        _, h, w, width = ops.shape(grid)
        q = linear(self.query, reshape(grid, (-1, h * w, width)))  # (B, N, D)
        q = reshape(q, (-1, h * w, self.num_heads, self.head_dim))
        m, tokens = self._reduced(grid)  # (B, M, D)
        kv = reshape(linear(self.key_value, tokens), (-1, m, 2, self.num_heads, self.head_dim))
        k, v = unstack(kv, axis=2)  # (B, M, H, K) each

        x, scores = attend(  # (B, N, H, K), (B, H, N, M)
            q,
            k,
            v,
            dropout=active(self.attention_dropout, training),
            return_scores=return_attention_scores,
        )
        x = reshape(x, (-1, h * w, width))
        x = drop(self.dropout, linear(self.proj, x), training)
        x = reshape(x, (-1, h, w, width))
        return (x, scores) if return_attention_scores else x

    def _reduced(self, grid):
        """(M, tokens (B, M, D)), from which keys and values are projected."""
        _, h, w, width = ops.shape(grid)
        if self.pool_size is not None:
            m = self.pool_size**2
            x = reshape(adaptive_average(grid, self.pool_size), (-1, m, width))
            return m, gelu(sublayer(self.norm, linear(self.reduce, x)))
        if self.reduction == 1:
            return h * w, reshape(grid, (-1, h * w, width))
        # A convolution with kernel_size == strides, as a reshape and a matrix product.
        r = self.reduction
        rows, columns = h // r, w // r
        x = grid[:, : rows * r, : columns * r]
        x = reshape(x, (-1, rows, r, columns, r, width))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        x = reshape(x, (-1, rows * columns, r * r * width))  # (B, M, R*R*D)
        return rows * columns, sublayer(self.norm, linear(self.reduce, x))

    def compute_output_shape(self, grid_shape):
        return grid_shape

    def key_grid(self, grid_shape):
        """(rows, columns), the grid of the keys for a feature map of shape (B, h, w, D)."""
        if self.pool_size is not None:
            return (self.pool_size, self.pool_size)
        return (grid_shape[1] // self.reduction, grid_shape[2] // self.reduction)

    def num_keys(self, grid_shape):
        """int, M, the number of keys for a feature map of shape (B, h, w, D)."""
        rows, columns = self.key_grid(grid_shape)
        return rows * columns

    def cost(self, grid_shape):
        _, h, w, width = grid_shape
        n, m = h * w, self.num_keys(grid_shape)
        total = dense_cost(n, width, width) + dense_cost(m, width, 2 * width)
        if self.reduces:
            normed = Cost(activations=m * width * (1 if self.pool_size is None else 3))
            total += dense_cost(m, self.reduction**2 * width, width) + normed
        products = Cost(macs=2 * n * m * width, activations=n * width)  # q kᵀ and scores v
        return total + products + dense_cost(n, width, width)
