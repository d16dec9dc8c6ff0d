"""Decodes picture files in tf.data to the pixels of `keras_vit.preprocessing.load_image`.

Letters: H x W size of the picture, C channels.
"""

import functools
import io

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_vit.picture_files import check_sides, load_image, orientation

OTHER, JPEG, PNG = range(3)  # the results of `kind`
# Markers of the orientation in a PNG, which Pillow only reads while it decodes.
NOTES = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")


def decode(contents, channels, ratio=1, upright=True):
    """Decodes a picture file of any kind that `load_image` reads, to the same pixels.

    TensorFlow decodes plain JPEG and PNG files. Pillow decodes the others: rotated pictures, CMYK,
    and other formats.

    Args:
        contents: scalar string tensor, the bytes of a file.
        channels: int, C: 1 for grey, 3 for RGB.
        ratio: 1, 2, 4 or 8, by which the sides of a JPEG may be divided.
        upright: bool, whether to apply the EXIF orientation, as in `load_image`.

    Returns:
        uint8 (H, W, C), H and W unknown.

    Raises:
        tf.errors.InvalidArgumentError: if the file is broken or `load_image` refuses it.
    """
    return decode_kind(kind(contents, upright), contents, channels, ratio, upright)


def decode_kind(kind, contents, channels, ratio=1, upright=True):
    """`decode` for a file whose `kind` is known."""
    branches = [
        lambda: _other(contents, channels, upright),
        lambda: tf.io.decode_jpeg(contents, channels, ratio, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_png(contents, channels),
    ]
    image = tf.switch_case(kind, branches)
    return tf.ensure_shape(image, (None, None, channels))


# tf.function, so that a ValueError in Python becomes an error of TensorFlow in eager mode too.
@tf.function
def _other(contents, channels, upright):
    read = functools.partial(_by_pillow, channels=channels, upright=upright)
    return tf.numpy_function(read, [contents], tf.uint8, stateful=False)


@tf.function
def kind(contents, upright=True):
    """JPEG or PNG if TensorFlow decodes the file to the right pixels, else OTHER; int32 scalar."""
    look = functools.partial(_kind, upright=upright)
    return tf.ensure_shape(tf.numpy_function(look, [contents], tf.int32, stateful=False), ())


def _kind(contents, upright):
    found = OTHER
    try:
        with Image.open(io.BytesIO(contents)) as image:
            check_sides(image.height, image.width)
            if image.format == "PNG":
                found = OTHER if upright and any(note in contents for note in NOTES) else PNG
            elif image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
                found = JPEG if not upright or orientation(image) == 1 else OTHER
    except Exception:  # any, for a broken file: `load_image` raises a better one
        found = OTHER
    return np.int32(found)


def _by_pillow(contents, channels, upright):
    pixels = load_image(contents, upright)
    return np.asarray(Image.fromarray(pixels).convert("L"))[..., None] if channels == 1 else pixels
