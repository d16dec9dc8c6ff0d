"""Sides of pictures as ints, or as scalar tensors if a graph does not know them statically."""

import numpy as np
from keras import ops


def at_least(least, product, side, even, xp):
    """max(product / side, least), truncated or rounded half to even; ints or integer tensors."""
    whole = product // side
    if even:
        whole += (2 * (product % side) + whole % 2 + side - 1) // (2 * side)
    return max(whole, least) if isinstance(whole, int) else xp.maximum(whole, least)


def within(length, most, xp):
    """At least 1 and at most `most`: ints or integer tensors."""
    known = isinstance(length, int) and isinstance(most, int)
    return max(min(length, most), 1) if known else xp.maximum(xp.minimum(length, most), 1)


def number(side):
    """A side as an int, or as a scalar tensor if it is not known statically."""
    if isinstance(side, int) or hasattr(side, "dtype"):
        return side
    return ops.ones((), dtype="int32") * side  # a symbol of PyTorch's exporter


def shape_of(x, xp):
    """(B, H, W, C), each an int, or a scalar tensor if it is not known statically."""
    if xp is ops:
        return tuple(ops.shape(x))
    import tensorflow as tf

    dynamic = tf.shape(x)
    return tuple(dynamic[i] if side is None else side for i, side in enumerate(x.shape))


def arange(length, xp):
    """float32 0 .. length - 1; `length` may be a scalar tensor, unlike in tf.experimental.numpy."""
    if xp is ops:
        return ops.arange(length, dtype="float32")
    import tensorflow as tf

    return tf.cast(tf.range(length), "float32")


def as_float(value, xp):
    if isinstance(value, int):
        return float(value)
    return ops.cast(value, "float32") if xp is ops else xp.asarray(value, dtype="float32")


def fitted_size(height, width, short_side, longest, xp=np):
    """(h, w) to which resize="fit" resizes a picture, as DETR's authors do.

    The shorter side becomes `short_side`, or, if the longer would then exceed `longest`, the
    rounded share of `longest` that the proportion leaves. The longer is truncated.

    Args:
        height, width: ints, or scalar integer tensors where a graph does not know them.
        short_side, longest: ints, in pixels.

    >>> fitted_size(305, 574, 800, 1333)
    (708, 1332)

    Source: facebookresearch/detr `datasets/transforms.py`, `get_size_with_aspect_ratio`.
    """
    if isinstance(height, int) and isinstance(width, int):
        low, high = min(height, width), max(height, width)
        side = short_side
        if high * short_side > longest * low:
            side = max(round(longest * low / high), 1)
        if low == side:
            return height, width
        long = max(int(side * high / low), 1)
        return (side, long) if height <= width else (long, side)
    low, high = xp.minimum(height, width), xp.maximum(height, width)
    share = longest * low  # rounded half to even, like Python's round
    whole = share // high
    rounded = whole + (2 * (share % high) + whole % 2 + high - 1) // (2 * high)
    capped = high * short_side > share
    side = xp.where(capped, xp.maximum(rounded, 1), short_side)
    long = xp.maximum(side * high // low, 1)
    same, upright = low == side, height > width
    h = xp.where(same, height, xp.where(upright, long, side))
    w = xp.where(same, width, xp.where(upright, side, long))
    return h, w
