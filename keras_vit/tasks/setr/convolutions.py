"""The convolutions of SETR's decoders, with batch normalisation and ReLU.

Letters: B batch, h x w grid, D width of the input, F filters.
"""

import keras
from keras import ops

from keras_vit.layers.batch_normalization import BatchNormalization
from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost
from keras_vit.layers.initializers import Initial


class Convolution(keras.layers.Conv2D):
    """`Conv2D` on maps (B, h, w, D) that keeps h and w, with sizes that every exporter can trace.

    Args:
        filters, kernel_size: ints; the kernel size is odd.
        kwargs: arguments of `keras.layers.Conv2D`.
    """

    def __init__(self, filters, kernel_size, **kwargs):
        super().__init__(
            filters,
            kernel_size,
            **{"kernel_initializer": Initial("he_normal"), **kwargs},
            padding="valid",
            data_format="channels_last",
        )

    def call(self, grid):
        border = self.kernel_size[0] // 2
        if border:
            grid = ops.pad(grid, ((0, 0), (border, border), (border, border), (0, 0)))
        return super().call(grid)

    def compute_output_shape(self, grid_shape):
        return (*grid_shape[:-1], self.filters)

    def cost(self, grid_shape):
        _, h, w, width = grid_shape
        macs = h * w * self.kernel_size[0] ** 2 * width * self.filters
        return Cost(macs=macs, activations=h * w * self.filters)


class NormalizedConvolution(ConfiguredLayer):
    """A convolution, batch normalisation and ReLU, on maps (B, h, w, D) -> (B, h, w, F).

    Args:
        filters: int, F.
        kernel_size: int, odd.
        use_bias: bool, whether the convolution has a bias before the normalisation.
    """

    def __init__(self, filters, kernel_size, use_bias=False, **kwargs):
        super().__init__(**kwargs)
        part = {"dtype": self.dtype_policy}
        self.conv = Convolution(filters, kernel_size, use_bias=use_bias, name="conv", **part)
        self.norm = BatchNormalization(name="norm", **part)

    def build(self, grid_shape):
        self.conv.build(grid_shape)
        self.norm.build(self.conv.compute_output_shape(grid_shape))

    def call(self, grid, training=None):
        return ops.relu(self.norm(self.conv(grid), training=training))

    def compute_output_shape(self, grid_shape):
        return self.conv.compute_output_shape(grid_shape)

    def cost(self, grid_shape):
        cost = self.conv.cost(grid_shape)
        return cost + Cost(activations=2 * cost.activations)


def classifier(num_classes, kernel_size=1, **kwargs):
    """The convolution to logits."""
    initializer = Initial(keras.initializers.RandomNormal(stddev=0.01))
    return Convolution(
        num_classes, kernel_size, kernel_initializer=initializer, name="classifier", **kwargs
    )
