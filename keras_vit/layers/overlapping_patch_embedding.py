"""Patch embedding with overlapping patches.

Letters: B batch, H x W size, C channels, h x w smaller grid, D width.
"""

import keras
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.validation import check_count, check_grid


@keras.saving.register_keras_serializable(package="keras_vit")
class OverlappingPatchEmbedding(ConfiguredLayer):
    """Embeds overlapping patches of images or feature maps, with a strided convolution.

    The input is padded with `patch_size // 2` zeros on each side. (Keras's "same" pads fewer before
    than after.) It may have any size.

    Args:
        width: int, D, channels of the output.
        patch_size: int, side of a patch; odd, so that patches are centred.
        stride: int, distance between the patches.

    Call arguments:
        images: float tensor (B, H, W, C), channels last, whatever `image_data_format` is.

    Returns:
        Feature map (B, h, w, D), where h is H / stride, rounded up.

    Raises:
        ValueError: if `patch_size` is even, or the input has another rank.

    Example:
        >>> OverlappingPatchEmbedding(64, patch_size=7, stride=4)(np.zeros((1, 224, 224, 3))).shape
        (1, 56, 56, 64)

    Source: Wang et al. 2022 (arXiv:2106.13797), section 3.3.
    """

    def __init__(self, width, patch_size=7, stride=4, **kwargs):
        super().__init__(**kwargs)
        for name, value in (("width", width), ("patch_size", patch_size), ("stride", stride)):
            check_count(value, name)
        if patch_size % 2 == 0:
            raise ValueError(
                f"patch_size must be odd, so that patches are centred. "
                f"Received: patch_size={patch_size}"
            )
        self.width = width
        self.patch_size = patch_size
        self.stride = stride
        self.projection = keras.layers.Conv2D(
            width,
            patch_size,
            strides=stride,
            padding="valid",
            data_format="channels_last",
            kernel_initializer=he_normal_of_outputs(),
            dtype=self.dtype_policy,
            name="projection",
        )

    def build(self, images_shape):
        check_grid(images_shape, 1, "OverlappingPatchEmbedding")
        self.projection.build((None, None, None, images_shape[-1]))

    def call(self, images):
        border = (self.patch_size // 2, self.patch_size // 2)
        return self.projection(ops.pad(images, ((0, 0), border, border, (0, 0))))

    def compute_output_shape(self, images_shape):
        check_grid(images_shape, 1, "OverlappingPatchEmbedding")
        batch, *sides, _ = images_shape
        h, w = (None if side is None else (side - 1) // self.stride + 1 for side in sides)
        return (batch, h, w, self.width)

    def compute_token_layout(self, layout):
        return layout.in_patches(self.stride, round_up=True)

    def cost(self, images_shape):
        _, h, w, _ = self.compute_output_shape(images_shape)
        macs = h * w * self.patch_size**2 * images_shape[-1] * self.width
        return Cost(macs=macs, activations=h * w * self.width)


def he_normal_of_outputs():
    """He normal by fan-out (variance 2 / fan_out), the initializer of PVT v2's convolutions."""
    return Initial(keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"))
