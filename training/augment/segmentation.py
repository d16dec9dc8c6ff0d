"""The transforms from a picture and its mask to an image and labels for the model.

Letters: H x W size of the picture, h x w size of the image, C channels.
"""

import numpy as np
import tensorflow as tf

from ..data.decoding import decode
from ..data.examples import Split
from ..data.masks import IGNORED, Tiles
from . import joint
from .photometric import photometric_distortion


def training_example(augment, data, shape, fill):
    """Returns the random window and augmentation of a recipe.

    Args:
        augment: `AugmentTable`.
        data: `DataTable`.
        shape: (h, w, C).
        fill: floats (C,), the pixel outside the picture (`padding`).

    Returns:
        A function from a picture, an array (H, W, C) or the bytes of a file, its labels, int32
        (H, W), and an integer seed (2,) to a float32 image (h, w, C), pixels 0..255, and labels,
        int32 (h, w), 255 where there are none. The same seed gives the same pixels.

    Raises:
        ValueError: if the colours of other than 3 channels would be changed.
    """
    *window, channels = shape
    if augment.photometric and channels != 3:
        raise ValueError(
            f"augment.photometric needs images of 3 channels. Received: {channels} channels"
        )

    def example(picture, labels, seed):
        motion = joint.draw(
            labels,
            seed,
            tuple(window),
            data.fit_into,
            augment.scale,
            augment.cat_max_ratio,
            augment.flip,
        )
        image = _pixels(picture, data, channels)
        if augment.photometric:
            # Before the padding, which is no part of the picture.
            image = joint.move_picture(image, motion, fill)
            changed = photometric_distortion(image, tf.random.fold_in(seed, 1))
            inside = joint.move_labels(tf.zeros_like(labels), motion) != IGNORED
            image = tf.where(inside[..., None], changed, image)
        else:
            image = joint.move_picture(image, motion, fill)
        return image, joint.move_labels(labels, motion)

    return example


def evaluation_example(data, shape, fill):
    """Returns the function from a picture and its labels in `Tiles` to image and labels.

    Args, Returns: as `training_example`, without a seed; the labels are a pair of labels (H, W) and
        a window (4,), see `tiles`.
    """
    *window, channels = shape

    def example(picture, tile):
        labels, place = tile
        motion = joint.whole(labels, data.fit_into, tuple(window), (place[0], place[1]))
        image = joint.move_picture(_pixels(picture, data, channels), motion, fill)
        labels = joint.move_labels(labels, motion)
        rows, columns = (tf.range(side) for side in window)
        new = (rows >= place[2])[:, None] & (columns >= place[3])[None]
        return image, tf.where(new, labels, IGNORED)

    return example


def tiles(split, data, shape):
    """Cuts pictures into windows of the model's size that show every pixel once.

    The last window of a row or column ends with the picture, and its pixels that the one before has
    shown have the label 255.

    Args:
        split: `Split` with `Masks`.
        data: `DataTable`.
        shape: (h, w, C).

    Returns:
        `Split` with `Tiles`, an example for each window.
    """
    index, windows = [], []
    for i, size in enumerate(split.labels.sizes):
        fitted = (np.floor(x.numpy() + 0.5).astype(int) for x in joint.fitted(*size, data.fit_into))
        rows, columns = (
            _starts(max(length, 1), side) for length, side in zip(fitted, shape, strict=False)
        )
        found = [(top, left, shown, also) for top, shown in rows for left, also in columns]
        index += [i] * len(found)
        windows += found
    return Split(split.images[index], Tiles(split.labels[index], windows))


def _starts(length, side):
    """(start, pixels that were shown before) of every window along a side."""
    starts = [min(start, max(length - side, 0)) for start in range(0, length, side)]
    return [(start, i * side - start) for i, start in enumerate(starts)]


def padding(model):
    """The pixel, 0..255, that a model's normalisation takes to 0: floats (C,).

    It is what lies outside a picture, as in mmsegmentation, which pads normalised images by zeros.
    """
    channels = model.input.shape[-1]
    preprocessor = getattr(model, "preprocessor", None)
    mean = (0.5,) if preprocessor is None else preprocessor.mean
    return tuple(255.0 * x for x in (mean * channels if len(mean) == 1 else mean))


def _pixels(picture, data, channels):
    if picture.dtype == tf.string:
        picture = decode(picture, channels, upright=data.upright)
    return tf.cast(picture, tf.float32)
