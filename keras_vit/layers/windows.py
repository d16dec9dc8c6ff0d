"""Feature maps cut into windows and back, shifted and masked.

Letters: B batch, h x w map, D width, a x b window, W windows of a map, N = a*b places in a window.
"""

import numpy as np
from keras import ops

MASKED = -100.0  # what the authors add to the scores of pairs that must not meet


def partition_windows(x, window_size):
    """Cuts maps (B, h, w, D), h and w multiples of the window's, into windows (B*W, N, D).

    Example:
        >>> partition_windows(np.zeros((2, 14, 21, 96)), (7, 7)).shape
        (12, 49, 96)
    """
    _, h, w, width = ops.shape(x)
    a, b = window_size
    x = ops.reshape(x, (-1, h // a, a, w // b, b, width))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))  # (B, h/a, w/b, a, b, D)
    return ops.reshape(x, (-1, a * b, width))


def merge_windows(windows, window_size, size):
    """The inverse of `partition_windows`: windows (B*W, N, D) to maps (B, h, w, D).

    Args:
        windows: tensor (B*W, N, D).
        window_size: (a, b).
        size: (h, w), multiples of the window's, ints or scalar tensors.
    """
    (a, b), (h, w), width = window_size, size, windows.shape[-1]
    x = ops.reshape(windows, (-1, h // a, w // b, a, b, width))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))  # (B, h/a, a, w/b, b, D)
    return ops.reshape(x, (-1, h, w, width))


def shift_sizes(size, window_size, convention):
    """How far the windows of a shifted block move: half a window, or not at all.

    A map that one window covers has no other window to exchange with. "authors": then nothing moves
    if that is so along one side; "timm": each side decides for itself.

    Args:
        size: (h, w), ints, or scalar tensors where TensorFlow does not know them yet.
        window_size: (a, b).
        convention: "authors" or "timm".

    Returns:
        (down, right), how far rows and columns move.
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
    """What is added to the scores of shifted windows: (W, N, N), 0, or -100 for pairs kept apart.

    After the cyclic shift the last windows hold places that are no neighbours in the map. The
    bands between them are numbered, and only equal numbers may meet.

    Args:
        size: (h, w) of the padded map, ints or scalar tensors.
        window_size: (a, b).
        shift: (down, right).

    Returns:
        float32 array, or tensor where `size` is not known yet.
    """
    xp = np if all(isinstance(x, int) for x in (*size, *shift)) else ops
    bands = []
    for side, window, by in zip(size, window_size, shift, strict=True):
        place = xp.arange(side)
        # 0 up to the last window, in it 1 before the border and 2 behind it
        band = xp.where(place < side - window, 0, xp.where(place < side - by, 1, 2))
        bands.append(xp.reshape(band, (-1, window)))  # (h/a, a), (w/b, b)
    rows, columns = bands
    numbers = 3 * rows[:, None, :, None] + columns[None, :, None, :]  # (h/a, w/b, a, b)
    numbers = xp.reshape(numbers, (-1, window_size[0] * window_size[1]))  # (W, N)
    apart = numbers[:, :, None] != numbers[:, None, :]
    return xp.where(apart, np.float32(MASKED), np.float32(0))


def relative_index(window_size):
    """Which row of a bias table belongs to a pair of places: int32 (N, N) into (2a-1)(2b-1) rows.

    Row by row of the offset query - key, from (1 - a, 1 - b) on.
    """
    a, b = window_size
    rows, columns = (x.reshape(-1) for x in np.mgrid[:a, :b])  # (N,) each
    down = rows[:, None] - rows[None, :] + a - 1
    right = columns[:, None] - columns[None, :] + b - 1
    return (down * (2 * b - 1) + right).astype("int32")
