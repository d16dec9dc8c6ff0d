"""Removes random patches before the encoder, and fills their places before the decoder.

Letters: B batch, P prefix tokens, N patches, K of them stay, D width of the encoder, F width of the
decoder.
"""

import keras
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.validation import check_count
from keras_vit.ops.masking import masked_order, take_tokens
from keras_vit.tasks.masks import DrawsMasks


def count_kept(n, mask_ratio):
    """K, of so many patches; rounded down, as the authors do."""
    return int(n * (1 - mask_ratio))


class RandomMasking(DrawsMasks):
    """Removes a random share of the patches of every image.

    Args:
        mask_ratio: float in (0, 1), share of the patches that is removed.
        num_prefix_tokens: int, P, tokens before the patches, which always stay.
        seed: int.

    Call arguments:
        tokens: float tensor (B, P + N, D).
        noise: float tensor (B, N), or None to draw one; the K smallest stay.
        training: bool.

    Returns:
        (tokens (B, P + K, D); mask (B, N), float32, 1 where a patch is removed; int tensor (B, N),
        the place of every patch among the shuffled ones).
    """

    def __init__(self, mask_ratio=0.75, num_prefix_tokens=0, seed=0, **kwargs):
        super().__init__(mask_ratio, seed, **kwargs)
        self.num_prefix_tokens = num_prefix_tokens

    def build(self, tokens_shape, noise_shape=None):
        n = tokens_shape[1]
        if n is not None:
            n -= self.num_prefix_tokens
            kept = count_kept(n, self.mask_ratio)
            if kept < 1:
                raise ValueError(
                    "mask_ratio must leave at least one patch. Received: "
                    f"mask_ratio={self.mask_ratio} for {n} patches, of which {kept} would stay"
                )

    def call(self, tokens, noise=None, training=None):
        prefix, patches = (
            tokens[:, : self.num_prefix_tokens],
            tokens[:, self.num_prefix_tokens :],
        )
        batch, n, _ = ops.shape(patches)
        if noise is None:
            noise = self.noise(batch, n, training)
        kept, places, mask = masked_order(noise, self._count(n))
        x = take_tokens(patches, kept)
        return ops.concatenate([prefix, x], axis=1), mask, places

    def _count(self, n):
        if isinstance(n, int):
            return count_kept(n, self.mask_ratio)
        return ops.cast(ops.cast(n, "float64") * (1 - self.mask_ratio), "int32")  # known in a run

    def cost(self, tokens_shape, noise_shape=None):
        _, n, width = tokens_shape
        kept = count_kept(n - self.num_prefix_tokens, self.mask_ratio)
        return Cost(activations=(self.num_prefix_tokens + kept) * width)


class MaskTokens(ConfiguredLayer):
    """Puts the patches back in their places, and a learned token where one was removed.

    Args:
        num_prefix_tokens: int, P.

    Call arguments:
        tokens: float tensor (B, P + K, F).
        places: int tensor (B, N), as `RandomMasking` returns it.

    Returns:
        Tokens (B, P + N, F).
    """

    def __init__(self, num_prefix_tokens=0, **kwargs):
        super().__init__(**kwargs)
        check_count(num_prefix_tokens, "num_prefix_tokens", minimum=0)
        self.num_prefix_tokens = num_prefix_tokens

    def build(self, tokens_shape, places_shape):
        self.token = self.add_weight(
            shape=(1, tokens_shape[-1]),
            initializer=Initial(keras.initializers.RandomNormal(stddev=0.02)),
            name="token",
        )

    def call(self, tokens, places):
        prefix, visible = (
            tokens[:, : self.num_prefix_tokens],
            tokens[:, self.num_prefix_tokens :],
        )
        batch, kept, width = ops.shape(visible)
        token = ops.cast(self.token, tokens.dtype)
        removed = ops.broadcast_to(token, (batch, ops.shape(places)[1] - kept, width))
        shuffled = ops.concatenate([visible, removed], axis=1)  # (B, N, F)
        return ops.concatenate([prefix, take_tokens(shuffled, places)], axis=1)

    def compute_output_shape(self, tokens_shape, places_shape):
        batch, n = places_shape
        return (batch, n and self.num_prefix_tokens + n, tokens_shape[-1])

    def cost(self, tokens_shape, places_shape):
        _, n, width = self.compute_output_shape(tokens_shape, places_shape)
        return Cost(activations=n * width)
