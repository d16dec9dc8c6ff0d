"""Which cells of a map belong to the picture, and position embeddings of the cells.

Letters: B batch, H x W image size, h x w map, N = h*w, D width.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost
from keras_vit.layers.initializers import Initial
from keras_vit.ops.sides import arange, as_float, number

TEMPERATURE = 10000
TINY = 1e-6  # added to the extent of a picture, as in the authors' code
MOST_CELLS = 50  # of a side, for learned positions


class MapMask(ConfiguredLayer):
    """Brings the mask of valid pixels to the size of a map: bool (B, H, W) -> bool (B, h, w).

    Cell i of a side of h cells is that of pixel floor(i * H / h), as PyTorch's nearest
    interpolation takes it. Keras's takes the centre of a cell.

    Call arguments:
        valid: bool tensor (B, H, W), True where there is a picture, False where there is padding.
        grid: float tensor (B, h, w, D); only its size is used.
    """

    def call(self, valid, grid):
        _, height, width = ops.shape(valid)
        _, h, w, _ = ops.shape(grid)
        valid = ops.take(ops.cast(valid, "bool"), _nearest(height, h), axis=1)
        return ops.take(valid, _nearest(width, w), axis=2)

    def compute_output_spec(self, valid, grid):
        return keras.KerasTensor((valid.shape[0], *grid.shape[1:3]), "bool")

    def cost(self, valid_shape, grid_shape):
        return Cost()


class MapToTokens(ConfiguredLayer):
    """Lists the cells of a map row by row: (B, h, w, ...) -> (B, h*w, ...)."""

    def call(self, grid):
        _, h, w, *width = ops.shape(grid)
        return ops.reshape(grid, (-1, h * w, *width))

    def compute_output_spec(self, grid):
        batch, h, w, *width = grid.shape
        shape = (batch, None if None in (h, w) else h * w, *width)
        return keras.KerasTensor(shape, grid.dtype)

    def compute_token_layout(self, layout):
        return layout

    def cost(self, grid_shape):
        return Cost()


class SinePositions(ConfiguredLayer):
    """Sine embeddings of the place of every cell within the valid part of the map.

    Rows and columns are counted from 1 over valid cells, and divided by their number, so that the
    embeddings do not depend on the padding. The first half of the channels is that of the rows.

    Args:
        width: int, D, a multiple of 4.

    Call arguments:
        grid: float tensor (B, h, w, ...); only its size is used.
        valid: bool tensor (B, h, w), True for valid cells; None if all are valid.

    Returns:
        Tensor (B, h*w, D); (1, h*w, D) without a valid.

    Raises:
        ValueError: if `width` is not a multiple of 4.

    Source: facebookresearch/detr `models/position_encoding.py`, `PositionEmbeddingSine`.
    """

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(width, int) or width % 4:
            raise ValueError(f"width must be a multiple of 4. Received: width={width!r}")
        self.width = width

    def build(self, grid_shape, valid_shape=None):
        """Creates no weights."""

    def call(self, grid, valid=None):
        _, h, w, _ = ops.shape(grid)
        if valid is None:
            y = ops.reshape(arange(h, ops) + 1.0, (1, h, 1))
            x = ops.reshape(arange(w, ops) + 1.0, (1, 1, w))
            last_y, last_x = as_float(number(h), ops), as_float(number(w), ops)
        else:
            valid = ops.cast(valid, "float32")
            y, x = ops.cumsum(valid, axis=1), ops.cumsum(valid, axis=2)  # (B, h, w) each
            last_y, last_x = y[:, -1:], x[:, :, -1:]
        y = sine_embedding(y / (last_y + TINY) * (2 * math.pi), self.width // 2)
        x = sine_embedding(x / (last_x + TINY) * (2 * math.pi), self.width // 2)
        batch = 1 if valid is None else -1
        if valid is None:
            y = ops.broadcast_to(y, (1, h, w, self.width // 2))
            x = ops.broadcast_to(x, (1, h, w, self.width // 2))
        positions = ops.concatenate([y, x], axis=-1)  # (B, h, w, D)
        positions = ops.reshape(positions, (batch, h * w, self.width))
        return ops.cast(positions, self.compute_dtype)

    def compute_output_spec(self, grid, valid=None):
        return _positions_spec(self, grid, None if valid is None else valid.shape[0], valid is None)

    def compute_token_layout(self, layout):
        return layout

    def cost(self, grid_shape, valid_shape=None):
        return Cost()


class LearnedPositions(ConfiguredLayer):
    """Learned embeddings of rows and columns; the first half of the channels is the columns'.

    Args:
        width: int, D, a multiple of 2.

    Call arguments:
        grid: float tensor (B, h, w, ...); only its size is used. h and w are at most 50.
        valid: ignored.

    Returns:
        Tensor (1, h*w, D).

    Raises:
        ValueError: if a side has more cells than there are embeddings.

    Source: facebookresearch/detr `models/position_encoding.py`, `PositionEmbeddingLearned`.
    """

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width

    def build(self, grid_shape, valid_shape=None):
        weight = {
            "shape": (MOST_CELLS, self.width // 2),
            "initializer": Initial(keras.initializers.RandomUniform(0, 1)),
        }
        self.rows = self.add_weight(name="rows", **weight)
        self.columns = self.add_weight(name="columns", **weight)

    def call(self, grid, valid=None):
        _, h, w, _ = ops.shape(grid)
        if any(isinstance(side, int) and side > MOST_CELLS for side in (h, w)):
            raise ValueError(
                f"Learned positions are for maps of at most {MOST_CELLS} x {MOST_CELLS} cells: "
                f"pass smaller images. Received: a map of {h} x {w}"
            )
        half = self.width // 2
        x = ops.broadcast_to(ops.cast(self.columns, self.compute_dtype)[None, :w], (h, w, half))
        y = ops.broadcast_to(ops.cast(self.rows, self.compute_dtype)[:h, None], (h, w, half))
        return ops.reshape(ops.concatenate([x, y], axis=-1), (1, h * w, self.width))

    def compute_output_spec(self, grid, valid=None):
        return _positions_spec(self, grid, 1, True)

    def compute_token_layout(self, layout):
        return layout

    def cost(self, grid_shape, valid_shape=None):
        return Cost()


def sine_embedding(places, width):
    """Sine embeddings of numbers: float32 (...) -> (..., width), sine and cosine in turn."""
    i = np.arange(width // 2)
    frequency = (1.0 / TEMPERATURE ** (2 * i / width)).astype("float32")
    angle = ops.expand_dims(places, -1) * ops.convert_to_tensor(frequency)  # (..., width / 2)
    both = ops.stack([ops.sin(angle), ops.cos(angle)], axis=-1)
    return ops.reshape(both, (*ops.shape(places), width))


def _positions_spec(layer, grid, batch, alone):
    _, h, w, _ = grid.shape
    n = None if None in (h, w) else h * w
    return keras.KerasTensor((1 if alone else batch, n, layer.width), layer.compute_dtype)


def _nearest(old, new):
    """int32 (new,): floor(i * old / new) in float32; both may be scalar tensors."""
    scale = as_float(number(old), ops) / as_float(number(new), ops)
    last = ops.cast(number(old), "int32") - 1
    return ops.minimum(ops.cast(ops.floor(arange(new, ops) * scale), "int32"), last)
