"""Resampling with an explicit matrix per side, the same on every backend.

Letters: B batch, h x w grid or size, D width.
"""

import math

import numpy as np
from keras import ops

from keras_vit.ops.sides import as_float, number

MODES = ("timm", "hf", "flax", "bilinear", "dinov2", "torchvision")
DINOV2_OFFSET = 0.1  # cells, added to the new size against rounding errors, as in the authors' code


def resample_grid(grid, size, mode="timm"):
    """Resamples a grid of embeddings to another size.

    Each side is resampled by an explicit matrix, so the result does not depend on how the backend
    implements interpolation.

    Args:
        grid: float tensor or array (h, w, D).
        size: (h', w'), ints, or scalar tensors where TensorFlow does not know them yet.
        mode: str, the interpolation.
            "timm": bicubic with antialiasing (a = -0.5), like PyTorch's
            `interpolate(mode="bicubic", antialias=True)`.
            "hf": bicubic without antialiasing (a = -0.75, borders repeated), like PyTorch's
            `interpolate(mode="bicubic", align_corners=False)`; used by transformers.
            "flax": linear with aligned corners, like `scipy.ndimage.zoom(order=1)`; used by
            Google's vision_transformer and big_vision.
            "bilinear": linear between cell centres (borders repeated), like PyTorch's
            `interpolate(mode="bilinear", align_corners=False)`; used by PVT.
            "dinov2": like "hf", but with PyTorch's `scale_factor=(h' + 0.1) / h`, which shifts
            every cell a little; used by DINO, and DINOv2 without registers. If one side changes,
            the other is resampled too, even if its length is the same.
            "torchvision": like "hf", but with aligned corners, like PyTorch's
            `interpolate(mode="bicubic", align_corners=True)`.

    Returns:
        float32 tensor (h', w', D). For an equal size it is the grid itself.

    Raises:
        ValueError: if the mode is unknown, or the rank of the grid is not 3.

    Example:
        >>> resample_grid(np.zeros((14, 14, 768)), (24, 24)).shape
        (24, 24, 768)

    Sources: timm `layers/pos_embed.py`; transformers `ViTEmbeddings.interpolate_pos_encoding`;
    big_vision `models/vit.py`, `resample_posemb`; PVT `classification/pvt.py`; dinov2
    `models/vision_transformer.py`, `interpolate_pos_encoding`; torchvision
    `models/vision_transformer.py`, `interpolate_embeddings`.
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
    """The length of a side, an int or a scalar tensor, as an array (1, 1)."""
    side = ops.cast(side, dtype) if ops.is_tensor(side) else side
    return xp.ones((1, 1), dtype=dtype) * side


def resampling_matrix(old, new, mode, dtype="float32"):
    """The matrix (new, old) that resamples one side; `new` may be symbolic in an export.

    Returns a NumPy array if `new` is an int, a tensor otherwise.
    """
    xp = np if isinstance(new, int) else ops
    length = _length(new, xp, dtype)
    index = xp.expand_dims(xp.arange(new, dtype=dtype), 1)  # (new, 1)
    source = xp.arange(old, dtype=dtype)  # (old,)

    length = length + DINOV2_OFFSET if mode == "dinov2" else length
    # centre of each new cell, in old cells
    if mode in ("flax", "torchvision"):
        centre = index * ((old - 1) / xp.maximum(length - 1, 1))
    else:
        centre = (index + 0.5) * (old / length) - 0.5
    if mode == "flax":
        return triangle(xp, source - centre)
    if mode == "bilinear":
        centre = xp.clip(centre, 0, old - 1)
        return triangle(xp, source - centre)
    if mode == "timm":
        stretch = xp.maximum(old / length, 1.0)  # antialiasing: a wider kernel when shrinking
        weights = cubic(xp, (source - centre) / stretch, a=-0.5)
        return weights / xp.sum(weights, axis=1, keepdims=True)
    # The other modes: weights outside the grid are added to those of the nearest border cell.
    taps = np.arange(-2, old + 2)
    fold = np.eye(old, dtype=dtype)[np.clip(taps, 0, old - 1)]  # (old + 4, old)
    distance = xp.arange(-2, old + 2, dtype=dtype) - centre  # (new, old + 4)
    return xp.matmul(cubic(xp, distance, a=-0.75), fold)


def geometric_matrix(old, new):
    """The matrix (new, old) that resamples one side; both lengths are odd, with the same centre.

    Linear between points whose spacing grows geometrically away from the centre. The spacing grows
    by at least 1 % per step, so a side of equal length is resampled too, as in timm
    (`layers/pos_embed_rel.py`).
    """
    half = old // 2
    low, high = 1.01, 1.5  # bounds of the ratio for which `half` steps reach the new border
    while high - low > 1e-6:
        ratio = (low + high) / 2
        low, high = (low, ratio) if (1 - ratio**half) / (1 - ratio) > new // 2 else (ratio, high)
    places = np.cumsum(ratio ** np.arange(half))
    places = np.concatenate([-places[::-1], [0], places])
    wanted = np.arange(new) - new // 2
    return np.stack([np.interp(wanted, places, column) for column in np.eye(old)], axis=1)


def adaptive_average(grid, size):
    """Averages a feature map (B, h, w, D) to (B, size, size, D), for any h and w.

    Cell i of a side is the mean of the cells from floor(i h / size) up to ceil((i + 1) h / size),
    as in PyTorch's `AdaptiveAvgPool2d`; neighbours overlap if `size` does not divide h. Each side
    is averaged by an explicit matrix, the same on every backend.
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
    last = ((i + 1) * old + new - 1) // new  # exclusive
    inside = ops.cast(ops.logical_and(source >= first, source < last), "float32")
    return inside / ops.sum(inside, axis=1, keepdims=True)


