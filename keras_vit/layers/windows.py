"""Partition of feature maps into windows, and the shift and mask of shifted windows.

Letters: B batch, h x w map, D width, a x b window, W windows of a map, N = a*b positions in a
window.
"""

import numpy as np
from keras import ops

from keras_vit.ops.shapes import reshape

MASKED = -100.0  # added to the logits of masked pairs, as in the authors' code


def partition_windows(x, window_size):
    """Partitions maps into windows.

    Args:
        x: tensor (B, h, w, D); h and w must be multiples of a and b.
        window_size: (a, b).

    Returns:
        Windows (B*W, N, D).

    Example:
        >>> partition_windows(np.zeros((2, 14, 21, 96)), (7, 7)).shape
        (12, 49, 96)
    """
    _, h, w, width = ops.shape(x)
    a, b = window_size
    x = reshape(x, (-1, h // a, a, w // b, b, width))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))  # (B, h/a, w/b, a, b, D)
    return reshape(x, (-1, a * b, width))


def merge_windows(windows, window_size, size):
    """Merges windows into maps, the inverse of `partition_windows`.

    Args:
        windows: tensor (B*W, N, D).
        window_size: (a, b).
        size: (h, w), multiples of a and b, ints or scalar tensors.

    Returns:
        Maps (B, h, w, D).
    """
    (a, b), (h, w), width = window_size, size, windows.shape[-1]
    x = reshape(windows, (-1, h // a, w // b, a, b, width))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))  # (B, h/a, a, w/b, b, D)
    return reshape(x, (-1, h, w, width))


def shift_sizes(size, window_size, convention):
    """The shift of the windows in a shifted block: half a window, or 0.

    A side of the map that one window covers is not shifted. "authors": the other side is not
    shifted either; "timm" and "torchvision": each side is decided separately.

    Args:
        size: (h, w), ints, or scalar tensors if they are not known statically.
        window_size: (a, b).
        convention: "authors", "timm" or "torchvision".

    Returns:
        (down, right), ints or scalar tensors.
    """
    moves = [side > window for side, window in zip(size, window_size, strict=True)]
    if convention == "authors":
        moves = [moves[0] & moves[1]] * 2
    return tuple(
        (window // 2 if move else 0)
        if isinstance(move, (bool, np.bool_))
        else ops.cast(move, "int32") * (window // 2)
        for move, window in zip(moves, window_size, strict=True)
    )


def shift_mask(size, window_size, shift):
    """The mask of shifted windows, added to the logits: 0, or -100 for pairs that are masked.

    After the cyclic shift the last windows contain positions that are not neighbours in the map.
    The regions of the map are numbered, and only positions in the same region attend to each other.

    Args:
        size: (h, w), size of the padded map, ints or scalar tensors.
        window_size: (a, b).
        shift: (down, right).

    Returns:
        float32 array (W, N, N), or a tensor if `size` is not known statically.
    """
    xp = np if all(isinstance(x, int) for x in (*size, *shift)) else ops
    bands = []
    for side, window, by in zip(size, window_size, shift, strict=True):
        place = xp.arange(side)
        # 0 before the last window; in it, 1 before the border of the map and 2 after it
        band = xp.where(place < side - window, 0, xp.where(place < side - by, 1, 2))
        bands.append(xp.reshape(band, (-1, window)))  # (h/a, a), (w/b, b)
    rows, columns = bands
    numbers = 3 * rows[:, None, :, None] + columns[None, :, None, :]  # (h/a, w/b, a, b)
    numbers = xp.reshape(numbers, (-1, window_size[0] * window_size[1]))  # (W, N)
    apart = numbers[:, :, None] != numbers[:, None, :]
    return xp.where(apart, np.float32(MASKED), np.float32(0))


def relative_index(window_size):
    """The row of a bias table for each pair of positions: int32 array (N, N).

    The (2a-1)(2b-1) rows are the relative positions query - key, row by row from (1 - a, 1 - b).
    """
    a, b = window_size
    rows, columns = (x.reshape(-1) for x in np.mgrid[:a, :b])  # (N,) each
    down = rows[:, None] - rows[None, :] + a - 1
    right = columns[:, None] - columns[None, :] + b - 1
    return (down * (2 * b - 1) + right).astype("int32")
