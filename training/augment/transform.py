"""The transforms from a picture of a source to an image for the model.

Letters: H x W size of the picture, h x w size of the image, C channels.
"""

import tensorflow as tf

import keras_vit

from ..data.decoding import decode
from . import crops
from .motion import augmentation
from .pixels import as_bytes
from .randaugment import color_jitter, randaugment


def training_transform(augment, data, shape):
    """Returns the random crop and augmentation of a recipe.

    Args:
        augment: `AugmentTable`.
        data: `DataTable`, for the settings of resizing.
        shape: (h, w, C).

    Returns:
        A function from a picture, an array (H, W, C) or the bytes of a file, and an integer seed
        (2,) to a float32 image (h, w, C), pixels 0..255. The same seed gives the same pixels.

    Raises:
        ValueError: if the padding is not smaller than the image, or colours are augmented with
            other than 1 or 3 channels.
    """
    height, width, channels = shape
    if augment.pad_crop >= min(height, width):
        raise ValueError(
            f"augment.pad_crop must be below the sides of the image, {height} and {width}. "
            f"Received: augment.pad_crop={augment.pad_crop}"
        )
    colors = []
    if augment.randaugment:
        colors.append(randaugment(*augment.randaugment))
    if augment.color_jitter:
        colors.append(color_jitter(augment.color_jitter))
    if colors and channels not in (1, 3):
        raise ValueError(
            "augment.randaugment and augment.color_jitter need images of 1 or 3 channels. "
            f"Received: {channels} channels"
        )
    whole = evaluation_transform(data, shape)
    motion = augmentation(
        augment.rotate, augment.translate, augment.zoom, augment.flip, augment.probability
    )

    def transform(image, seed):
        def draw(number):
            return tf.random.fold_in(seed, number)

        if augment.crop_scale:
            image = crops.random_resized_crop(
                image,
                (height, width),
                channels,
                draw(1),
                augment.crop_scale,
                augment.crop_ratio,
                data.interpolation,
                data.upright,
            )
        else:
            image = whole(image)
        if augment.pad_crop:
            image = crops.pad_crop(image, augment.pad_crop, draw(2))
        if augment.rotate or augment.translate or augment.zoom:
            image = tf.cast(image, tf.float32)
        image = motion(image, seed)
        for number, change in enumerate(colors, start=3):
            image = change(as_bytes(image), draw(number))
        image = tf.cast(image, tf.float32)
        if augment.erasing:
            image = crops.erase(image, draw(5), augment.erasing)
        return image

    return transform


def evaluation_transform(data, shape):
    """Returns the deterministic transform for evaluation.

    Args:
        data: `DataTable`, for the settings of resizing.
        shape: (h, w, C).

    Returns:
        A function from a picture, the bytes of a file or an array (H, W, C) of known size, to a
        float32 image (h, w, C), pixels 0..255. Arrays of this shape are not changed. Others are
        resized by a `keras_vit.Preprocessor`; arrays are cropped only to the new proportions, and
        files by `data.crop_fraction` too.
    """
    channels = shape[-1]

    def resize(crop_fraction):
        return keras_vit.Preprocessor(
            shape[:2],
            "short_side",
            crop_fraction,
            data.interpolation,
            mean=[0.0] * channels,
            std=[1 / 255] * channels,  # the model itself normalises
            dtype="float32",
        )

    of_file, of_array = resize(data.crop_fraction), resize(1.0)

    def transform(image):
        if image.dtype == tf.string:
            image = of_file(decode(image, channels, upright=data.upright))
        elif image.shape == shape:
            return tf.cast(image, tf.float32)
        else:
            image = of_array(image)
        return tf.ensure_shape(tf.round(image), shape)

    return transform
