"""Overlapping tiles of a picture, and merging of what is found in them.

Letters: H x W size of a picture, n objects.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

OVERLAP = 0.2  # of a tile's side, with each neighbour
SAME = 0.5  # IoU from which two boxes of a class are of one object
PART = 0.8  # share of the smaller box within the larger, from which it is a part of it
EDGE = 0.01  # of a tile's side: a box so near an inner edge is cut off there


class View(NamedTuple):
    """A part of a picture: its first pixel and its size (H, W)."""

    top: int
    left: int
    size: tuple

    def of(self, pixels):
        """The pixels (H, W, 3) of the part."""
        return pixels[self.top : self.top + self.size[0], self.left : self.left + self.size[1]]


def cut(size, tiles):
    """list of `View`: the whole picture, and with (rows, columns) its overlapping tiles.

    >>> cut((100, 200), (1, 2))
    [View(0, 0, (100, 200)), View(0, 0, (100, 112)), View(0, 88, (100, 112))]
    """
    whole = View(0, 0, tuple(size))
    if tiles is None or tuple(tiles) == (1, 1):
        return [whole]
    rows, columns = (_parts(side, count) for side, count in zip(size, tiles, strict=True))
    return [whole] + [
        View(top, left, (height, width)) for top, height in rows for left, width in columns
    ]


def _parts(side, count):
    """(first, length) of `count` parts of a side, which overlap by `OVERLAP` of their length."""
    length = min(side, -(-side // (count - (count - 1) * OVERLAP))) if count > 1 else side
    length = int(length)
    return [(round(i * (side - length) / max(count - 1, 1)), length) for i in range(count)]


def merged(found, size):
    """Merges what was found in the views of a picture of a size (H, W).

    Boxes that end at the inner edge of a tile are cut off: a neighbour, or the whole picture, has
    the object complete. Of boxes of one class that overlap much the most certain stays.

    Args:
        found: list of (view, `Detections` in pixels of the picture).
        size: (H, W).

    Returns:
        `Detections`, the most certain first.
    """
    kept = [x.keep(~_cut_off(view, x.boxes, size)) for view, x in found]
    boxes, scores, labels = (
        np.concatenate([getattr(x, key) for x in kept]) for key in ("boxes", "scores", "labels")
    )
    order = np.argsort(-scores, kind="stable")
    chosen = []
    for i in order:
        others = np.array([j for j in chosen if labels[j] == labels[i]], int)
        if not len(others) or not _same(boxes[i], boxes[others]).any():
            chosen.append(i)
    chosen = np.array(chosen, int)
    return dataclasses.replace(
        found[0][1], boxes=boxes[chosen], scores=scores[chosen], labels=labels[chosen]
    )


def _cut_off(view, boxes, size):
    """bool (n,), which boxes end at an edge of the view that is not one of the picture."""
    (height, width), near = view.size, (EDGE * view.size[1], EDGE * view.size[0])
    right, bottom = view.left + width, view.top + height
    return (
        ((boxes[:, 0] < view.left + near[0]) & (view.left > 0))
        | ((boxes[:, 1] < view.top + near[1]) & (view.top > 0))
        | ((boxes[:, 2] > right - near[0]) & (right < size[1]))
        | ((boxes[:, 3] > bottom - near[1]) & (bottom < size[0]))
    )


def _same(box, others):
    """bool (n,), whether other boxes are of the same object as a box."""
    inner = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    inner = np.clip(inner, 0, None).prod(-1)
    area, areas = np.prod(box[2:] - box[:2]), (others[:, 2:] - others[:, :2]).prod(-1)
    smaller = np.minimum(area, areas)
    return (inner > SAME * (area + areas - inner)) | (inner > PART * smaller)
