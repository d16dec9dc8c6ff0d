"""Converts arrays between a source's axis order and that of the weights, in both directions.

Letters: D width, H heads, K = D / H, p x q patch size, C channels, P prefix tokens, h x w grid.
"""

import math
import re
from typing import NamedTuple

import numpy as np


class Facts(NamedTuple):
    """What a layout must know besides the arrays: of the source to read, of the model to write.

    Attributes:
        patch_size: (p, q).
        num_channels: int, C.
        num_heads: int, H.
        num_prefix_tokens: int, P, how many prefix tokens have a position.
        grid: (h, w) of the position embeddings, or None without any.
        bias_tables: tuple of the sides (2a-1, 2b-1) that a table of position biases may have.
    """

    patch_size: tuple
    num_channels: int
    num_heads: int = 0
    num_prefix_tokens: int = 0
    grid: tuple | None = None
    bias_tables: tuple = ()

    def at(self, path):
        """The facts about the weight at `path`: the same for all."""
        return self


class StageFacts(NamedTuple):
    """Facts of a model of several stages, whose layers are named stage0_... and so on.

    Attributes:
        stages: tuple of `Facts`, of each stage's patch embedding and positions.
        reductions: tuple of `Facts`, of the patches that its attention reduces.
    """

    stages: tuple
    reductions: tuple

    def at(self, path):
        """The facts about the weight at `path`."""
        found = re.match(r"stage(\d+)_", path)
        part = self.reductions if "/reduce/" in path else self.stages
        return part[int(found[1])] if found else self.stages[-1]


def _same(x, facts):
    return x


def _transposed(x, facts):
    return x.T


def _from_convolution(x, facts):
    return x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0])  # (D, C, p, q) -> (p*q*C, D)


def _to_convolution(x, facts):
    return _to_patches(x, facts).transpose(3, 2, 0, 1)


def _to_patches(x, facts):
    return x.reshape(*facts.patch_size, facts.num_channels, x.shape[-1])  # (p, q, C, D)


def _rows(x, facts):
    return x.reshape(-1, x.shape[-1])


def _flat(x, facts):
    return x.reshape(-1)


# name: (theirs to ours, ours to theirs), for one array
SIMPLE = {
    "vector": (_same, _same),
    "plain": (_same, _same),  # (in, out)
    "flat": (_flat, _same),  # (C,) with axes of one before it
    "linear": (_transposed, _transposed),  # (out, in)
    "convolution": (_from_convolution, _to_convolution),
    "patches": (_rows, _to_patches),
    "kernel": (  # (D, C, p, q), of a convolution that is one here too
        lambda x, facts: x.transpose(2, 3, 1, 0),
        lambda x, facts: x.transpose(3, 2, 0, 1),
    ),
    "depthwise": (  # (C, 1, p, q)
        lambda x, facts: x.transpose(2, 3, 0, 1),
        lambda x, facts: x.transpose(2, 3, 0, 1),
    ),
    "heads_out": (  # (D, H, K)
        lambda x, facts: x.reshape(x.shape[0], -1),
        lambda x, facts: x.reshape(x.shape[0], facts.num_heads, -1),
    ),
    "heads_in": (  # (H, K, D)
        _rows,
        lambda x, facts: x.reshape(facts.num_heads, -1, x.shape[-1]),
    ),
    "heads_bias": (  # (H, K)
        _flat,
        lambda x, facts: x.reshape(facts.num_heads, -1),
    ),
    "token": (_rows, lambda x, facts: x[None]),  # (1, P, D)
    "head_scale": (_flat, lambda x, facts: x[:, None, None]),  # (H, 1, 1)
    "single_token": (lambda x, facts: x[None], lambda x, facts: x[0]),  # (D,)
}


def _read_positions(arrays, facts):
    rows = _rows(arrays[0], facts)  # (P + h*w, D)
    prefix, grid = rows[: facts.num_prefix_tokens], rows[facts.num_prefix_tokens :]
    return [prefix, grid.reshape(*facts.grid, -1)]


def _write_positions(arrays, facts):
    *prefix, grid = arrays
    return np.concatenate([*prefix, _rows(grid, facts)])


def _read_bias_table(table, facts):
    for sides in facts.bias_tables:
        if math.prod(sides) == table.shape[0]:
            return table.reshape(*sides, -1)
    expected = " or ".join(str(math.prod(sides)) for sides in dict.fromkeys(facts.bias_tables))
    raise ValueError(f"{expected} offsets expected, {table.shape[0]} found")


def read(layout, arrays, targets, facts):
    """Converts the arrays of one row's sources to those of its targets.

    Args:
        layout: str, the row's.
        arrays: list of arrays, one a source.
        targets: list of the paths to make, with the size of their last axis: (path, size) pairs.
        facts: `Facts` of the source.

    Returns:
        dict of path to array. Grids of positions keep the source's size.

    Raises:
        ValueError: where the arrays have not the axes that the layout says.
    """
    paths = [path for path, _ in targets]
    if layout in ("positions", "position_table"):
        prefix, grid = _read_positions(arrays, facts)
        return {path: grid if path.endswith("/grid") else prefix for path in paths}
    if layout == "bias_table":  # (offsets, H)
        return {paths[0]: _read_bias_table(arrays[0], facts)}
    if layout == "bias_without_keys":  # (3D,), of queries, keys and values
        query, _, value = np.split(arrays[0], 3)
        return dict(zip(paths, (query, value), strict=True))
    if layout == "positions_after_class_token":
        return {paths[0]: _rows(arrays[0], facts)[1:].reshape(*facts.grid, -1)}
    if layout == "class_token_with_position":
        return {paths[0]: _rows(arrays[0], facts) + _rows(arrays[1], facts)[:1]}
    convert = SIMPLE[layout][0]
    parts = [convert(x, facts) for x in arrays]
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
    if len(paths) == 1:
        return {paths[0]: whole}
    sizes = [size for _, size in targets]
    if sum(sizes) != whole.shape[-1]:
        raise ValueError(f"{whole.shape[-1]} outputs for {sizes}")
    return dict(zip(paths, np.split(whole, np.cumsum(sizes)[:-1], axis=-1), strict=True))


def write(layout, arrays, count, facts):
    """Converts the arrays of one row's targets to those of its `count` sources.

    Args:
        layout: str, the row's.
        arrays: list of arrays, one a target that the model has.
        count: int, number of sources.
        facts: `Facts` of the model.

    Returns:
        list of arrays, one a source; None where another row writes it.
    """
    if layout in ("positions", "position_table"):
        rows = _write_positions(arrays, facts)
        return [rows[None] if layout == "positions" else rows]
    if layout == "bias_table":
        return [_rows(arrays[0], facts)]
    if layout == "bias_without_keys":
        query, value = arrays
        return [np.concatenate([query, np.zeros_like(query), value])]
    if layout == "positions_after_class_token":
        rows = _rows(arrays[0], facts)
        return [np.concatenate([np.zeros_like(rows[:1]), rows])[None]]
    if layout == "class_token_with_position":
        return [arrays[0][None], None]  # the position stays within the token
    whole = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)
    convert = SIMPLE[layout][1]
    return [convert(part, facts) for part in np.split(whole, count, axis=-1)]
