"""Patch embedding: cuts images into patches and projects each to a token.

Letters: B batch, H x W image size, C channels, p x q patch size, h x w grid of patches, N = h*w
tokens, D width.
"""

import keras
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import dense_cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.sublayer import direct
from keras_vit.layers.tokenwise import linear
from keras_vit.layers.validation import as_pair, check_count, check_images


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class PatchEmbedding(ConfiguredLayer):
    """Cuts images into non-overlapping patches and projects each linearly to a token.

    This equals a convolution with `kernel_size == strides == patch_size`, but is computed by a
    reshape and a matrix product (`benchmarks/patch_embedding.py` compares the two).

    Args:
        width: int, D, width of the tokens.
        patch_size: int or (p, q), patch size in pixels.
        use_bias: bool, whether the projection has a bias.
        drop_remainder: bool, whether pixels at the bottom and right that fill no patch are dropped,
            as in a convolution, instead of raising an error.

    Call arguments:
        images: float tensor (B, H, W, C), channels last, whatever `image_data_format` is. H and W
            must be multiples of the patch size, unless `drop_remainder` is True.

    Returns:
        Tokens (B, N, D), row by row from the top left patch.

    Raises:
        ValueError: if the input has another rank, or its size is not a multiple of the patch size
            (with `drop_remainder`, if it is smaller than a patch).

    Example:
        >>> PatchEmbedding(768, patch_size=16)(np.zeros((1, 224, 224, 3))).shape
        (1, 196, 768)

    Source: Dosovitskiy et al. 2021 (arXiv:2010.11929), equation 1.
    """

    def __init__(self, width, patch_size=16, use_bias=True, drop_remainder=False, **kwargs):
        super().__init__(**kwargs)
        check_count(width, "width")
        self.width = width
        self.patch_size = as_pair(patch_size, "patch_size")
        self.use_bias = use_bias
        self.drop_remainder = drop_remainder
        self.projection = keras.layers.Dense(
            width,
            use_bias=use_bias,
            kernel_initializer=Initial("lecun_normal"),
            dtype=self.dtype_policy,
            name="projection",
        )

    def build(self, images_shape):
        self._check(images_shape)
        p, q = self.patch_size
        self.projection.build((None, None, p * q * images_shape[-1]))

    def call(self, images):
        self._check(images.shape)
        _, height, width, c = ops.shape(images)
        p, q = self.patch_size
        h, w = height // p, width // q
        if self.drop_remainder:
            images = images[:, : h * p, : w * q]
        # B is stated if it is known: for -1 PyTorch's exporter would add a division.
        batch = -1 if images.shape[0] is None else images.shape[0]
        x = ops.reshape(images, (batch, h, p, w, q, c))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))  # (B, h, w, p, q, C)
        x = ops.reshape(x, (batch, h * w, p * q * c))  # (B, N, p*q*C)
        return linear(self.projection, x)  # (B, N, D)

    def compute_output_shape(self, images_shape):
        self._check(images_shape)
        sides = zip(images_shape[1:3], self.patch_size, strict=True)
        h, w = (None if side is None else side // patch for side, patch in sides)
        return (images_shape[0], None if h is None or w is None else h * w, self.width)

    def compute_token_layout(self, layout):
        """The `keras_vit.models.layout.TokenLayout` of the tokens, from that of the images."""
        return layout.in_patches(self.patch_size)

    def _check(self, images_shape):
        check_images(images_shape, self.patch_size, "PatchEmbedding", self.drop_remainder)

    def cost(self, images_shape):
        p, q = self.patch_size
        n = self.compute_output_shape(images_shape)[1]
        return dense_cost(n, p * q * images_shape[-1], self.width)
