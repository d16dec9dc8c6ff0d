"""The fixed position embeddings of MAE.

Letters: D width, h x w grid of patches, P prefix tokens.
"""

import numpy as np


def sine_grid(grid, width):
    """Fixed sine-cosine embeddings of a grid: float32 array (h, w, D).

    The quarters of the channels are sin and cos of the column, then of the row, at frequencies
    10000^(-k / (D/4)). `keras_vit.layers.sincos_grid`, of big_vision, has other frequencies.

    Args:
        grid: (h, w).
        width: int, D, a multiple of 4.

    Raises:
        ValueError: if the width is not a multiple of 4.

    Source: facebookresearch/mae `util/pos_embed.py`, `get_2d_sincos_pos_embed`.
    """
    if width % 4:
        raise ValueError(
            f"Fixed positions need a width that is a multiple of 4. Received: width={width}"
        )
    quarter = width // 4
    frequencies = 10000.0 ** -(np.arange(quarter, dtype="float64") / quarter)
    y, x = np.meshgrid(*(np.arange(side, dtype="float64") for side in grid), indexing="ij")
    angles = (x[..., None] * frequencies, y[..., None] * frequencies)
    parts = [f(angle) for angle in angles for f in (np.sin, np.cos)]
    return np.concatenate(parts, axis=-1).astype("float32")


def fix_positions(layer):
    """Gives a built `AddPositionEmbedding` the fixed embeddings, and freezes it.

    Prefix tokens get zeros.
    """
    layer.grid.assign(sine_grid(layer.grid_size, layer.width))
    if layer.prefix is not None:
        layer.prefix.assign(np.zeros(layer.prefix.shape, "float32"))
    layer.trainable = False
