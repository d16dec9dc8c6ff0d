"""Learned prefix tokens, and the conversion of patch tokens to a feature map.

Letters: B batch, N tokens, P prefix tokens, D width, h x w grid of patches.
"""

import keras
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.sublayer import direct
from keras_vit.layers.validation import as_pair, check_count, check_tokens


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class ClassToken(ConfiguredLayer):
    """Prepends learned tokens to the sequence: class, distillation or register tokens.

    Args:
        num_tokens: int, P, number of learned tokens.

    Call arguments:
        tokens: float tensor (B, N, D).

    Returns:
        Tokens (B, P + N, D), the learned ones first.

    Raises:
        ValueError: if `num_tokens` is not a positive integer, or the input has another rank.

    Example:
        >>> ClassToken()(np.zeros((2, 196, 768))).shape
        (2, 197, 768)

    Sources: Dosovitskiy et al. 2021 (arXiv:2010.11929), equation 1, for the class token; Touvron et
    al. 2021 (arXiv:2012.12877) for distillation; Darcet et al. 2024 (arXiv:2309.16588) for
    registers.
    """

    def __init__(self, num_tokens=1, **kwargs):
        super().__init__(**kwargs)
        check_count(num_tokens, "num_tokens")
        self.num_tokens = num_tokens

    def build(self, tokens_shape):
        check_tokens(tokens_shape, "ClassToken")
        self.tokens = self.add_weight(
            shape=(self.num_tokens, tokens_shape[-1]),
            # Not zeros: equal registers would get equal gradients and stay equal.
            initializer=Initial(keras.initializers.TruncatedNormal(stddev=0.02)),
            name="tokens",
        )

    def call(self, tokens):
        batch, _, width = ops.shape(tokens)
        learned = ops.cast(self.tokens, tokens.dtype)
        learned = ops.broadcast_to(learned, (batch, self.num_tokens, width))  # (B, P, D)
        return ops.concatenate([learned, tokens], axis=1)  # (B, P + N, D)

    def compute_output_shape(self, tokens_shape):
        batch, n, width = tokens_shape
        return (batch, None if n is None else self.num_tokens + n, width)

    def compute_token_layout(self, layout):
        return layout.prefixed(self.num_tokens)

    def cost(self, tokens_shape):
        _, n, width = self.compute_output_shape(tokens_shape)
        return Cost(activations=n * width)


@keras.saving.register_keras_serializable(package="keras_vit")
class TokensToGrid(ConfiguredLayer):
    """Removes the prefix tokens and reshapes the patch tokens to a feature map.

    Args:
        patch_size: int or (p, q), patch size in pixels.
        num_prefix_tokens: int, P, number of tokens before the patches.

    Call arguments:
        tokens: float tensor (B, P + h*w, D).
        images: tensor (B, H, W, C) that the patches were cut from; only its size is used.

    Returns:
        Feature map (B, h, w, D).

    Raises:
        ValueError: if `patch_size` or `num_prefix_tokens` is invalid.

    Example:
        >>> x, images = np.zeros((1, 197, 768)), np.zeros((1, 224, 224, 3))
        >>> TokensToGrid(patch_size=16, num_prefix_tokens=1)(x, images).shape
        (1, 14, 14, 768)
    """

    def __init__(self, patch_size=16, num_prefix_tokens=0, **kwargs):
        super().__init__(**kwargs)
        check_count(num_prefix_tokens, "num_prefix_tokens", minimum=0)
        self.patch_size = as_pair(patch_size, "patch_size")
        self.num_prefix_tokens = num_prefix_tokens

    def build(self, tokens_shape, images_shape=None):
        """Creates no weights. Files saved by version 0.1 build it from the shape of the tokens."""

    def call(self, tokens, images):
        _, height, width, _ = ops.shape(images)
        h, w = height // self.patch_size[0], width // self.patch_size[1]
        return ops.reshape(tokens[:, self.num_prefix_tokens :], (-1, h, w, tokens.shape[-1]))

    def compute_token_layout(self, layout):
        return layout.without_prefix()

    def compute_output_shape(self, tokens_shape, images_shape):
        check_tokens(tokens_shape, "TokensToGrid")
        sides = zip(images_shape[1:3], self.patch_size, strict=True)
        h, w = (None if side is None else side // patch for side, patch in sides)
        return (tokens_shape[0], h, w, tokens_shape[2])
