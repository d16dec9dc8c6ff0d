"""Relative position biases of window attention: learned, or from a small network.

Letters: a x b window, N = a*b positions in it, H heads.
"""

import keras
import numpy as np
from keras import ops

from keras_vit.layers.initializers import Initial
from keras_vit.layers.validation import check_choice
from keras_vit.layers.windows import relative_index
from keras_vit.ops.resample import geometric_matrix, resample_grid

CONVENTIONS = ("authors", "timm", "torchvision")


class RelativePositionBias(keras.layers.Layer):
    """A learned bias for every relative position within a window and every head.

    Its weight `table` has shape (2a-1, 2b-1, H), and is float32 under every dtype policy.

    Args:
        num_heads: int, H.
        window_size: (a, b).

    Source: Liu et al. 2021 (arXiv:2103.14030), equation 4.
    """

    def __init__(self, num_heads, window_size, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.window_size = window_size

    def build(self, _=None):
        a, b = self.window_size
        self.table = self.add_weight(
            shape=(2 * a - 1, 2 * b - 1, self.num_heads),
            initializer=Initial(keras.initializers.TruncatedNormal(stddev=0.02)),
            autocast=False,
            name="table",
        )

    def bias(self):
        """The bias of each pair of positions: float32 tensor (H, N, N)."""
        return look_up(self.table, self.window_size)


class ContinuousPositionBias(keras.layers.Layer):
    """A two-layer network from the relative position of two positions to a bias for every head.

    Relative positions are log-spaced, so that larger windows need little extrapolation. The network
    runs once per call, on all (2a-1)(2b-1) relative positions, in float32 under every dtype policy.

    Args:
        num_heads: int, H.
        window_size: (a, b).
        pretrained_window_size: (a, b), window size by which relative positions are normalised; by
            default `window_size`.

    Source: Liu et al. 2022 (arXiv:2111.09883), section 3.3; the sigmoid is from the authors' code.
    """

    def __init__(self, num_heads, window_size, pretrained_window_size=None, **kwargs):
        super().__init__(**kwargs)
        self.window_size = window_size
        self.offsets = log_offsets(window_size, pretrained_window_size or window_size)
        normal = {"kernel_initializer": Initial(keras.initializers.TruncatedNormal(stddev=0.02))}
        dtype = self.variable_dtype
        self.fc1 = keras.layers.Dense(512, "relu", name="fc1", dtype=dtype, **normal)
        self.fc2 = keras.layers.Dense(num_heads, use_bias=False, name="fc2", dtype=dtype, **normal)

    def build(self, _=None):
        self.fc1.build((None, 2))
        self.fc2.build((None, 512))

    def bias(self):
        """The bias of each pair of positions: float32 tensor (H, N, N), between 0 and 16."""
        table = self.fc2(self.fc1(ops.convert_to_tensor(self.offsets)))  # (2a-1, 2b-1, H)
        return 16 * ops.sigmoid(look_up(table, self.window_size))


def look_up(table, window_size):
    """The bias of each pair of positions: (2a-1, 2b-1, H) -> (H, N, N)."""
    table = ops.reshape(table, (-1, table.shape[-1]))
    return ops.transpose(ops.take(table, relative_index(window_size), axis=0), (2, 0, 1))


def log_offsets(window_size, pretrained_window_size):
    """All relative positions in a window, log-spaced: float32 array (2a-1, 2b-1, 2).

    The largest relative position in a window of the pre-training size becomes log2(9) / 3 = 1.06.
    """
    sides = [
        np.arange(1 - window, window) / max(pretrained - 1, 1) * 8
        for window, pretrained in zip(window_size, pretrained_window_size, strict=True)
    ]
    grid = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1)
    return (np.sign(grid) * np.log2(np.abs(grid) + 1) / 3).astype("float32")


def resample_bias_table(table, size, convention="authors"):
    """Resamples a bias table for another window size.

    Args:
        table: float tensor or array (2a-1, 2b-1, H).
        size: (2a'-1, 2b'-1).
        convention: "authors", "torchvision" (bicubic, the mode "hf" of `resample_grid`; torchvision
            itself never resamples a table) or "timm" (linear interpolation at geometrically spaced
            positions, which preserves the biases of near neighbours).

    Returns:
        float32 tensor (2a'-1, 2b'-1, H); for an equal size the table itself.

    Raises:
        ValueError: if the convention is unknown.

    Sources: Swin-Transformer `utils.py`, `load_pretrained`; timm `layers/pos_embed_rel.py`, after
    BEiT.
    """
    check_choice(convention, "convention", CONVENTIONS)
    if convention != "timm" or tuple(table.shape[:2]) == tuple(size):
        return resample_grid(table, size, "hf")
    rows, columns = (
        ops.cast(geometric_matrix(old, new), "float32")
        for old, new in zip(table.shape, size, strict=False)
    )
    return ops.einsum("ip,jq,pqh->ijh", rows, columns, ops.cast(table, "float32"))
