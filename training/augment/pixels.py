"""Colour and geometric operations on one uint8 image, with the results of PIL.

Letters: H x W image size, C channels, 1 or 3.
Source: Pillow, `ImageEnhance.py`, `ImageOps.py` and `libImaging/{Blend,Filter,Geometry}.c`.
"""

import math

import tensorflow as tf


def brightness(image, factor):
    """Changes brightness: 0 is black, 1 the original, above 1 brighter; (H, W, C) to (H, W, C)."""
    return _blend(0.0, image, factor)


def color(image, factor):
    """Changes saturation: 0 is grey, 1 the original; (H, W, C) to (H, W, C)."""
    channels = image.shape[-1]
    return _blend(tf.reshape(_grey(image, channels), image.shape), image, factor)


def contrast(image, factor):
    """Changes contrast: 0 is the mean grey, 1 the original; (H, W, C) to (H, W, C)."""
    return _blend(tf.floor(tf.reduce_mean(_grey(image, 1)) + 0.5), image, factor)


def sharpness(image, factor):
    """Changes sharpness: 0 is smoothed over 3 x 3 pixels, 1 the original; (H, W, C) to the same."""
    x = tf.cast(image, tf.float32)
    rows = x[:-2] + x[1:-1] + x[2:]
    box = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    smooth = tf.floor((box + 4.0 * x[1:-1, 1:-1]) / 13.0 + 0.5)
    inside = _blend(smooth, image[1:-1, 1:-1], factor)
    middle = tf.concat([image[1:-1, :1], inside, image[1:-1, -1:]], axis=1)
    return tf.concat([image[:1], middle, image[-1:]], axis=0)  # the border does not change


def posterize(image, bits):
    """Keeps the `bits` (int, 0..8) highest bits of every value."""
    return tf.bitwise.bitwise_and(image, tf.constant(256 - 2 ** (8 - bits), tf.uint8))


def solarize(image, threshold):
    """Inverts values at or above `threshold` (number, 0..255)."""
    inverted = image >= tf.constant(math.ceil(threshold), tf.uint8)
    return tf.bitwise.bitwise_xor(image, 255 * tf.cast(inverted, tf.uint8))


def autocontrast(image):
    """Stretches every channel to 0..255, except a channel with a single value."""
    low, high = (tf.cast(f(image, (0, 1)), tf.float32) for f in (tf.reduce_min, tf.reduce_max))
    scale = tf.where(high > low, 255.0 / tf.maximum(high - low, 1.0), 1.0)  # (C,)
    low = tf.where(high > low, low, 0.0)
    x = tf.matmul(_flat(image), tf.linalg.diag(scale))  # faster than a product that broadcasts
    # 1e-3 is for whole numbers that are rounded to slightly less.
    x = tf.nn.bias_add(x, 1e-3 - low * scale)
    return tf.cast(tf.reshape(tf.clip_by_value(x, 0.0, 255.0), image.shape), tf.uint8)


def equalize(image):
    """Equalises the histogram of every channel."""
    height, width, channels = image.shape
    index = tf.cast(tf.transpose(tf.reshape(image, (-1, channels))), tf.int32)  # (C, H W)
    counts = tf.math.bincount(index, minlength=256, maxlength=256, axis=-1)  # (C, 256)
    highest = tf.reduce_max(index, axis=1)
    step = (height * width - tf.gather(counts, highest, batch_dims=1)) // 255
    step = step[:, None]
    below = tf.cumsum(counts, axis=1, exclusive=True)
    table = tf.minimum((step // 2 + below) // tf.maximum(step, 1), 255)
    table = tf.cast(tf.where(step > 0, table, tf.range(256)), tf.uint8)  # (C, 256)
    return tf.reshape(tf.transpose(tf.gather(table, index, batch_dims=1)), image.shape)


def translate(image, right, down, most):
    """Shifts an image by whole pixels; pixels from outside the image are 0.

    Args:
        image: (H, W, C).
        right, down: ints or int32 scalars.
        most: int, upper bound of the absolute values of `right` and `down`.

    Returns:
        (H, W, C).
    """
    height, width, _ = image.shape
    padded = tf.pad(image, ((most, most), (most, most), (0, 0)))
    top, left = most - down, most - right
    return tf.ensure_shape(padded[top : top + height, left : left + width], image.shape)


def affine(image, matrix):
    """Applies an affine transform; pixels from outside the image are 0.

    Args:
        image: (H, W, C).
        matrix: six floats a, b, c, d, e, f: the output pixel with the centre (x, y) is the nearest
            input pixel to (a x + b y + c, d x + e y + f), with coordinates from the upper left
            corner of the image, as in PIL's `Image.transform`.

    Returns:
        (H, W, C), of the same dtype.
    """
    a, b, c, d, e, f = matrix
    # The origin of TensorFlow's op is the centre of the first pixel.
    from_x, from_y = c + (a + b - 1.0) / 2, f + (d + e - 1.0) / 2
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([a, b, from_x, d, e, from_y, 0.0, 0.0])[None],
        output_shape=image.shape[:2],
        fill_value=0.0,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )
    return tf.ensure_shape(moved[0], image.shape)


def rotate(image, angle):
    """Rotates by `angle` radians, counter-clockwise, about the centre of the image."""
    height, width, _ = image.shape
    x, y, cos, sin = width / 2, height / 2, tf.cos(angle), tf.sin(angle)
    return affine(image, (cos, -sin, x - x * cos + y * sin, sin, cos, y - x * sin - y * cos))


def as_bytes(image):
    """Rounds an image with pixels 0..255 to uint8."""
    if image.dtype == tf.uint8:
        return image
    return tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8)


def _blend(other, image, factor):
    """Interpolates from `other` (0) to `image` (1) and beyond; truncates, like PIL."""
    other = tf.cast(other, tf.float32)
    mixed = other + factor * (tf.cast(image, tf.float32) - other)
    return tf.cast(tf.clip_by_value(mixed, 0.0, 255.0), tf.uint8)


def _grey(image, times):
    """Grey as in PIL's mode L, whole numbers, repeated: (H, W, C) to float32 (H W, times)."""
    if image.shape[-1] == 1:
        return _flat(image)
    weights = tf.repeat(tf.constant([[19595.0], [38470.0], [7471.0]]), times, axis=1)
    # All products and sums are whole numbers below 2**24 and therefore exact.
    return tf.floor((tf.matmul(_flat(image), weights) + 32768.0) / 65536.0)


def _flat(image):
    """float32 (H W, C)."""
    return tf.cast(tf.reshape(image, (-1, image.shape[-1])), tf.float32)
