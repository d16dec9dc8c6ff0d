"""Which grid the position embeddings of a source have, from how many there are.

What the configuration says must fit. Then the caller is asked, whose `position_grid` and
`image_size` need not be the source's: they may be those to resample to. A square comes last.
"""

import math

from keras_vit.callers import warn
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.layers.validation import as_pair


def source_grid(count, extras, usual, patch_size, image_size, overrides, name):
    """Grid and image size of a source, and how many of its positions are those of tokens before.

    Args:
        count: int, number of position embeddings.
        extras: tuple of int, how many of them may be those of tokens before the patches.
        usual: tuple of int, those of `extras` that a square grid is evidence enough for.
        patch_size: (p, q).
        image_size: int, (H, W) or None, what the configuration says.
        overrides: dict of the caller's arguments.
        name: str, the source, for errors.

    Returns:
        ((h, w), (H, W), extra).

    Raises:
        CheckpointError: for sizes that do not fit, and where nobody says which of several readings
            is right; it names the argument.
    """
    if image_size is not None:
        return _of_image(count, extras, patch_size, image_size, name)
    squares = _squares(count, extras)
    asked = overrides.get("position_grid")
    if asked is not None:
        grid = as_pair(asked, "position_grid")
        if count - math.prod(grid) in extras:
            return grid, _size(grid, patch_size), count - math.prod(grid)
    asked = overrides.get("image_size")
    if asked is not None:
        grid = _grid(asked, patch_size)
        extra = count - math.prod(grid)
        if extra in extras or not squares:
            found = _of_image(count, extras, patch_size, asked, name)
            for other, tokens in squares:
                if tokens == extra and other != grid:
                    _warn_of_square(count, grid, other, asked, name)
            return found
    said = overrides.get("position_embedding")
    if said == "learned_patches":
        squares = [(grid, extra) for grid, extra in squares if extra == 0] or squares
    if not squares:
        raise CheckpointError(
            f"The {count} position embeddings of {name} make no square, and no config.json "
            "says which shape they have: pass the source's image_size=(height, width). "
            f"Received: {_said(overrides)}"
        )
    grid, extra = squares[0]
    if len(squares) > 1 or not (extra in usual or said == "learned_patches"):
        readings = [f"{h} x {w} patches {_and(extra)}" for (h, w), extra in squares]
        raise CheckpointError(
            f"The {count} position embeddings of {name} may be those of {' or '.join(readings)}, "
            f"or of another grid {_and(max(extras))}: pass the source's image_size=(height, width),"
            " or position_embedding='learned_patches' where patches alone have positions. "
            f"Received: {_said(overrides)}"
        )
    return grid, _size(grid, patch_size), extra


def _of_image(count, extras, patch_size, image_size, name):
    image_size = as_pair(image_size, "image_size")
    grid = _grid(image_size, patch_size)
    extra = count - math.prod(grid)
    if extra not in extras or min(grid) < 1:
        raise CheckpointError(
            f"{name} has {count} position embeddings, which do not fit {grid[0]} x {grid[1]} "
            f"patches {' or '.join(map(_and, extras))}. Received: image_size={image_size}"
        )
    return grid, image_size, extra


def _squares(count, extras):
    """[((h, h), extra)] of the square grids that there may be."""
    sides = [(math.isqrt(max(count - extra, 0)), extra) for extra in extras]
    return [((s, s), extra) for s, extra in sides if s and s * s == count - extra]


def _grid(image_size, patch_size):
    sides = zip(as_pair(image_size, "image_size"), patch_size, strict=True)
    return tuple(side // patch for side, patch in sides)


def _size(grid, patch_size):
    return tuple(side * patch for side, patch in zip(grid, patch_size, strict=True))


def _and(extra):
    if extra == 0:
        return "alone"
    return "and the token before them" if extra == 1 else f"and the {extra} tokens before them"


def _said(overrides):
    names = ("image_size", "position_grid", "position_embedding")
    said = [f"{name}={overrides[name]!r}" for name in names if overrides.get(name) is not None]
    return ", ".join(said) or "none of these"


def _warn_of_square(count, grid, square, asked, name):
    warn(
        f"The {count} position embeddings of {name} are taken for those of {grid[0]} x {grid[1]} "
        f"patches, as image_size={asked} says. If they are those of {square[0]} x {square[1]}, to "
        f"be resampled, pass position_grid={square} too."
    )
