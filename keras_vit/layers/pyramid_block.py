"""The transformer block of PVT: it works on a feature map and attends to a smaller one.

Letters: B batch, h x w grid, N = h*w queries, M keys, D width.
"""

import keras
from keras import ops

from keras_vit.layers.block import Block
from keras_vit.layers.convolutional_mlp import ConvolutionalMLP
from keras_vit.layers.cost import Cost
from keras_vit.layers.mlp import MLP
from keras_vit.layers.spatial_reduction_attention import SpatialReductionAttention
from keras_vit.layers.sublayer import direct, sublayer
from keras_vit.layers.validation import check_grid
from keras_vit.ops.shapes import reshape


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class PyramidBlock(Block):
    """x + attention(norm(x)), then x + mlp(norm(x)), with spatial-reduction attention.

    Args:
        num_heads: int, number of attention heads; the width of the map must be a multiple of it.
        mlp_dim: int, hidden width of the MLP.
        reduction: int, side of the patches that become one key and value
            (`SpatialReductionAttention`).
        pool_size: int, side of the grid that keys and values are averaged to, or None.
        convolutional: bool, whether the MLP has a depthwise convolution (`ConvolutionalMLP`; with
            `pool_size` it has a ReLU too).
        qkv_bias: bool, whether the projections to queries, keys and values have biases.
        dropout_rate: float in [0, 1), dropout after the attention and in the MLP.
        attention_dropout_rate: float in [0, 1), dropout on the attention scores.
        drop_path_rate: float in [0, 1), probability of dropping a residual branch for a sample.
        norm_epsilon: float, epsilon of the normalisations before attention and MLP.
        reduction_norm_epsilon: float, epsilon of the normalisation after the reduction.
        remat: bool, whether training recomputes the block in the backward pass instead of keeping
            its intermediate results (gradient checkpointing).

    Call arguments:
        grid: float tensor (B, h, w, D).
        training: bool, whether to apply dropout, drop path and `remat`.

    Returns:
        Feature map (B, h, w, D).

    Raises:
        ValueError: if a rate is outside [0, 1), or the input has another rank, a width that is not
            a multiple of `num_heads`, or a side smaller than `reduction`.

    Example:
        >>> PyramidBlock(1, mlp_dim=512, reduction=8)(np.zeros((1, 56, 56, 64))).shape
        (1, 56, 56, 64)

    Sources: Wang et al. 2021 (arXiv:2102.12122), figure 3; Wang et al. 2022 (arXiv:2106.13797),
    figure 1.
    """

    queries = "places"

    def __init__(
        self,
        num_heads,
        mlp_dim,
        reduction=1,
        pool_size=None,
        convolutional=False,
        qkv_bias=True,
        dropout_rate=0.0,
        attention_dropout_rate=0.0,
        drop_path_rate=0.0,
        norm_epsilon=1e-6,
        reduction_norm_epsilon=1e-5,
        remat=False,
        **kwargs,
    ):
        super().__init__(remat=remat, **kwargs)
        self.convolutional = convolutional
        layer = {"dtype": self.dtype_policy}
        attention = SpatialReductionAttention(
            num_heads,
            reduction,
            pool_size,
            qkv_bias=qkv_bias,
            attention_dropout_rate=attention_dropout_rate,
            dropout_rate=dropout_rate,
            norm_epsilon=reduction_norm_epsilon,
            name="attention",
            **layer,
        )
        mlp = {"dropout_rate": dropout_rate, "name": "mlp", **layer}
        if convolutional:
            mlp = ConvolutionalMLP(mlp_dim, relu=pool_size is not None, **mlp)
        else:
            mlp = MLP(mlp_dim, **mlp)
        self.add_branches(attention, mlp, drop_path_rate=drop_path_rate, norm_epsilon=norm_epsilon)

    def build(self, grid_shape):
        check_grid(grid_shape, self.attention.reduction, "PyramidBlock")
        for layer in (self.norm1, self.attention, self.norm2):
            layer.build(grid_shape)
        self.mlp.build(grid_shape if self.convolutional else (None, None, grid_shape[-1]))

    def call(self, grid, training=None):
        check_grid(grid.shape, self.attention.reduction, "PyramidBlock")
        return super().call(grid, training)

    def compute(self, x, training=None):
        _, h, w, width = ops.shape(x)
        y = sublayer(self.norm1, x)
        y = sublayer(self.attention, y, training=training)  # (B, h, w, D)
        x = x + self.scaled(1, y, training)

        y = sublayer(self.norm2, x)
        if self.convolutional:
            y = sublayer(self.mlp, y, training=training)  # (B, h, w, D)
        else:
            y = reshape(y, (-1, h * w, width))
            y = sublayer(self.mlp, y, training=training)  # (B, N, D)
            y = reshape(y, (-1, h, w, width))
        return x + self.scaled(2, y, training)

    def scores_on_grid(self, scores, grid_shape, grid, num_prefix_tokens):
        return scores.reshape(*scores.shape[:-1], *self.attention.key_grid(grid_shape))

    def query_grid(self, grid_shape, grid):
        return grid_shape[1:3]

    def num_scores(self, grid_shape):
        n = grid_shape[1] * grid_shape[2]
        return self.num_heads * n * self.attention.num_keys(grid_shape)

    def full_cost(self, grid_shape):
        batch, h, w, width = grid_shape
        norms_and_sums = Cost(activations=4 * h * w * width)
        mlp = self.mlp.cost(grid_shape if self.convolutional else (batch, h * w, width))
        return self.attention.cost(grid_shape) + mlp + norms_and_sums
