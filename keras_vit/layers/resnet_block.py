"""The residual blocks of ResNet.

Letters: B batch, H x W map, C channels, h x w smaller map, F filters.
"""

import keras
from keras import ops

from keras_vit.layers.block import BaseBlock
from keras_vit.layers.cost import Cost
from keras_vit.layers.frozen_batch_normalization import batch_normalization
from keras_vit.layers.overlapping_patch_embedding import he_normal_of_outputs
from keras_vit.layers.regularization import DropPath, drop
from keras_vit.layers.validation import check_count, check_grid

EXPANSION = 4  # output channels of a bottleneck block, in channels of its 3 x 3 convolution


@keras.saving.register_keras_serializable(package="keras_vit")
class ResNetBlock(BaseBlock):
    """Residual block of convolutions with batch normalisation, bottleneck or basic.

    A bottleneck block has 1 x 1, 3 x 3 and 1 x 1 convolutions, the first two with F/4 filters; a
    basic block has two 3 x 3 convolutions with F filters. The first 3 x 3 convolution has the
    stride ("v1.5"; in the paper it is the first convolution). If the shapes of input and output
    differ, the shortcut is a 1 x 1 convolution and a normalisation. The scale of the last
    normalisation starts at zero, so that the block starts as its shortcut, unless `batch_norm` is
    "frozen".

    Args:
        filters: int, F, a multiple of 4 for a bottleneck block.
        strides: int, stride of the block.
        dilation: int, dilation of the first 3 x 3 convolution; above 1 only with `strides` of 1.
        second_dilation: int, dilation of the second 3 x 3 convolution of a basic block; by default
            `dilation`.
        bottleneck: bool, whether it is a bottleneck block.
        batch_norm: "learning" or "frozen" (statistics, scale and offset are fixed).
        drop_path_rate: float in [0, 1), probability of dropping the residual branch for a sample.
        remat: bool, whether training recomputes the block in the backward pass instead of keeping
            its intermediate results (gradient checkpointing).

    Call arguments:
        grid: float tensor (B, H, W, C).
        training: bool, whether to normalise with the statistics of the batch, drop paths and apply
            `remat`.

    Returns:
        Feature map (B, h, w, F), where h is H / strides, rounded up.

    Raises:
        ValueError: if `filters` is not a multiple of 4, a choice is unknown, a rate is outside
            [0, 1), or the input has another rank.

    Example:
        >>> ResNetBlock(512, strides=2)(np.zeros((1, 56, 56, 256))).shape
        (1, 28, 28, 512)

    Sources: He et al. 2016 (arXiv:1512.03385), figure 5; Goyal et al. 2017 (arXiv:1706.02677),
    section 5.1, for the stride and the scale of zero.
    """

    def __init__(
        self,
        filters,
        strides=1,
        dilation=1,
        second_dilation=None,
        bottleneck=True,
        batch_norm="learning",
        drop_path_rate=0.0,
        remat=False,
        **kwargs,
    ):
        super().__init__(remat=remat, **kwargs)
        second_dilation = dilation if second_dilation is None else second_dilation
        counts = {"filters": filters, "strides": strides, "dilation": dilation}
        for name, value in {**counts, "second_dilation": second_dilation}.items():
            check_count(value, name)
        if bottleneck and filters % EXPANSION:
            raise ValueError(
                f"filters of a bottleneck block must be a multiple of {EXPANSION}. "
                f"Received: filters={filters}"
            )
        if strides > 1 and dilation > 1:
            raise ValueError(
                "A block has either strides or a dilation above 1. "
                f"Received: strides={strides}, dilation={dilation}"
            )
        self.filters = filters
        self.strides = strides
        self.batch_norm = batch_norm
        inner = filters // EXPANSION
        # The last normalisation starts at zero.
        if bottleneck:
            self.conv1 = self._conv(inner, 1, "conv1")
            self.norm1 = self._norm("norm1")
            self.conv2 = self._conv(inner, 3, "conv2", strides, dilation)
            self.norm2 = self._norm("norm2")
            self.conv3 = self._conv(filters, 1, "conv3")
            self.norm3 = self._norm("norm3", "zeros")
        else:
            self.conv1 = self._conv(filters, 3, "conv1", strides, dilation)
            self.norm1 = self._norm("norm1")
            self.conv2 = self._conv(filters, 3, "conv2", dilation=second_dilation)
            self.norm2 = self._norm("norm2", "zeros")
            self.conv3 = self.norm3 = None
        self.conv_proj = self.norm_proj = None
        self.drop_path = DropPath(drop_path_rate, name="drop_path", dtype=self.dtype_policy)

    @property
    def _pairs(self):
        """list of (convolution, normalisation) of the residual branch."""
        pairs = [(self.conv1, self.norm1), (self.conv2, self.norm2), (self.conv3, self.norm3)]
        return [pair for pair in pairs if pair[0] is not None]

    def _conv(self, filters, size, name, strides=1, dilation=1):
        return keras.layers.Conv2D(
            filters,
            size,
            strides=strides,
            padding="same" if strides == 1 else "valid",  # `_convolve` pads the others
            dilation_rate=dilation,
            data_format="channels_last",
            use_bias=False,
            kernel_initializer=he_normal_of_outputs(),
            name=name,
            dtype=self.dtype_policy,
        )

    def _norm(self, name, gamma_initializer="ones"):
        return batch_normalization(
            self.batch_norm, gamma_initializer, name=name, dtype=self.dtype_policy
        )

    def build(self, grid_shape):
        check_grid(grid_shape, 1, "ResNetBlock")
        channels = grid_shape[-1]
        for conv, norm in self._pairs:
            conv.build((None, None, None, channels))
            norm.build((None, None, None, conv.filters))
            channels = conv.filters
        if grid_shape[-1] != self.filters or self.strides > 1:
            self.conv_proj = self._conv(self.filters, 1, "conv_proj", self.strides)
            self.norm_proj = self._norm("norm_proj")
            self.conv_proj.build(grid_shape)
            self.norm_proj.build((None, None, None, self.filters))

    def call(self, grid, training=None):
        return self.checkpointed(lambda x: self._residual(x, training), grid, training)

    def _residual(self, x, training):
        y = x  # (B, H, W, C)
        *inner, (last, last_norm) = self._pairs
        for conv, norm in inner:
            y = ops.relu(norm(_convolve(conv, y), training=training))
        y = last_norm(last(y), training=training)
        y = drop(self.drop_path, y, training)  # (B, h, w, F)
        if self.conv_proj is not None:
            x = self.norm_proj(self.conv_proj(x), training=training)  # (B, h, w, F)
        return ops.relu(x + y)

    def compute_output_shape(self, grid_shape):
        check_grid(grid_shape, 1, "ResNetBlock")
        batch, *sides, _ = grid_shape
        h, w = (None if side is None else -(-side // self.strides) for side in sides)
        return (batch, h, w, self.filters)

    def compute_token_layout(self, layout):
        return layout.in_patches(self.strides, round_up=True)

    def full_cost(self, grid_shape):
        batch, h, w, channels = grid_shape
        output = self.compute_output_shape(grid_shape)
        size = output[1] * output[2] * self.filters
        total = Cost(activations=size)  # the sum; its ReLU is counted with the last convolution's
        if self.conv_proj is not None:
            total += Cost(size * channels, 2 * size)
        for conv, _ in self._pairs:
            if conv.strides[0] > 1:
                h, w = output[1:3]
            outputs = h * w * conv.filters
            # convolution, normalisation, ReLU
            total += Cost(outputs * conv.kernel_size[0] ** 2 * channels, 3 * outputs)
            channels = conv.filters
        return total


def _convolve(conv, x):
    """Applies a convolution, padded with half its kernel on all sides, as PyTorch does.

    TensorFlow's "same" pads a strided convolution with fewer zeros before than after.
    """
    border = conv.kernel_size[0] // 2
    if conv.strides[0] > 1 and border:
        x = ops.pad(x, ((0, 0), (border, border), (border, border), (0, 0)))
    return conv(x)
