"""Convolution with weight standardisation.

Letters: B batch, H x W size, C channels, h x w smaller grid, F filters.
"""

import keras
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.validation import check_choice, check_count, check_grid

# Whose epsilons to use: those of the authors' code (JAX), or of timm, which has the same weights.
CONVENTIONS = ("authors", "timm")
GROUP_NORM_EPSILON = {"authors": 1e-6, "timm": 1e-5}


@keras.saving.register_keras_serializable(package="keras_vit")
class StandardizedConv2D(ConfiguredLayer):
    """A convolution without bias whose filters are standardised to mean 0 and variance 1.

    Borders are padded with zeros like TensorFlow's "same": an odd number of zeros has the extra one
    at the end. Filters are standardised in float32 under every dtype policy.

    Args:
        filters: int, F.
        kernel_size: int, side of the filters.
        strides: int, stride of the convolution.
        convention: "authors" to divide a filter by its standard deviation + 1e-5, or "timm" to
            divide it by the square root of its variance + 1e-8.

    Call arguments:
        grid: float tensor (B, H, W, C), channels last, whatever `image_data_format` is.

    Returns:
        Feature map (B, h, w, F), where h is H / strides, rounded up.

    Raises:
        ValueError: if the convention is unknown, or the input has another rank.

    Example:
        >>> StandardizedConv2D(64, 7, strides=2)(np.zeros((1, 224, 224, 3))).shape
        (1, 112, 112, 64)

    Sources: Qiao et al. 2019 (arXiv:1903.10520); Kolesnikov et al. 2020 (arXiv:1912.11370), section
    2.1.
    """

    def __init__(self, filters, kernel_size, strides=1, convention="authors", **kwargs):
        super().__init__(**kwargs)
        counts = {"filters": filters, "kernel_size": kernel_size, "strides": strides}
        for name, value in counts.items():
            check_count(value, name)
        check_choice(convention, "convention", CONVENTIONS)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.convention = convention

    def build(self, grid_shape):
        check_grid(grid_shape, 1, "StandardizedConv2D")
        self.kernel = self.add_weight(
            shape=(self.kernel_size, self.kernel_size, grid_shape[-1], self.filters),
            initializer=Initial("lecun_normal"),
            autocast=False,
            name="kernel",
        )

    def call(self, grid):
        kernel = ops.convert_to_tensor(self.kernel)
        centred = kernel - ops.mean(kernel, axis=(0, 1, 2), keepdims=True)
        variance = ops.mean(ops.square(centred), axis=(0, 1, 2), keepdims=True)
        if self.convention == "timm":
            kernel = centred * ops.rsqrt(variance + 1e-8)
        else:
            kernel = centred / (ops.sqrt(variance) + 1e-5)
        kernel = ops.cast(kernel, grid.dtype)
        padding = "same"
        if keras.backend.backend() == "torch" and self.strides > 1:
            grid, padding = self._padded(grid), "valid"
        return ops.conv(grid, kernel, self.strides, padding, data_format="channels_last")

    def _padded(self, grid):
        """Pads like "same", with sizes that PyTorch's exporter can trace."""
        sides = []
        for side in ops.shape(grid)[1:3]:
            zeros = max(self.kernel_size - (side % self.strides or self.strides), 0)
            sides.append((zeros // 2, zeros - zeros // 2))
        return ops.pad(grid, ((0, 0), *sides, (0, 0)))

    def compute_output_shape(self, grid_shape):
        check_grid(grid_shape, 1, "StandardizedConv2D")
        batch, *sides, _ = grid_shape
        h, w = (None if side is None else -(-side // self.strides) for side in sides)
        return (batch, h, w, self.filters)

    def cost(self, grid_shape):
        _, h, w, filters = self.compute_output_shape(grid_shape)
        macs = h * w * self.kernel_size**2 * grid_shape[-1] * filters
        return Cost(macs=macs, activations=h * w * filters)
