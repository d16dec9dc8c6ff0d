"""Masks of square units of an image, and the mask token in the place of hidden patches.

Letters: B batch, H x W image size, C channels, u x v grid of units, N patches, D width.
"""

import math

import keras
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost
from keras_vit.layers.initializers import Initial
from keras_vit.ops.masking import masked_order
from keras_vit.tasks.masks import DrawsMasks


def enlarged(units, times):
    """Repeats every value of a mask of units (B, u, v) so often along both axes, a pair."""
    return ops.repeat(ops.repeat(units, times[0], axis=1), times[1], axis=2)


class UnitMasking(DrawsMasks):
    """Draws which units of each image are hidden.

    Args:
        mask_ratio: float in (0, 1), share of the units that is hidden, rounded up.
        unit: int, side of a unit in pixels.
        seed: int.

    Call arguments:
        images: tensor (B, H, W, C); only its size is used.
        noise: float tensor (B, u*v), or None to draw one; the smallest stay.
        training: bool.

    Returns:
        Mask (B, u, v), float32, 1 where a unit is hidden.
    """

    def __init__(self, mask_ratio=0.6, unit=32, seed=0, **kwargs):
        super().__init__(mask_ratio, seed, **kwargs)
        self.unit = unit

    def build(self, images_shape, noise_shape=None):
        """Creates no weights."""

    def call(self, images, noise=None, training=None):
        batch, height, width, _ = ops.shape(images)
        u, v = height // self.unit, width // self.unit
        if noise is None:
            noise = self.noise(batch, u * v, training)
        _, _, mask = masked_order(noise, u * v - math.ceil(u * v * self.mask_ratio))
        return ops.reshape(mask, (-1, u, v))

    def compute_output_spec(self, images, noise=None, training=None):
        batch, height, width, _ = images.shape
        sides = (side and side // self.unit for side in (height, width))
        return keras.KerasTensor((batch, *sides), "float32")

    def cost(self, images_shape, noise_shape=None):
        return Cost()


class HideUnits(ConfiguredLayer):
    """Sets the pixels of hidden units to zero, so that nothing beside them can read them.

    Args:
        unit: int, side of a unit in pixels.

    Call arguments:
        images: float tensor (B, H, W, C), normalised.
        units: float tensor (B, u, v), 1 where a unit is hidden.

    Returns:
        Images (B, H, W, C).
    """

    def __init__(self, unit, **kwargs):
        super().__init__(**kwargs)
        self.unit = unit

    def build(self, images_shape, units_shape):
        """Creates no weights."""

    def call(self, images, units):
        hidden = ops.cast(enlarged(units, (self.unit, self.unit)), images.dtype)
        return images * (1 - hidden[..., None])

    def compute_output_shape(self, images_shape, units_shape):
        return images_shape

    def cost(self, images_shape, units_shape):
        return Cost(activations=math.prod(images_shape[1:]))


class MaskedEmbedding(ConfiguredLayer):
    """Puts a learned token in the place of the patches of hidden units.

    Args:
        times: (int, int), how many patches a unit has along each axis.

    Call arguments:
        patches: float tensor (B, N, D), or a map (B, h, w, D).
        units: float tensor (B, u, v), 1 where a unit is hidden.

    Returns:
        Float tensor of the shape of `patches`.
    """

    def __init__(self, times, **kwargs):
        super().__init__(**kwargs)
        self.times = tuple(times)

    def build(self, patches_shape, units_shape):
        self.token = self.add_weight(
            shape=(patches_shape[-1],),
            initializer=Initial(keras.initializers.TruncatedNormal(stddev=0.02)),
            name="token",
        )

    def call(self, patches, units):
        hidden = ops.cast(enlarged(units, self.times), patches.dtype)  # (B, h, w)
        if len(patches.shape) == 3:
            hidden = ops.reshape(hidden, (-1, ops.shape(patches)[1]))
        hidden = hidden[..., None]
        return patches * (1 - hidden) + ops.cast(self.token, patches.dtype) * hidden

    def compute_output_shape(self, patches_shape, units_shape):
        return patches_shape

    def cost(self, patches_shape, units_shape):
        return Cost(activations=math.prod(patches_shape[1:]))


class MaskOfPatches(ConfiguredLayer):
    """The mask of the patches that are predicted: (B, u, v) -> (B, N).

    Args:
        times: (int, int), how many of these patches a unit has along each axis.
    """

    def __init__(self, times, **kwargs):
        super().__init__(**kwargs)
        self.times = tuple(times)

    def call(self, units):
        hidden = enlarged(units, self.times)
        _, h, w = ops.shape(hidden)
        return ops.reshape(hidden, (-1, h * w))

    def compute_output_shape(self, units_shape):
        batch, u, v = units_shape
        n = None if None in (u, v) else u * self.times[0] * v * self.times[1]
        return (batch, n)

    def cost(self, units_shape):
        return Cost()


class FeaturesOfPatches(ConfiguredLayer):
    """Drops prefix tokens, or flattens a map: (B, P + N, D) or (B, h, w, D) -> (B, N, D).

    Args:
        num_prefix_tokens: int, P, of tokens.
    """

    def __init__(self, num_prefix_tokens=0, **kwargs):
        super().__init__(**kwargs)
        self.num_prefix_tokens = num_prefix_tokens

    def call(self, features):
        if len(features.shape) == 3:
            return features[:, self.num_prefix_tokens :]
        _, h, w, width = ops.shape(features)
        return ops.reshape(features, (-1, h * w, width))

    def compute_output_shape(self, shape):
        if len(shape) == 3:
            batch, n, width = shape
            return (batch, n and n - self.num_prefix_tokens, width)
        batch, h, w, width = shape
        return (batch, None if None in (h, w) else h * w, width)

    def cost(self, shape):
        return Cost()
