"""One random geometric draw that moves a picture and everything that lies on it.

`draw` is a function of a seed: a `Motion`. `move_picture`, `move_labels` and `move_boxes` apply it
to the pixels, the labels of pixels and the boxes; whatever else lies on a picture, or on the frames
of a clip, moves by the same `Motion`.

Letters: H x W size of the picture, h x w size of the window, C channels.
"""

from typing import NamedTuple

import tensorflow as tf

from ..data.masks import IGNORED

TRIES = 10


class Motion(NamedTuple):
    """How a window of a picture is taken: scale, cut out, mirror, pad.

    Attributes:
        height, width: int32 scalars, size to which the picture is scaled.
        top, left: int32 scalars, corner of the window in the scaled picture.
        window: (h, w), its size: ints, or int32 scalars of a window that lies in the picture.
        mirrored: bool scalar, whether what it shows is mirrored left to right. Where the scaled
            picture is smaller than the window, it is then padded below and to the right.
    """

    height: tf.Tensor
    width: tf.Tensor
    top: tf.Tensor
    left: tf.Tensor
    window: tuple
    mirrored: tf.Tensor


def fitted(height, width, fit_into):
    """The size of a picture that is scaled into [longest, shortest] side: float32 scalars.

    Source: mmcv `imrescale`, which rounds to whole pixels; so does `draw`.
    """
    height, width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    if not fit_into:
        return height, width
    longest, shortest = map(float, fit_into)
    factor = tf.minimum(longest / tf.maximum(height, width), shortest / tf.minimum(height, width))
    return height * factor, width * factor


def whole(labels, fit_into, window, corner=(0, 0)):
    """The `Motion` without any draw, of a window at a corner of the picture.

    Args:
        labels: int32 (H, W).
        fit_into: `DataTable.fit_into`.
        window: (h, w).
        corner: (top, left) in the scaled picture.
    """
    height, width = (_pixels(x) for x in fitted(*tf.unstack(tf.shape(labels)), fit_into))
    return Motion(height, width, corner[0], corner[1], window, tf.constant(False))


def draw(labels, seed, window, fit_into=(), scale=(), cat_max_ratio=1.0, flip=False):
    """Draws a window of a picture.

    Args:
        labels: int32 (H, W), which decide whether a window shows enough classes.
        seed: integer (2,).
        window: (h, w).
        fit_into, scale, cat_max_ratio, flip: keys of the recipe (`training.recipe.schema`). With
            `cat_max_ratio` below 1 a window is taken whose labelled pixels have two classes or
            more, none with a larger share. Ten windows are tried, then another is taken as it is.

    Returns:
        `Motion`.

    Source: mmsegmentation `Resize` (ratio_range), `RandomCrop` (cat_max_ratio) and `RandomFlip`.
    """
    of_scale, of_window, of_flip = tf.unstack(tf.random.split(seed, 3))
    factor = tf.random.stateless_uniform((), of_scale, *scale) if scale else 1.0
    height, width = fitted(*tf.unstack(tf.shape(labels)), fit_into)
    height, width = _pixels(height * factor), _pixels(width * factor)
    corners = tf.random.stateless_uniform((TRIES + 1, 2), of_window)
    room = tf.maximum(tf.stack([height, width]) - window, 0) + 1
    corners = tf.cast(corners * tf.cast(room, tf.float32), tf.int32)  # (tries + 1, 2)
    corners = tf.minimum(corners, room - 1)
    mirrored = tf.constant(False)
    if flip:
        mirrored = tf.random.stateless_uniform((), of_flip) < 0.5

    def motion(place):
        return Motion(height, width, corners[place, 0], corners[place, 1], window, mirrored)

    place = tf.constant(0)
    if cat_max_ratio < 1:

        def another(place):
            shown = move_labels(labels, motion(place)._replace(mirrored=tf.constant(False)))
            return (place < TRIES) & ~_mixed(shown, cat_max_ratio)

        (place,) = tf.while_loop(another, lambda place: (place + 1,), (place,))
    return motion(place)


def _mixed(labels, most):
    """Whether there are two classes or more, and none has a share of `most` of the pixels."""
    flat = tf.reshape(labels, [-1])
    counts = tf.math.bincount(flat, minlength=IGNORED + 1, maxlength=IGNORED + 1)[:IGNORED]
    some = tf.math.count_nonzero(counts) > 1
    largest, total = tf.reduce_max(counts), tf.reduce_sum(counts)
    return some & (tf.cast(largest, tf.float32) < most * tf.cast(total, tf.float32))


