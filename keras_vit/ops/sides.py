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
    lesser, greater = _bounds(height, width, xp)
    low, high = lesser(height, width), greater(height, width)
    share = longest * low  # divided by high, rounded half to even like Python's round
    whole = share // high
    rounded = whole + (2 * (share % high) + whole % 2 + high - 1) // (2 * high)
    side = greater(lesser(rounded, short_side), 1)
    return greater(side * height // low, 1), greater(side * width // low, 1)


def _bounds(height, width, xp):
    """(minimum, maximum) for ints, for tensors, or for the symbols of PyTorch's exporter."""
    if isinstance(height, int) and isinstance(width, int):
        return min, max
    if hasattr(height, "dtype") or hasattr(width, "dtype"):
        return xp.minimum, xp.maximum
    import torch

    return torch.sym_min, torch.sym_max
