"""Random crops of pictures, resized to the size of the model's images.

Letters: H x W size of the picture, h x w size of the image, C channels.
"""

import math

import tensorflow as tf

from ..data.decoding import JPEG, decode_kind, kind
from .pixels import as_bytes

TRIES = 10  # as in torchvision; after that, the largest centre crop that the ratio allows


def random_window(height, width, seed, scale, ratio):
    """Draws the window of a random resized crop.

    Args:
        height, width: integer scalars, size of the picture.
        seed: integer (2,).
        scale: (float, float), smallest and largest area, as a fraction of the picture's.
        ratio: (float, float), smallest and largest width / height; its logarithm is uniform.

    Returns:
        int32 (4,): top, left, height, width.

    Source: torchvision `RandomResizedCrop.get_params`; Szegedy et al. 2015 (arXiv:1409.4842).
    """
    height, width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    draws = tf.random.stateless_uniform((4, TRIES), seed)
    area = height * width * (scale[0] + draws[0] * (scale[1] - scale[0]))
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = tf.exp(low + draws[1] * (high - low))
    w, h = tf.round(tf.sqrt(area * aspect)), tf.round(tf.sqrt(area / aspect))
    top, left = tf.floor(draws[2] * (height - h + 1)), tf.floor(draws[3] * (width - w + 1))
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    windows = tf.stack([top, left, h, w], axis=1)  # (tries, 4)

    h = tf.minimum(height, tf.maximum(tf.round(width / ratio[0]), 1.0))
    h = tf.where(width / height < ratio[0], h, height)
    w = tf.minimum(width, tf.maximum(tf.round(height * ratio[1]), 1.0))
    w = tf.where(width / height > ratio[1], w, width)
    middle = tf.stack([(height - h) // 2, (width - w) // 2, h, w])
    first = tf.argmax(fits)  # the index of the first True
    return tf.cast(tf.where(tf.reduce_any(fits), windows[first], middle), tf.int32)


def random_resized_crop(source, size, channels, seed, scale, ratio, interpolation, upright=True):
    """Crops a random window of a picture and resizes it. Only the window of a JPEG is decoded.

    Args:
        source: scalar string tensor, the bytes of a picture file, or pixels (H, W, C).
        size: (h, w).
        channels: int, C.
        seed, scale, ratio: arguments of `random_window`.
        interpolation: "bilinear" or "bicubic"; antialiased.
        upright: bool, whether to apply the EXIF orientation (`training.data.decoding.decode`).

    Returns:
        uint8 (h, w, C).
    """

    def of_jpeg():
        shape = tf.image.extract_jpeg_shape(source)
        window = random_window(shape[0], shape[1], seed, scale, ratio)
        return tf.io.decode_and_crop_jpeg(
            source, window, channels=channels, dct_method="INTEGER_ACCURATE"
        )

    def of_pixels(image):
        shape = tf.shape(image)
        top, left, h, w = tf.unstack(random_window(shape[0], shape[1], seed, scale, ratio))
        return image[top : top + h, left : left + w]

    if source.dtype == tf.string:
        found = kind(source, upright)
        crop = tf.cond(
            found == JPEG,
            of_jpeg,
            lambda: of_pixels(decode_kind(found, source, channels, upright=upright)),
        )
    else:
        crop = of_pixels(source)
    crop = tf.ensure_shape(crop, (None, None, channels))
    return as_bytes(resize(crop, size, interpolation))


def resize(image, size, interpolation):
    """Resizes like `tf.image.resize(..., antialias=True)`, in a third of the time.

    TensorFlow's op is fast along the height but slow along the width, where it adds only C values
    at a time. So each side is resized as the height of an image with one column.

    Args:
        image: (H, W, C); H and W may be unknown.
        size: (h, w).
        interpolation: "bilinear" or "bicubic".

    Returns:
        float32 (h, w, C).
    """
    kernel = {"bilinear": "triangle", "bicubic": "keyscubic"}[interpolation]
    for length in size:
        height, width, channels = tf.unstack(tf.shape(image))
        image = tf.raw_ops.ScaleAndTranslate(
            images=tf.reshape(image, (1, height, 1, width * channels)),
            size=(length, 1),
            scale=tf.stack([length / tf.cast(height, tf.float32), 1.0]),
            translation=(0.0, 0.0),
            kernel_type=kernel,
            antialias=True,
        )
        image = tf.transpose(tf.reshape(image, (length, width, channels)), (1, 0, 2))
    return image


def pad_crop(image, pad, seed):
    """Pads an image by reflection and crops it randomly to its old size.

    Args:
        image: (h, w, C), each side longer than `pad`.
        pad: int, pixels on each side.
        seed: integer (2,).

    Returns:
        (h, w, C), the image shifted by up to `pad` pixels in each direction.
    """
    padded = tf.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="REFLECT")
    top, left = tf.unstack(tf.random.stateless_uniform((2,), seed, 0, 2 * pad + 1, tf.int32))
    height, width, _ = image.shape
    return tf.ensure_shape(padded[top : top + height, left : left + width], image.shape)


def erase(image, seed, probability):
    """Fills a random rectangle with random pixels, uniform in 0..255.

    Args:
        image: float32 (h, w, C), pixels 0..255.
        seed: integer (2,).
        probability: float, probability that a rectangle is erased. Its area is 2 % to a third of
            the image's, and its width 0.3 to 1 / 0.3 times its height.

    Returns:
        float32 (h, w, C). If no rectangle fits in ten draws, the image does not change.

    Source: Zhong et al. 2020 (arXiv:1708.04896), with random values ("RE-R"); timm's mode "pixel"
    draws them from a normal distribution instead.
    """
    height, width, channels = image.shape
    where, what, whether = tf.unstack(tf.random.split(seed, 3))
    top, left, h, w = tf.unstack(random_window(height, width, where, (0.02, 1 / 3), (0.3, 1 / 0.3)))
    erased = tf.random.stateless_uniform((), whether) < probability
    erased &= 2 * h * w <= height * width  # otherwise no draw fits

    def with_noise():
        noise = tf.random.stateless_uniform((h, w, channels), what, 0.0, 255.0)
        around = ((top, height - top - h), (left, width - left - w), (0, 0))
        # Pixels around the rectangle are marked by -1.
        noise = tf.ensure_shape(tf.pad(noise, around, constant_values=-1.0), image.shape)
        return tf.where(noise < 0, image, noise)

    return tf.cond(erased, with_noise, lambda: image)
