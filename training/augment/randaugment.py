"""RandAugment and colour jitter of one uint8 image, as functions of image and seed.

Letters: H x W image size, C channels, 1 or 3.
"""

import math

import tensorflow as tf

from . import pixels

LEVELS = 30  # the largest magnitude
OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)


def randaugment(num_ops, magnitude):
    """Returns a function that applies random operations to one image.

    Operations and magnitudes are those of torchvision, and pixels are computed like in PIL. timm's
    "rand-m9" differs: its magnitudes go to 10, and the strength of its colour operations increases
    with the magnitude only in the variant "inc1".

    Args:
        num_ops: int, number of operations per image, drawn with replacement.
        magnitude: int, 0 to 30.

    Returns:
        A function from a uint8 image (H, W, C) of known size and an integer seed (2,) to a uint8
        image (H, W, C).

    Example:
        >>> randaugment(num_ops=2, magnitude=9)(image, seed=(0, 1)).shape
        TensorShape([224, 224, 3])

    Sources: Cubuk et al. 2020 (arXiv:1909.13719); torchvision `transforms/autoaugment.py`,
    `RandAugment._augmentation_space`.
    """

    def augment(image, seed):
        draws = tf.random.stateless_uniform((num_ops,), seed, 0, 2 * len(OPERATIONS), tf.int32)
        for i in range(num_ops):
            sign = 1.0 - 2.0 * tf.cast(draws[i] % 2, tf.float32)
            branches = [
                lambda name=name, x=image, sign=sign: operation(name, x, magnitude, sign)
                for name in OPERATIONS
            ]
            shape = image.shape
            image = tf.ensure_shape(tf.switch_case(draws[i] // 2, branches), shape)
        return image

    return augment


def operation(name, image, magnitude, sign=1.0):
    """Applies one of `OPERATIONS`.

    Args:
        name: str.
        image: uint8 (H, W, C).
        magnitude: int, 0 to 30.
        sign: 1 or -1, the direction of shears, shifts, rotations and colour operations; ignored by
            others.

    Returns:
        uint8 (H, W, C).
    """
    height, width, _ = image.shape
    level = magnitude / LEVELS
    if name == "shear_x":
        return pixels.affine(image, (1.0, 0.3 * level * sign, 0.0, 0.0, 1.0, 0.0))
    if name == "shear_y":
        return pixels.affine(image, (1.0, 0.0, 0.0, 0.3 * level * sign, 1.0, 0.0))
    if name == "translate_x":
        shift = math.floor(150 / 331 * width * level)
        return pixels.translate(image, tf.cast(sign, tf.int32) * shift, 0, shift)
    if name == "translate_y":
        shift = math.floor(150 / 331 * height * level)
        return pixels.translate(image, 0, tf.cast(sign, tf.int32) * shift, shift)
    if name == "rotate":
        return pixels.rotate(image, math.radians(30 * level) * sign)
    if name in ("brightness", "color", "contrast", "sharpness"):
        # Not 1 + 0.9 * level * sign, which may be slightly below PIL's factor and truncate to less.
        factor = tf.where(sign > 0, 1.0 + 0.9 * level, 1.0 - 0.9 * level)
        return getattr(pixels, name)(image, factor)
    if name == "posterize":
        return pixels.posterize(image, 8 - round(4 * level))
    if name == "solarize":
        return pixels.solarize(image, 255.0 * (1 - level))
    if name in ("autocontrast", "equalize"):
        return getattr(pixels, name)(image)
    return image


def color_jitter(strengths):
    """Returns a function that randomly changes brightness, contrast and saturation of one image.

    Args:
        strengths: three floats of 0 or more, for brightness, contrast and saturation: a factor is
            drawn from [max(0, 1 - strength), 1 + strength].

    Returns:
        A function from a uint8 image (H, W, C) and an integer seed (2,) to a uint8 image (H, W, C).
        The three changes are applied in a random order, as in torchvision's `ColorJitter`.
    """
    changes = (pixels.brightness, pixels.contrast, pixels.color)

    def augment(image, seed):
        low = [max(0.0, 1.0 - strength) for strength in strengths]
        high = [1.0 + strength for strength in strengths]
        draws = tf.random.stateless_uniform((6,), seed)
        factors = low + draws[:3] * [b - a for a, b in zip(low, high, strict=True)]
        order = tf.argsort(draws[3:])
        for place in range(3):
            branches = [
                lambda i=i, change=change, x=image: change(x, factors[i])
                for i, change in enumerate(changes)
            ]
            shape = image.shape
            image = tf.ensure_shape(tf.switch_case(order[place], branches), shape)
        return image

    return augment
