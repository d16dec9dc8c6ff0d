"""Resampling by explicit matrices, one for each side, alike on every backend.

Letters: B batch, h x w grid or size, D width.
"""

import math

import numpy as np
from keras import ops

MODES = ("timm", "hf", "flax", "bilinear", "dinov2")
DINOV2_OFFSET = 0.1  # cells, which its authors add to the new size against rounding errors


def resample_grid(grid, size, mode="timm"):
    """Resamples a grid of embeddings to another size, alike on every backend.

    Each side is one explicit matrix, so no backend's own idea of "bicubic" matters.

    Args:
        grid: float tensor or array (h, w, D).
        size: (h', w'), ints, or scalar tensors where TensorFlow does not know them yet.
        mode: whose arithmetic to follow.
            "timm": bicubic with antialiasing (a = -0.5), PyTorch's `interpolate(mode="bicubic",
            antialias=True)`.
            "hf": bicubic without (a = -0.75, borders repeated), PyTorch's `interpolate(
            mode="bicubic", align_corners=False)`, as transformers does.
            "flax": linear with aligned corners, `scipy.ndimage.zoom(order=1)`, as Google's
            vision_transformer and big_vision do.
            "bilinear": linear between the cells' middles (borders repeated), PyTorch's
            `interpolate(mode="bilinear", align_corners=False)`, as PVT does.
            "dinov2": as "hf", but with PyTorch's `scale_factor=(h' + 0.1) / h`, which moves every
            cell a little, as the authors of DINO and DINOv2 do for models without registers. A
            side that stays as long is moved too, unless both do.

    Returns:
        float32 tensor (h', w', D); for an equal size the grid itself.

    Raises:
        ValueError: for another mode, or a grid that is not of rank 3.

    Example:
        >>> resample_grid(np.zeros((14, 14, 768)), (24, 24)).shape
        (24, 24, 768)

    Sources: timm `layers/pos_embed.py`; transformers `ViTEmbeddings.interpolate_pos_encoding`;
    big_vision `models/vit.py`, `resample_posemb`; PVT `classification/pvt.py`; dinov2
    `models/vision_transformer.py`, `interpolate_pos_encoding`.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(map(repr, MODES))}. Received: {mode!r}")
    if len(grid.shape) != 3:
        raise ValueError(
            "grid must have the shape (height, width, embedding width). "
            f"Received: shape={tuple(grid.shape)}"
        )
    grid = ops.cast(ops.convert_to_tensor(grid), "float32")
    known = all(isinstance(side, int) for side in size)
    if known and tuple(size) == tuple(grid.shape[:2]):
        return grid
    same = None
    if mode == "dinov2" and not known:
        h, w = (_length(side, ops) for side in size)
        same = ops.logical_and(h == grid.shape[0], w == grid.shape[1])
    for axis, side in enumerate(size):
        old = grid.shape[axis]
        if mode == "dinov2" or not (isinstance(side, int) and side == old):
            matrix = ops.cast(resampling_matrix(old, side, mode), "float32")  # (side, old)
            if same is not None:
                places = ops.expand_dims(ops.arange(side, dtype="float32"), 1)
                unit = places == ops.arange(old, dtype="float32")
                matrix = ops.where(same, ops.cast(unit, "float32"), matrix)
            grid = ops.moveaxis(ops.tensordot(matrix, grid, axes=(1, axis)), 0, axis)
    return grid


def _length(side, xp, dtype="float32"):
    """The length of a side as an array (1, 1), whatever it was."""
    side = ops.cast(side, dtype) if ops.is_tensor(side) else side
    return xp.ones((1, 1), dtype=dtype) * side


def resampling_matrix(old, new, mode, dtype="float32"):
    """The matrix (new, old) that resamples one side; `new` may be unknown to an exporter yet.

    An array of NumPy where `new` is an int, else a tensor.
    """
    xp = np if isinstance(new, int) else ops
    length = _length(new, xp, dtype)
    index = xp.expand_dims(xp.arange(new, dtype=dtype), 1)  # (new, 1)
    source = xp.arange(old, dtype=dtype)  # (old,)

    if mode == "flax":
        centre = index * ((old - 1) / xp.maximum(length - 1, 1))
        return triangle(xp, source - centre)

    length = length + DINOV2_OFFSET if mode == "dinov2" else length
    centre = (index + 0.5) * (old / length) - 0.5  # where a new cell's middle lies in the old grid
    if mode == "bilinear":
        centre = xp.clip(centre, 0, old - 1)
        return triangle(xp, source - centre)
    if mode == "timm":
        stretch = xp.maximum(old / length, 1.0)  # a wider kernel when shrinking: antialiasing
        weights = cubic(xp, (source - centre) / stretch, a=-0.5)
        return weights / xp.sum(weights, axis=1, keepdims=True)
    # "hf", "dinov2": what falls outside the grid goes to the nearest cell of the border.
    taps = np.arange(-2, old + 2)
    fold = np.eye(old, dtype=dtype)[np.clip(taps, 0, old - 1)]  # (old + 4, old)
    distance = xp.arange(-2, old + 2, dtype=dtype) - centre  # (new, old + 4)
    return xp.matmul(cubic(xp, distance, a=-0.75), fold)


def geometric_matrix(old, new):
    """The matrix (new, old) that resamples one side; both are odd, their middles meet.

    Linear between places whose distances grow geometrically towards the ends, so that the middle
    stays as it was. The steps grow by 1 % at least, so a side that stays as long is resampled too,
    as in timm (`layers/pos_embed_rel.py`).
    """
    half = old // 2
    low, high = 1.01, 1.5  # the ratio with which `half` steps reach the new border
    while high - low > 1e-6:
        ratio = (low + high) / 2
        low, high = (low, ratio) if (1 - ratio**half) / (1 - ratio) > new // 2 else (ratio, high)
    places = np.cumsum(ratio ** np.arange(half))
    places = np.concatenate([-places[::-1], [0], places])
    wanted = np.arange(new) - new // 2
    return np.stack([np.interp(wanted, places, column) for column in np.eye(old)], axis=1)


def adaptive_average(grid, size):
    """Averages a feature map (B, h, w, D) to (B, size, size, D), whatever h and w are.

    Cell i of a side is the mean of the cells from floor(i h / size) up to ceil((i + 1) h / size),
    so neighbours share cells where `size` does not divide h: PyTorch's `AdaptiveAvgPool2d`. Each
    side is one explicit matrix, the same on every backend.
    """
    _, h, w, _ = ops.shape(grid)
    rows = ops.cast(_averaging_matrix(h, size), grid.dtype)  # (size, h)
    columns = ops.cast(_averaging_matrix(w, size), grid.dtype)  # (size, w)
    return ops.einsum("ih,jw,bhwd->bijd", rows, columns, grid)


def _averaging_matrix(old, new):
    """The matrix (new, old) that averages one side; `old` is an int or a scalar tensor."""
    i = ops.expand_dims(ops.arange(new, dtype="int32"), 1)  # (new, 1)
    source = ops.arange(old, dtype="int32")  # (old,)
    first = (i * old) // new
    last = ((i + 1) * old + new - 1) // new  # the first cell beyond
    inside = ops.cast(ops.logical_and(source >= first, source < last), "float32")
    return inside / ops.sum(inside, axis=1, keepdims=True)


def triangle(xp, distance):
    """The kernel of linear interpolation, zero from a distance of 1 on.

    Args:
        xp: NumPy, `keras.ops` or a module like them.
        distance: array or tensor of it, in cells.
    """
    return xp.maximum(1.0 - xp.abs(distance), 0.0)


def cubic(xp, distance, a=-0.5):
    """Keys' cubic convolution kernel (1981), zero from a distance of 2 on.

    Args:
        xp, distance: as of `triangle`.
        a: float, the slope at 1: -0.5 in PIL and with antialiasing, -0.75 in PyTorch without.
    """
    x = xp.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return xp.where(x <= 1, near, xp.where(x < 2, far, xp.zeros_like(x)))


def lanczos(xp, distance):
    """PIL's Lanczos kernel, zero from a distance of 3 on; arguments as of `triangle`."""
    x = xp.abs(distance)
    angle = math.pi * xp.maximum(x, 1e-6)
    sinc = xp.sin(angle) / angle * xp.sin(angle / 3.0) / (angle / 3.0)
    return xp.where(x < 3.0, sinc, xp.zeros_like(x))
