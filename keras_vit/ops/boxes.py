"""Boxes: conversion of formats, intersection over union, generalised IoU.

Letters: N, M numbers of boxes.
"""

from keras import ops


def center_to_corners(boxes):
    """(centre x, centre y, width, height) -> (x0, y0, x1, y1), float tensors (..., 4)."""
    x, y, w, h = (boxes[..., i] for i in range(4))
    return ops.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=-1)


def corners_to_center(boxes):
    """(x0, y0, x1, y1) -> (centre x, centre y, width, height), float tensors (..., 4)."""
    x0, y0, x1, y1 = (boxes[..., i] for i in range(4))
    return ops.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=-1)


def area(boxes):
    """Areas (...) of boxes (..., 4) as corners."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou(a, b):
    """Intersection over union of boxes as corners.

    Args:
        a, b: float tensors (..., 4) that broadcast: for all pairs of N and M boxes pass
            `a[:, None]` and `b[None]`. In empty boxes x1 = x0 or y1 = y0.

    Returns:
        Tensor (...) in 0..1; 0 for two empty boxes.
    """
    return _iou_and_union(a, b)[0]


def generalized_iou(a, b):
    """Generalised IoU of boxes as corners: IoU - (hull - union) / hull.

    Args:
        a, b: as in `iou`.

    Returns:
        Tensor (...) in -1..1.

    Source: Rezatofighi et al. 2019 (arXiv:1902.09630), algorithm 1.
    """
    overlap, union = _iou_and_union(a, b)
    size = ops.maximum(a[..., 2:], b[..., 2:]) - ops.minimum(a[..., :2], b[..., :2])
    hull = size[..., 0] * size[..., 1]  # the smallest box around both
    return overlap - _divide(hull - union, hull)


def _iou_and_union(a, b):
    size = ops.minimum(a[..., 2:], b[..., 2:]) - ops.maximum(a[..., :2], b[..., :2])
    size = ops.maximum(size, 0.0)
    intersection = size[..., 0] * size[..., 1]
    union = area(a) + area(b) - intersection
    return _divide(intersection, union), union


def _divide(a, b):
    """a / b, and 0 with a gradient of 0 where b is 0."""
    positive = b > 0
    return ops.where(positive, a / ops.where(positive, b, 1.0), 0.0)