def move_labels(labels, motion):
    """Applies a motion to labels: nearest ones, never anything between two.

    Args:
        labels: int32 (H, W).
        motion: `Motion`.

    Returns:
        int32 (h, w); 255 outside the picture.
    """
    rows, columns = (
        _sources(*arguments)
        for arguments in zip(
            tf.unstack(tf.shape(labels)), motion[:2], motion[2:4], motion.window, strict=True
        )
    )
    moved = tf.gather(tf.gather(labels, rows), columns, axis=1)
    moved = tf.cond(motion.mirrored, lambda: tf.reverse(moved, [1]), lambda: moved)
    return tf.ensure_shape(_pad(moved, motion.window, IGNORED), motion.window)


def move_picture(image, motion, fill):
    """Applies a motion to a picture, bilinear and antialiased.

    Args:
        image: (H, W, C), pixels 0..255.
        motion: `Motion`.
        fill: float (C,), the pixel outside the picture.

    Returns:
        float32 (h, w, C), whole numbers but for `fill`.
    """
    lengths = zip(motion[:2], motion[2:4], motion.window, strict=True)
    for scaled, start, window in lengths:
        height, width, channels = tf.unstack(tf.shape(image))
        length = tf.minimum(scaled - start, window)
        # One side after the other, as the height of an image of one column: see `crops.resize`.
        image = tf.raw_ops.ScaleAndTranslate(
            images=tf.reshape(image, (1, height, 1, width * channels)),
            size=tf.stack([length, 1]),
            scale=tf.stack([tf.cast(scaled, tf.float32) / tf.cast(height, tf.float32), 1.0]),
            translation=tf.stack([-tf.cast(start, tf.float32), 0.0]),
            kernel_type="triangle",
            antialias=True,
        )
        image = tf.transpose(tf.reshape(image, (length, width, channels)), (1, 0, 2))
    image = tf.clip_by_value(tf.round(image), 0.0, 255.0)
    image = tf.cond(motion.mirrored, lambda: tf.reverse(image, [1]), lambda: image)
    moved = _pad(image - fill, motion.window, 0.0) + fill
    known = (x if isinstance(x, int) else None for x in motion.window)
    return tf.ensure_shape(moved, (*known, len(fill)))


def move_boxes(boxes, size, motion):
    """Applies a motion to boxes.

    Args:
        boxes: float32 (n, 4): x0, y0, x1, y1 in pixels of the picture.
        size: int32 (2,), height and width of the picture.
        motion: `Motion`.

    Returns:
        float32 (n, 4) in pixels of the window, cut off at what the window shows of the picture; a
        box outside of it has no width or no height.
    """
    size = tf.cast(size, tf.float32)
    scaled, corner = (tf.cast(tf.stack(pair), tf.float32) for pair in (motion[:2], motion[2:4]))
    shown = tf.minimum(scaled - corner, tf.cast(tf.stack(motion.window), tf.float32))
    moved = boxes * tf.tile(scaled / size, [2])[::-1] - tf.tile(corner, [2])[::-1]
    moved = tf.clip_by_value(moved, 0.0, tf.tile(shown, [2])[::-1])
    x0, y0, x1, y1 = tf.unstack(moved, axis=-1)
    mirrored = tf.stack([shown[1] - x1, y0, shown[1] - x0, y1], axis=-1)
    return tf.where(motion.mirrored, mirrored, moved)


def _sources(length, scaled, start, window):
    """The pixels of a side that are nearest to the centres of a window's: integer (n,)."""
    place = tf.cast(tf.range(start, tf.minimum(scaled, start + window)), tf.float32) + 0.5
    at = place * (tf.cast(length, tf.float32) / tf.cast(scaled, tf.float32))
    return tf.minimum(tf.cast(at, tf.int32), length - 1)


def _pad(x, window, value):
    rest = tf.stack(window) - tf.shape(x)[:2]
    around = [[0, rest[0]], [0, rest[1]], *[[0, 0]] * (len(x.shape) - 2)]
    return tf.pad(x, around, constant_values=value)


def _pixels(length):
    return tf.maximum(tf.cast(tf.floor(length + 0.5), tf.int32), 1)