def triangle(xp, distance):
    """The kernel of linear interpolation, zero at distances of 1 and more.

    Args:
        xp: NumPy, `keras.ops` or a compatible module.
        distance: array or tensor of distances, in cells.

    Returns:
        Array or tensor of weights, of the same shape.
    """
    return xp.maximum(1.0 - xp.abs(distance), 0.0)


def cubic(xp, distance, a=-0.5):
    """The cubic convolution kernel of Keys (1981), zero at distances of 2 and more.

    Args:
        xp, distance: arguments of `triangle`.
        a: float, slope at distance 1: -0.5 in PIL and PyTorch with antialiasing, -0.75 in PyTorch
            without.

    Returns:
        Array or tensor of weights, of the same shape.
    """
    x = xp.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return xp.where(x <= 1, near, xp.where(x < 2, far, xp.zeros_like(x)))


def lanczos(xp, distance):
    """PIL's Lanczos kernel, zero at distances of 3 and more; arguments of `triangle`."""
    x = xp.abs(distance)
    angle = math.pi * xp.maximum(x, 1e-6)
    sinc = xp.sin(angle) / angle * xp.sin(angle / 3.0) / (angle / 3.0)
    return xp.where(x < 3.0, sinc, xp.zeros_like(x))


def resize_map(x, size, align_corners=False):
    """Resizes a map with bilinear interpolation, like PyTorch's `interpolate(mode="bilinear")`.

    Args:
        x: float tensor (B, h, w, D).
        size: (h', w'), ints, or scalar tensors if they are not known statically.
        align_corners: bool, whether the centres of the corner cells stay where they are; otherwise
            the borders of the corner cells do, and values beyond the outermost centres are those of
            the nearest cell. Smaller maps are not antialiased.

    Returns:
        Tensor (B, h', w', D). For an equal size it is the map itself.
    """
    if all(isinstance(side, int) for side in size) and tuple(size) == tuple(x.shape[1:3]):
        return x
    if not align_corners:
        if not any(ops.is_tensor(side) for side in size):
            return ops.image.resize(x, size, "bilinear", data_format="channels_last")
        import tensorflow as tf  # alone has graphs of unknown sizes; Keras compares them with zero

        return tf.cast(tf.image.resize(x, tf.stack(size)), x.dtype)
    (_, h, w, _), width = ops.shape(x), x.shape[-1]
    rows = ops.cast(_aligned_matrix(h, size[0]), x.dtype)  # (h', h)
    columns = ops.cast(_aligned_matrix(w, size[1]), x.dtype)  # (w', w)
    # Matrix products, since LiteRT cannot run what TensorFlow makes of einsum here.
    x = ops.reshape(ops.matmul(columns, x), (-1, h, size[1] * width))  # (B, h, w' * D)
    return ops.reshape(ops.matmul(rows, x), (-1, *size, width))  # (B, h', w', D)


def _aligned_matrix(old, new):
    """The matrix (new, old) of linear interpolation with aligned corners; both may be symbolic."""
    last, new_last = (as_float(number(side), ops) - 1 for side in (old, new))
    centre = ops.expand_dims(ops.arange(new, dtype="float32"), 1) * (
        last / ops.maximum(new_last, 1.0)
    )
    return triangle(ops, ops.arange(old, dtype="float32") - centre)
