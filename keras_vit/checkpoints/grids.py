"""Finds the grid of a source's position embeddings from their number.

What the configuration says must fit. Then the caller is asked, whose `position_grid` and
`image_size` need not be the source's: they may be those to resample to. A square comes last.
"""

import math
from typing import NamedTuple

from keras_vit.callers import warn
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.layers.validation import as_pair


class _Counted(NamedTuple):
    """Position embeddings of a source whose grid is to be found.

    Attributes:
        count: int, how many there are.
        extras: tuple of int, how many of them may be those of tokens before the patches.
        patch_size: (p, q).
        name: str, the source, for errors.
    """

    count: int
    extras: tuple
    patch_size: tuple
    name: str

    def of_image(self, image_size):
        """(grid, image size, extra) for images of that size, which must fit the count."""
        image_size = as_pair(image_size, "image_size")
        grid = self.grid(image_size)
        extra = self.count - math.prod(grid)
        if extra not in self.extras or min(grid) < 1:
            raise CheckpointError(
                f"{self.name} has {self.count} position embeddings, which do not fit {grid[0]} x "
                f"{grid[1]} patches {' or '.join(map(_and, self.extras))}. "
                f"Received: image_size={image_size}"
            )
        return grid, image_size, extra

    def squares(self):
        """[((h, h), extra)] of the possible square grids."""
        sides = [(math.isqrt(max(self.count - extra, 0)), extra) for extra in self.extras]
        return [((s, s), extra) for s, extra in sides if s and s * s == self.count - extra]

    def grid(self, image_size):
        """(h, w) patches of an image."""
        sides = zip(as_pair(image_size, "image_size"), self.patch_size, strict=True)
        return tuple(side // patch for side, patch in sides)

    def size(self, grid):
        """(H, W) pixels of a grid."""
        return tuple(side * patch for side, patch in zip(grid, self.patch_size, strict=True))

    def warn_of_square(self, grid, square, asked):
        """Warns that a square grid is as likely as the one from the caller's image size."""
        warn(
            f"The {self.count} position embeddings of {self.name} are taken for those of {grid[0]} "
            f"x {grid[1]} patches, as image_size={asked} says. If they are those of {square[0]} x "
            f"{square[1]}, to be resampled, pass position_grid={square} too."
        )


def source_grid(count, extras, *, patch_size, overrides, name, usual=(0,), image_size=None):
    """Finds grid and image size of a source, and how many positions belong to prefix tokens.

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
    counted = _Counted(count, extras, patch_size, name)
    if image_size is not None:
        return counted.of_image(image_size)
    squares = counted.squares()
    asked = overrides.get("position_grid")
    if asked is not None:
        grid = as_pair(asked, "position_grid")
        if count - math.prod(grid) in extras:
            return grid, counted.size(grid), count - math.prod(grid)
    asked = overrides.get("image_size")
    if asked is not None:
        grid = counted.grid(asked)
        extra = count - math.prod(grid)
        if extra in extras or not squares:
            found = counted.of_image(asked)
            for other, tokens in squares:
                if tokens == extra and other != grid:
                    counted.warn_of_square(grid, other, asked)
            return found
    said = overrides.get("position_embedding")
    if said == "learned_patches":
        squares = [(grid, extra) for grid, extra in squares if extra == 0] or squares
    if not squares:
        raise CheckpointError(
            f"The {count} position embeddings of {name} do not form a square, and no config.json "
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
    return grid, counted.size(grid), extra


def _and(extra):
    if extra == 0:
        return "alone"
    return "and the token before them" if extra == 1 else f"and the {extra} tokens before them"


def _said(overrides):
    names = ("image_size", "position_grid", "position_embedding")
    said = [f"{name}={overrides[name]!r}" for name in names if overrides.get(name) is not None]
    return ", ".join(said) or "none of these"
