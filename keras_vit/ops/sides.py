"""Sides of pictures as ints, or as scalar tensors if a graph does not know them statically."""

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
