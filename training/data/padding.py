"""Batches of pictures of different sizes, padded to a handful of sizes.

Every size is compiled once by JAX, and by TensorFlow where it compiles for XLA.

Letters: B batch, H x W size of a batch, M most objects of a picture, C channels.
"""

import math

import numpy as np
import tensorflow as tf

MULTIPLE = 32  # pixels: the stride of the usual backbones
LEVELS = 3  # sides, so at most nine sizes


def sides_of(data, augment, sizes):
    """The sides to which batches are padded, from the settings of a recipe or from the pictures.

    Args:
        data, augment: `DataTable` and `AugmentTable`.
        sizes: int array (N, 2), height and width of the pictures.

    Returns:
        Sorted tuple of ints: data.pad_to, or three sides, multiples of 32, from the usual side to
        the longest one that a picture may have; of pictures of one size that size itself.

    Raises:
        ValueError: if a picture may be larger than data.pad_to.
    """
    if data.fit_into:
        longest, short = data.fit_into
        short = max((short, *augment.short_sides))
    else:
        longest, short = int(np.max(sizes)), int(np.median(sizes))
    if data.pad_to:
        if max(data.pad_to) < longest:
            raise ValueError(
                f"The largest of data.pad_to must be that of a picture, {longest}, or more. "
                f"Received: data.pad_to={list(data.pad_to)}"
            )
        return tuple(sorted(data.pad_to))
    if not data.fit_into and (np.asarray(sizes) == longest).all() and not augment.crop_sides:
        return (longest,)
    levels = np.linspace(min(short, longest), longest, LEVELS)
    return tuple(sorted({math.ceil(side / MULTIPLE) * MULTIPLE for side in levels}))


def said(sides):
    """The sides in words."""
    count = len(sides) ** 2
    most = f"at most {count} sizes" if count > 1 else "one size"
    return f"batches are padded to {most}, with sides of {', '.join(map(str, sides))} pixels"


def padded(sides, most, mean, std, fill=0.0):
    """Returns a function that normalises, pads and batches examples; see `Plan.batches`.

    Args:
        sides: ints; both sides of a batch are padded to the next of these.
        most: int, M. Further objects of a picture are left out.
        mean, std: floats (C,), of pixels 0..1: images become (pixels / 255 - mean) / std.
        fill: float or floats (C,), what images are padded with after that.

    Returns:
        A function (data set of examples, size, drop_remainder) to a data set of
        ({"images": float32 (B, H, W, C), "valid": bool (B, H, W)}, {"boxes": float32 (B, M, 4),
        "labels": int32 (B, M), "count": int32 (B,)}).
    """
    mean, std, fill = (np.asarray(x, "float32") for x in (mean, std, fill))
    sides = tuple(sorted(sides))

    def one(image, target):
        image = (image / 255.0 - mean) / std - fill
        boxes, labels = target["boxes"][:most], target["labels"][:most]
        count = tf.shape(labels)[0]
        boxes = tf.pad(boxes, [[0, most - count], [0, 0]])
        labels = tf.pad(labels, [[0, most - count]])
        target = {
            "boxes": tf.ensure_shape(boxes, (most, 4)),
            "labels": tf.ensure_shape(labels, (most,)),
            "count": count,
        }
        return image, tf.shape(image)[:2], target

    def next_side(length):
        larger = tf.constant(sides)[tf.constant(sides) >= length]
        return tf.cond(tf.size(larger) > 0, lambda: larger[0], lambda: length)

    def finish(images, sizes, targets):
        height, width = tf.unstack(tf.shape(images)[1:3])
        rows, columns = next_side(height), next_side(width)
        around = [[0, 0], [0, rows - height], [0, columns - width], [0, 0]]
        images = tf.pad(images, around) + fill
        valid = tf.sequence_mask(sizes[:, 0], rows)[:, :, None]
        valid &= tf.sequence_mask(sizes[:, 1], columns)[:, None]
        if len(sides) == 1:
            images = tf.ensure_shape(images, (None, *sides * 2, None))
            valid = tf.ensure_shape(valid, (None, *sides * 2))
        return {"images": images, "valid": valid}, targets

    def batches(examples, size, drop_remainder=False):
        examples = examples.map(one)
        return examples.padded_batch(size, drop_remainder=drop_remainder).map(finish)

    return batches
