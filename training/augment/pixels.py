"""Changes of colours and places of one uint8 image, each meaning what PIL's means.

Letters: H x W image size, C channels, 1 or 3.
Source: Pillow, `ImageEnhance.py`, `ImageOps.py` and `libImaging/{Blend,Filter,Geometry}.c`.
"""

import math

import tensorflow as tf


def brightness(image, factor):
    """From black (0) over the image as it is (1) to brighter; (H, W, C) to (H, W, C)."""
    return _blend(0.0, image, factor)


def color(image, factor):
    """From grey (0) over the image as it is (1) to more saturated; (H, W, C) to (H, W, C)."""
    channels = image.shape[-1]
    return _blend(tf.reshape(_grey(image, channels), image.shape), image, factor)


def contrast(image, factor):
    """From its mean grey (0) over the image as it is (1) to more contrast."""
    return _blend(tf.floor(tf.reduce_mean(_grey(image, 1)) + 0.5), image, factor)


def sharpness(image, factor):
    """From smoothed by 3 x 3 pixels (0) over the image as it is (1) to sharper."""
    x = tf.cast(image, tf.float32)
    rows = x[:-2] + x[1:-1] + x[2:]
    box = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    smooth = tf.floor((box + 4.0 * x[1:-1, 1:-1]) / 13.0 + 0.5)
    inside = _blend(smooth, image[1:-1, 1:-1], factor)
    middle = tf.concat([image[1:-1, :1], inside, image[1:-1, -1:]], axis=1)
    return tf.concat([image[:1], middle, image[-1:]], axis=0)  # the border stays as it is


def posterize(image, bits):
    """Keeps the `bits` (int, 0..8) highest bits of every value."""
    return tf.bitwise.bitwise_and(image, tf.constant(256 - 2 ** (8 - bits), tf.uint8))


def solarize(image, threshold):
    """Inverts the values that are not below `threshold` (number, 0..255)."""
    inverted = image >= tf.constant(math.ceil(threshold), tf.uint8)
    return tf.bitwise.bitwise_xor(image, 255 * tf.cast(inverted, tf.uint8))


def autocontrast(image):
    """Stretches every channel to 0..255; one that holds a single value stays as it is."""
    low, high = (tf.cast(f(image, (0, 1)), tf.float32) for f in (tf.reduce_min, tf.reduce_max))
    scale = tf.where(high > low, 255.0 / tf.maximum(high - low, 1.0), 1.0)  # (C,)
    low = tf.where(high > low, low, 0.0)
    x = tf.matmul(_flat(image), tf.linalg.diag(scale))  # quicker than a product that broadcasts
    # The little more is for products that are whole numbers and come out just below.
    x = tf.nn.bias_add(x, 1e-3 - low * scale)
    return tf.cast(tf.reshape(tf.clip_by_value(x, 0.0, 255.0), image.shape), tf.uint8)


def equalize(image):
    """Changes every channel's values so that all are about equally frequent."""
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
    """Shifts by whole pixels; what comes from outside the image is 0.

    Args:
        image: (H, W, C).
        right, down: ints or int32 scalars.
        most: int, not below either's absolute value.

    Returns:
        (H, W, C).
    """
    height, width, _ = image.shape
    padded = tf.pad(image, ((most, most), (most, most), (0, 0)))
    top, left = most - down, most - right
    return tf.ensure_shape(padded[top : top + height, left : left + width], image.shape)


def affine(image, matrix):
    """Takes every pixel from where `matrix` says; what comes from outside the image is 0.

    Args:
        image: (H, W, C).
        matrix: six floats a, b, c, d, e, f: the middle of pixel (column x, row y) comes from
            (a x + b y + c, d x + e y + f), all counted from the image's upper left corner, and the
            pixel there is taken (nearest neighbour), as in PIL's `Image.transform`.

    Returns:
        (H, W, C), of the same dtype.
    """
    a, b, c, d, e, f = matrix
    # TensorFlow's op counts from the middle of the first pixel.
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
    """Turns by `angle` radians, counter-clockwise, about the image's middle."""
    height, width, _ = image.shape
    x, y, cos, sin = width / 2, height / 2, tf.cos(angle), tf.sin(angle)
    return affine(image, (cos, -sin, x - x * cos + y * sin, sin, cos, y - x * sin - y * cos))


def as_bytes(image):
    """uint8 of any image with pixels 0..255; the nearest value."""
    if image.dtype == tf.uint8:
        return image
    return tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8)


def _blend(other, image, factor):
    """`other` (0) to `image` (1) and beyond; cut to whole numbers as PIL does, not rounded."""
    other = tf.cast(other, tf.float32)
    mixed = other + factor * (tf.cast(image, tf.float32) - other)
    return tf.cast(tf.clip_by_value(mixed, 0.0, 255.0), tf.uint8)


def _grey(image, times):
    """Brightness as PIL's mode L, whole numbers: (H, W, C) to float32 (H W, times)."""
    if image.shape[-1] == 1:
        return _flat(image)
    weights = tf.repeat(tf.constant([[19595.0], [38470.0], [7471.0]]), times, axis=1)
    # All products and sums are whole and below 2**24, so they are exact.
    return tf.floor((tf.matmul(_flat(image), weights) + 32768.0) / 65536.0)


def _flat(image):
    """float32 (H W, C)."""
    return tf.cast(tf.reshape(image, (-1, image.shape[-1])), tf.float32)
