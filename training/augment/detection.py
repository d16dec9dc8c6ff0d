"""The transforms from a picture and its boxes to an image and targets for the model.

Letters: H x W size of the picture, h x w size of the image, n objects of a picture, S short side.
"""

import tensorflow as tf

from ..data.decoding import decode
from . import joint
from .photometric import photometric_distortion

CROPPED = 0.5  # share of the pictures that are cropped


def training_example(augment, data, channels=3):
    """Returns the random scale, crop and flip of a recipe.

    Args:
        augment: `AugmentTable`.
        data: `DataTable`.
        channels: int, C.

    Returns:
        A function from a picture, an array (H, W, C) or the bytes of a file, what
        `training.data.boxes.Boxes` reads of it, and an integer seed (2,), to a float32 image
        (h, w, C), pixels 0..255, and targets: a dict of "boxes", float32 (n, 4), centre x, centre
        y, width, height as shares of the image, and "labels", int32 (n,). The same seed gives the
        same pixels and boxes.
    """

    def example(picture, label, seed):
        corners, labels, size = label
        motion = draw(size, seed, augment, data.fit_into)
        image = joint.move_picture(_pixels(picture, data, channels), motion, (0.0,) * channels)
        if augment.photometric:
            image = photometric_distortion(image, tf.random.fold_in(seed, 1))
        return image, _targets(corners, labels, size, motion)

    return example


def evaluation_example(data, channels=3):
    """Returns the function from a whole picture and its boxes to image and targets.

    Args, Returns: as `training_example`, without a seed.
    """

    def example(picture, label):
        corners, labels, size = label
        motion = whole(size, data.fit_into)
        image = joint.move_picture(_pixels(picture, data, channels), motion, (0.0,) * channels)
        return image, _targets(corners, labels, size, motion)

    return example


def resized(height, width, short, longest=None):
    """The size of a picture whose short side becomes S, the long one at most `longest`.

    Args:
        height, width, short: int32 scalars.
        longest: int, or None for no bound.

    Returns:
        (height, width), int32 scalars.

    Source: DETR, `datasets/transforms.py`. The bound is put on S, which is rounded, and the long
    side rounded down.
    """
    least, most = tf.minimum(height, width), tf.maximum(height, width)
    if longest:
        bound = tf.cast(longest * least, tf.float64) / tf.cast(most, tf.float64)
        bound = tf.maximum(tf.cast(tf.round(bound), tf.int32), 1)
        short = tf.where(short * most > longest * least, bound, short)
    long = tf.maximum(short * most // least, 1)
    kept = least == short
    return tuple(
        tf.where(kept, side, tf.where(side == least, short, long)) for side in (height, width)
    )


def whole(size, fit_into):
    """The `Motion` of a whole picture into [longest, shortest] side; [] for its own size."""
    height, width = tf.unstack(size)
    if fit_into:
        longest, short = fit_into
        height, width = resized(height, width, short, longest)
    return joint.Motion(height, width, 0, 0, (height, width), tf.constant(False))


def draw(size, seed, augment, fit_into):
    """Draws how a picture is scaled, cropped and mirrored.

    Half of the pictures are scaled to a short side of `augment.short_sides`. The other half are
    scaled to one of `augment.crop_short_sides` and cropped before that; each side of the crop is
    one of `augment.crop_sides`, smallest to largest, at most that of the picture.

    Args:
        size: int32 (2,), H and W.
        seed: integer (2,).
        augment: `AugmentTable`.
        fit_into: `DataTable.fit_into`; the longest side is not exceeded.

    Returns:
        `joint.Motion`, whose window lies in the picture.

    Source: DETR, `datasets/transforms.py` and `datasets/coco.py`. Here one resampling takes the
    place of two, and the scaled size and the corner of a crop are rounded to whole pixels.
    """
    of_scale, of_crop, of_choice, of_flip = tf.unstack(tf.random.split(seed, 4))
    short, longest = None, None
    if fit_into:
        longest, short = fit_into
    if augment.short_sides:
        short = _one_of(augment.short_sides, of_scale)
    motion = whole(size, ())
    if short is not None:
        sides = resized(*tf.unstack(size), short, longest)
        motion = motion._replace(height=sides[0], width=sides[1], window=sides)
    if augment.crop_sides:
        cropped = _crop(size, of_crop, augment, short, longest)
        chosen = tf.random.stateless_uniform((), of_choice) < CROPPED
        flat = (
            tf.where(chosen, one, other)
            for one, other in zip(_flat(cropped), _flat(motion), strict=True)
        )
        height, width, top, left, *window = flat
        motion = joint.Motion(height, width, top, left, tuple(window), motion.mirrored)
    if augment.flip:
        motion = motion._replace(mirrored=tf.random.stateless_uniform((), of_flip) < 0.5)
    return motion


def _crop(size, seed, augment, short, longest):
    """The `Motion` of a random crop that is scaled to a short side, or stays as large as it is."""
    of_scale, *of_sides = tf.unstack(tf.random.split(seed, 5))
    least, most = augment.crop_sides
    middle = tf.unstack(size)
    if augment.crop_short_sides:
        middle = resized(*middle, _one_of(augment.crop_short_sides, of_scale))
    crop = [
        _between(tf.minimum(least, side), tf.minimum(most, side), seed)
        for side, seed in zip(middle, of_sides[:2], strict=True)
    ]
    window = crop if short is None else resized(*crop, short, longest)
    scaled, corner = [], []
    for side, part, shown, seed in zip(middle, crop, window, of_sides[2:], strict=True):
        factor = tf.cast(shown, tf.float32) / tf.cast(part, tf.float32)
        length = tf.cast(tf.round(tf.cast(side, tf.float32) * factor), tf.int32)
        length = tf.maximum(length, shown)
        start = tf.cast(_between(0, side - part, seed), tf.float32) * factor
        scaled.append(length)
        corner.append(tf.minimum(tf.cast(start, tf.int32), length - shown))
    return joint.Motion(*scaled, *corner, tuple(window), tf.constant(False))


def _one_of(sides, seed):
    place = tf.random.stateless_uniform((), seed, 0, len(sides), tf.int32)
    return tf.constant(sides, tf.int32)[place]


def _between(low, high, seed):
    """An integer from `low` to `high`, both of which may be drawn."""
    return tf.random.stateless_uniform((), seed, low, high + 1, tf.int32)


def _flat(motion):
    return (*motion[:4], *motion.window)


def _targets(corners, labels, size, motion):
    """What is left of the boxes in a window: dict of "boxes" (n, 4) and "labels" (n,)."""
    x0, y0, x1, y1 = tf.unstack(joint.move_boxes(corners, size, motion), axis=-1)
    height, width = (tf.cast(x, tf.float32) for x in motion.window)
    sides = [(x1 - x0) / width, (y1 - y0) / height]
    boxes = tf.stack([(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, *sides], axis=-1)
    shown = (x1 > x0) & (y1 > y0)
    return {"boxes": tf.boolean_mask(boxes, shown), "labels": tf.boolean_mask(labels, shown)}


def _pixels(picture, data, channels):
    if picture.dtype == tf.string:
        picture = decode(picture, channels, upright=data.upright)
    return tf.cast(picture, tf.float32)
