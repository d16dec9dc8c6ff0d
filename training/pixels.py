"""Changes of colours and places of one uint8 image, each meaning what PIL's means.

Letters: H x W image size, C channels, 1 or 3.
Source: Pillow, `ImageEnhance.py`, `ImageOps.py` and `libImaging/{Blend,Filter,Geometry}.c`.
"""

import tensorflow as tf


def brightness(image, factor):
    """From black (0) over the image as it is (1) to brighter; (H, W, C) to (H, W, C)."""
    return _blend(0.0, image, factor)


def color(image, factor):
    """From grey (0) over the image as it is (1) to more saturated; (H, W, C) to (H, W, C)."""
    return _blend(_grey(image), image, factor)


def contrast(image, factor):
    """From its mean grey (0) over the image as it is (1) to more contrast."""
    mean = tf.reduce_mean(tf.cast(_grey(image), tf.float32))
    return _blend(tf.floor(mean + 0.5), image, factor)


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
    return tf.where(tf.cast(image, tf.float32) < threshold, image, 255 - image)


def autocontrast(image):
    """Stretches every channel to 0..255; one that holds a single value stays as it is."""
    x = tf.cast(image, tf.float32)
    low, high = tf.reduce_min(x, (0, 1)), tf.reduce_max(x, (0, 1))  # (C,)
    scale = tf.where(high > low, 255.0 / tf.maximum(high - low, 1.0), 1.0)
    low = tf.where(high > low, low, 0.0)
    # The little more is for products that are whole numbers and come out just below.
    return tf.cast(tf.clip_by_value((x - low) * scale + 1e-3, 0.0, 255.0), tf.uint8)


def equalize(image):
    """Changes every channel's values so that all are about equally frequent."""
    height, width, channels = image.shape
    index = tf.cast(image, tf.int32) + 256 * tf.range(channels)  # a histogram for each channel
    counts = tf.math.bincount(
        tf.reshape(index, [-1]), minlength=256 * channels, maxlength=256 * channels
    )
    counts = tf.reshape(counts, (channels, 256))
    highest = tf.cast(tf.reduce_max(image, (0, 1)), tf.int32)  # (C,)
    step = (height * width - tf.gather(counts, highest, batch_dims=1)) // 255
    step = step[:, None]
    below = tf.cumsum(counts, axis=1, exclusive=True)
    table = tf.minimum((step // 2 + below) // tf.maximum(step, 1), 255)
    table = tf.where(step > 0, table, tf.range(256))  # (C, 256)
    return tf.gather(tf.reshape(tf.cast(table, tf.uint8), [-1]), index)


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


def _grey(image):
    """Brightness as PIL's mode L, in whole numbers: (H, W, C) to int32 (H, W, 1)."""
    x = tf.cast(image, tf.int32)
    if image.shape[-1] == 1:
        return x
    weighted = 19595 * x[..., :1] + 38470 * x[..., 1:2] + 7471 * x[..., 2:]
    return tf.bitwise.right_shift(weighted + 32768, 16)
