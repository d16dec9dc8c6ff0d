"""Patch merging, which halves the resolution of a feature map between stages.

Letters: B batch, h x w map, D width.
"""

import keras
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost, dense_cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.sublayer import direct, sublayer
from keras_vit.layers.tokenwise import LayerNormalization, linear
from keras_vit.layers.validation import check_choice, check_map
from keras_vit.ops.shapes import reshape


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class PatchMerging(ConfiguredLayer):
    """Concatenates each 2 x 2 neighbourhood (4D channels) and projects it to 2D channels.

    Maps with an odd side are padded with zeros at the bottom and right.

    Args:
        version: 1 to normalise before the projection (4D channels), 2 to normalise after it (2D).
        norm_epsilon: float, epsilon of the layer normalisation.

    Call arguments:
        x: float tensor (B, h, w, D).

    Returns:
        Map (B, ⌈h/2⌉, ⌈w/2⌉, 2D).

    Raises:
        ValueError: if the version is unknown, or the input has another rank.

    Example:
        >>> PatchMerging()(np.zeros((1, 56, 56, 96))).shape
        (1, 28, 28, 192)

    Sources: Liu et al. 2021 (arXiv:2103.14030), section 3.1; Liu et al. 2022 (arXiv:2111.09883).
    """

    def __init__(self, version=1, norm_epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        check_choice(version, "version", (1, 2))
        self.version = version
        self.norm_epsilon = norm_epsilon
        self.norm = LayerNormalization(epsilon=norm_epsilon, name="norm", dtype=self.dtype_policy)

    def build(self, x_shape):
        check_map(x_shape, "PatchMerging")
        width = x_shape[-1]
        self.reduction = keras.layers.Dense(
            2 * width,
            use_bias=False,
            kernel_initializer=Initial(keras.initializers.TruncatedNormal(stddev=0.02)),
            dtype=self.dtype_policy,
            name="reduction",
        )
        self.reduction.build((None, None, None, 4 * width))
        self.norm.build((None, None, None, 4 * width if self.version == 1 else 2 * width))

    def call(self, x):
        _, h, w, width = ops.shape(x)
        if not (isinstance(h, int) and isinstance(w, int) and h % 2 == w % 2 == 0):
            x = ops.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
            h, w = h + h % 2, w + w % 2
        x = reshape(x, (-1, h // 2, 2, w // 2, 2, width))
        x = ops.transpose(x, (0, 1, 3, 4, 2, 5))  # (B, h/2, w/2, columns, rows, D)
        x = reshape(x, (-1, h // 2, w // 2, 4 * width))
        if self.version == 1:
            return linear(self.reduction, sublayer(self.norm, x))
        return sublayer(self.norm, linear(self.reduction, x))

    def compute_output_shape(self, x_shape):
        batch, h, w, width = x_shape
        h, w = (None if side is None else (side + 1) // 2 for side in (h, w))
        return (batch, h, w, 2 * width)

    def compute_token_layout(self, layout):
        return layout.in_patches(2, round_up=True)

    def cost(self, x_shape):
        _, h, w, width = self.compute_output_shape(x_shape)
        norm = Cost(activations=h * w * width * (2 if self.version == 1 else 1))
        return dense_cost(h * w, 2 * width, width) + norm
