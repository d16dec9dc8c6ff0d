"""The first layers of ResNet, before its stages.

Letters: B batch, H x W image size, C channels, h x w map, F filters.
"""

import keras
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost
from keras_vit.layers.frozen_batch_normalization import batch_normalization
from keras_vit.layers.overlapping_patch_embedding import he_normal_of_outputs
from keras_vit.layers.validation import check_count, check_grid


@keras.saving.register_keras_serializable(package="keras_vit")
class ResNetStem(ConfiguredLayer):
    """A 7 x 7 convolution with batch normalisation and ReLU, and a 3 x 3 max pooling.

    Both have stride 2 and are padded alike on all sides.

    Args:
        filters: int, F.
        batch_norm: "learning" or "frozen" (statistics, scale and offset are fixed).

    Call arguments:
        images: float tensor (B, H, W, C), channels last, whatever `image_data_format` is.
        training: bool, whether to normalise with the statistics of the batch.

    Returns:
        Feature map (B, h, w, F), where h is H / 4, rounded up.

    Raises:
        ValueError: if `batch_norm` is unknown, or the input has another rank.

    Example:
        >>> ResNetStem(64)(np.zeros((1, 224, 224, 3))).shape
        (1, 56, 56, 64)

    Source: He et al. 2016 (arXiv:1512.03385), table 1.
    """

    def __init__(self, filters, batch_norm="learning", **kwargs):
        super().__init__(**kwargs)
        check_count(filters, "filters")
        self.filters = filters
        self.conv = keras.layers.Conv2D(
            filters,
            7,
            strides=2,
            padding="valid",  # `call` pads: "same" has fewer zeros before than after
            data_format="channels_last",
            use_bias=False,
            kernel_initializer=he_normal_of_outputs(),
            name="conv",
            dtype=self.dtype_policy,
        )
        self.norm = batch_normalization(batch_norm, name="norm", dtype=self.dtype_policy)

    def build(self, images_shape):
        check_grid(images_shape, 1, "ResNetStem")
        self.conv.build((None, None, None, images_shape[-1]))
        self.norm.build((None, None, None, self.filters))

    def call(self, images, training=None):
        x = self.conv(ops.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0))))  # (B, H/2, W/2, F)
        x = ops.relu(self.norm(x, training=training))
        # A ReLU gives no value below 0, so zeros around the map do not change a maximum.
        x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return ops.max_pool(x, 3, 2, "valid", data_format="channels_last")  # (B, H/4, W/4, F)

    def compute_output_shape(self, images_shape):
        check_grid(images_shape, 1, "ResNetStem")
        batch, *sides, _ = images_shape
        h, w = (None if side is None else -(-side // 4) for side in sides)
        return (batch, h, w, self.filters)

    def compute_token_layout(self, layout):
        return layout.in_patches(4, round_up=True)

    def cost(self, images_shape):
        _, h, w, channels = images_shape
        halved = -(-h // 2) * -(-w // 2) * self.filters
        _, h, w, _ = self.compute_output_shape(images_shape)
        # convolution, normalisation and ReLU; pooling
        return Cost(halved * 7 * 7 * channels, 3 * halved + h * w * self.filters)
