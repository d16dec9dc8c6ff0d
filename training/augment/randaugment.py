"""RandAugment and colour jitter: random changes of one uint8 image, drawn for every image.

Letters: H x W image size, C channels, 1 or 3.
"""

import math

import tensorflow as tf

from training.augment import pixels

LEVELS = 30  # magnitudes count from 0 to this
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
    """The function that applies so many operations, drawn anew for every image, to one image.

    The operations and what a magnitude means are torchvision's; the pixels are PIL's. That is not
    timm's "rand-m9", whose magnitudes count to 10 and whose colours only go further from the image
    with the magnitude in its "inc1" variant.

    Args:
        num_ops: int, operations for an image, one after another; the same may come twice.
        magnitude: int, 0 to 30.

    Returns:
        A function from a uint8 image (H, W, C) of known size and an integer seed (2,) to such an
        image.

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
        sign: 1 or -1: the direction of shears, shifts, turns and colours; others have none.

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
        # Not 1 + 0.9 level sign: that is a bit less than 0.4 where PIL has 0.4, and cuts to less.
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
    """The function that changes brightness, contrast and saturation of one image at random.

    Args:
        strengths: three floats of 0 or more, for brightness, contrast and saturation: a factor is
            drawn from [max(0, 1 - strength), 1 + strength].

    Returns:
        A function from a uint8 image (H, W, C) and an integer seed (2,) to such an image. The three
        follow each other in an order that is drawn, too, as in torchvision's `ColorJitter`.
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
