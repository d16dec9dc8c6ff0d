"""From the bytes of a picture's file to its pixels."""

import tensorflow as tf


def decode(contents, channels, ratio=1):
    """Decodes a whole JPEG or PNG; how a camera was held (EXIF) is ignored, as in torchvision.

    Args:
        contents: scalar string tensor, the bytes of a file.
        channels: int, C: 1 for grey, 3 for RGB.
        ratio: 1, 2, 4 or 8, by which a JPEG's sides become smaller.

    Returns:
        uint8 (H, W, C), H and W unknown.

    Raises:
        tf.errors.InvalidArgumentError: for bytes that are no whole image.
    """
    image = tf.cond(
        tf.io.is_jpeg(contents),
        lambda: tf.io.decode_jpeg(contents, channels, ratio, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_png(contents, channels),
    )
    return tf.ensure_shape(image, (None, None, channels))
