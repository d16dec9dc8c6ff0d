"""Scenes for detection, drawn from the embedded digits: several a picture, among clutter.

Letters: N scenes, S side of a scene.
"""

import numpy as np
from PIL import Image

from .boxes import Boxes
from .examples import Split
from .loading import stratified
from .sources import digits

TRAIN, TEST, SIDE = 6000, 200, 48
FEWEST, MOST = 1, 4  # digits of a scene
SMALLEST, LARGEST = 12, 24  # pixels of a digit's side
INK = 64  # of 255, from which a pixel belongs to the digit and to its box
OVERLAP = 0.1  # of the smaller box, most
TRIES = 20
NAMES = [str(digit) for digit in range(10)]


def scenes(count=TRAIN):
    """(training `Split` of so many scenes, test `Split`), pictures (N, S, S, 3) with `Boxes`.

    The digits of test scenes are in no training scene.
    """
    train, test = stratified(digits(), share=0.2)
    return drawn(train, count, seed=0), drawn(test, min(TEST, count), seed=1)


def drawn(split, count, seed):
    """Draws scenes of the digits of a `Split`, the same ones for the same seed.

    Args:
        split: `Split` of digits (n, 8, 8, 1) and their classes.
        count: int, N.
        seed: int.

    Returns:
        `Split` of uint8 pictures (N, S, S, 3) and `Boxes`.
    """
    images = np.zeros((count, SIDE, SIDE, 3), "uint8")
    objects = []
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        images[i], found = _scene(split, rng)
        objects.append(found)
    sizes = np.full((count, 2), SIDE)
    return Split(images, Boxes.of_pictures(objects, sizes, np.arange(count), np.arange(10)))


def _scene(split, rng):
    """A picture and its list of (box, class, crowd, area)."""
    dark = rng.uniform(10, 90, 3)
    canvas = dark + rng.normal(0, 8, (SIDE, SIDE, 3))
    _clutter(canvas, split, rng)
    found = []
    for _ in range(rng.integers(FEWEST, MOST + 1)):
        index = rng.integers(len(split.labels))
        for _ in range(TRIES):
            ink, box = _digit(split.images[index, ..., 0], rng)
            if all(_overlap(box, other[0]) <= OVERLAP for other in found):
                _draw(canvas, ink, rng.uniform(150, 255, 3))
                found.append((box, int(split.labels[index]), 0, box[2] * box[3]))
                break
    return np.clip(np.round(canvas), 0, 255).astype("uint8"), found


def _digit(image, rng):
    """The ink of a digit somewhere in a scene, float (S, S) in 0..1, and its box."""
    side = int(rng.integers(SMALLEST, LARGEST + 1))
    large = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    ink = np.zeros((SIDE, SIDE))
    top, left = rng.integers(0, SIDE - side + 1, 2)
    ink[top : top + side, left : left + side] = np.asarray(large, "float64") / 255
    rows, columns = (np.flatnonzero((ink * 255 >= INK).any(axis=axis)) for axis in (1, 0))
    x, y = int(columns[0]), int(rows[0])
    return ink, [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]


def _clutter(canvas, split, rng):
    """Draws strokes and pieces of digits, which are no objects."""
    for _ in range(rng.integers(2, 6)):
        ink = np.zeros((SIDE + 1, SIDE + 1))
        start, end = rng.uniform(0, SIDE, (2, 2))
        y, x = (start + np.linspace(0, 1, 2 * SIDE)[:, None] * (end - start)).astype(int).T
        for down, right in np.ndindex(2, 2):
            ink[y + down, x + right] = 1
        ink = ink[:SIDE, :SIDE]
        _draw(canvas, ink, rng.uniform(60, 160, 3), 0.7)
    for _ in range(rng.integers(0, 4)):
        image = split.images[rng.integers(len(split.labels)), :3, :4, 0]
        side = int(rng.integers(6, 12))
        large = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
        ink = np.zeros((SIDE, SIDE))
        top, left = rng.integers(0, SIDE - side + 1, 2)
        ink[top : top + side, left : left + side] = np.asarray(large, "float64") / 255
        _draw(canvas, ink, rng.uniform(80, 200, 3), 0.8)


def _draw(canvas, ink, color, strength=1.0):
    share = strength * ink[..., None]
    canvas += share * (color - canvas)


def _overlap(one, other):
    """The intersection of two boxes as a share of the smaller one."""
    sides = [
        min(one[i] + one[i + 2], other[i] + other[i + 2]) - max(one[i], other[i]) for i in (0, 1)
    ]
    if min(sides) <= 0:
        return 0.0
    return sides[0] * sides[1] / min(one[2] * one[3], other[2] * other[3])
