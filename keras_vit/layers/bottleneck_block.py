"""The residual block of the CNN in hybrid models.

Letters: B batch, H x W map, C channels, h x w smaller map, F filters.
"""

import keras
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost
from keras_vit.layers.remat import rematerialize
from keras_vit.layers.standardized_convolution import GROUP_NORM_EPSILON, StandardizedConv2D
from keras_vit.layers.validation import check_grid


@keras.saving.register_keras_serializable(package="keras_vit")
class BottleneckBlock(ConfiguredLayer):
    """Residual bottleneck block: 1 x 1, 3 x 3 and 1 x 1 convolutions, with group normalisation.

    The first two convolutions have F/4 filters; the second has the stride. If the shapes of input
    and output differ, the shortcut is a 1 x 1 convolution and a group normalisation. The last
    normalisation starts at zero, so that the block starts as its shortcut.

    Args:
        filters: int, F, a multiple of 4 x `groups`.
        strides: int, stride of the block.
        groups: int, number of groups in every group normalisation.
        convention: "authors" or "timm", whose epsilons to use: `StandardizedConv2D` describes those
            of the convolutions; that of the group normalisations is 1e-6 or 1e-5.
        remat: bool, whether training recomputes the block in the backward pass instead of keeping
            its intermediate results (gradient checkpointing).

    Call arguments:
        grid: float tensor (B, H, W, C).
        training: bool, whether to apply `remat`.

    Returns:
        Feature map (B, h, w, F), where h is H / strides rounded up.

    Raises:
        ValueError: if `filters` is not a multiple of 4 x `groups`, the convention is unknown, or
            the input has another rank.

    Example:
        >>> BottleneckBlock(512, strides=2)(np.zeros((1, 56, 56, 256))).shape
        (1, 28, 28, 512)

    Sources: He et al. 2016 (arXiv:1512.03385), figure 5; Kolesnikov et al. 2020 (arXiv:1912.11370),
    section 2.1. As in the authors' code for hybrids, normalisations come after the convolutions
    ("v1"); in BiT they come before.
    """

    def __init__(self, filters, strides=1, groups=32, convention="authors", remat=False, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(filters, int) or filters % 4 or filters // 4 % groups:
            raise ValueError(
                "filters must be a multiple of 4 x groups, because filters / 4 channels are "
                f"normalised in groups. Received: filters={filters}, groups={groups}"
            )
        self.filters = filters
        self.strides = strides
        self.groups = groups
        self.convention = convention
        self.remat = remat
        self.conv1 = self._conv(filters // 4, 1, "conv1")
        self.norm1 = self._norm("norm1")
        self.conv2 = self._conv(filters // 4, 3, "conv2", strides)
        self.norm2 = self._norm("norm2")
        self.conv3 = self._conv(filters, 1, "conv3")
        self.norm3 = self._norm("norm3", gamma_initializer="zeros")
        self.conv_proj = self.norm_proj = None

    def _conv(self, filters, size, name, strides=1):
        return StandardizedConv2D(
            filters, size, strides, self.convention, name=name, dtype=self.dtype_policy
        )

    def _norm(self, name, **kwargs):
        return keras.layers.GroupNormalization(
            self.groups,
            epsilon=GROUP_NORM_EPSILON[self.convention],
            name=name,
            dtype=self.dtype_policy,
            **kwargs,
        )

    def build(self, grid_shape):
        check_grid(grid_shape, 1, "BottleneckBlock")
        inner = (None, None, None, self.filters // 4)
        self.conv1.build(grid_shape)
        self.norm1.build(inner)
        self.conv2.build(inner)
        self.norm2.build(inner)
        self.conv3.build(inner)
        self.norm3.build((None, None, None, self.filters))
        if grid_shape[-1] != self.filters or self.strides > 1:
            self.conv_proj = self._conv(self.filters, 1, "conv_proj", self.strides)
            self.norm_proj = self._norm("norm_proj")
            self.conv_proj.build(grid_shape)
            self.norm_proj.build((None, None, None, self.filters))

    def call(self, grid, training=None):
        if self.remat and training:
            return rematerialize(self, self._forward, grid)
        return self._forward(grid)

    def _forward(self, x):
        y = ops.relu(self.norm1(self.conv1(x)))  # (B, H, W, F/4)
        y = ops.relu(self.norm2(self.conv2(y)))  # (B, h, w, F/4)
        y = self.norm3(self.conv3(y))  # (B, h, w, F)
        if self.conv_proj is not None:
            x = self.norm_proj(self.conv_proj(x))  # (B, h, w, F)
        return ops.relu(x + y)

    def compute_output_shape(self, grid_shape):
        return self.conv3.compute_output_shape(self.conv2.compute_output_shape(grid_shape))

    def cost(self, grid_shape):
        batch, h, w, _ = grid_shape
        inner = (batch, h, w, self.filters // 4)
        smaller = self.conv2.compute_output_shape(inner)
        output = self.compute_output_shape(grid_shape)
        size = output[1] * output[2] * self.filters
        total = self.conv1.cost(grid_shape) + self.conv2.cost(inner) + self.conv3.cost(smaller)
        normed = 2 * h * w * inner[-1] + 2 * smaller[1] * smaller[2] * inner[-1]
        total += Cost(activations=normed + 3 * size)  # norms, ReLUs, the sum
        if self.conv_proj is not None:
            total += self.conv_proj.cost(grid_shape) + Cost(activations=size)
        return total._replace(activations=size) if self.remat else total
