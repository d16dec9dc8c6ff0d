"""Checks of the objects that a detector learns: format of the boxes, labels, counts.

Letters: B batch, M objects of a picture at most, K classes.
"""

import numpy as np

KEYS = ("boxes", "labels", "count")
PIXELS = 2.0  # a relative coordinate above it is one in pixels
BEYOND = 0.02  # how far a box may reach beyond the picture, for rounding


def as_targets(y):
    """{"boxes": float32 (B, M, 4), "labels": int32 (B, M), "count": int32 (B,)} of what `fit` gets.

    Raises:
        ValueError: unless `y` is a dict with these keys.
    """
    from keras import ops

    boxes, labels = _parts(y)
    labels = ops.cast(labels, "int32")
    count = y.get("count")
    if count is None:
        count = ops.sum(ops.ones_like(labels), axis=1)
    return {
        "boxes": ops.cast(boxes, "float32"),
        "labels": labels,
        "count": ops.cast(count, "int32"),
    }


def check_arrays(y, num_classes):
    """Checks targets in NumPy arrays, a batch or a whole data set; others are checked in the step.

    An error within a step is too late: on JAX it leaves the model without its weights.

    Args:
        y: what `fit` gets.
        num_classes: int, K.

    Raises:
        ValueError: as `as_targets` and `check_targets`.
    """
    if not isinstance(y, dict) or not all(isinstance(x, np.ndarray) for x in y.values()):
        return
    boxes, labels = _parts(y)
    count = y.get("count", np.full(len(labels), labels.shape[1]))
    check_targets(boxes, labels, count, num_classes)


def _parts(y):
    """(boxes, labels) of targets; raises a `ValueError` unless `y` is a dict with these keys."""
    if not isinstance(y, dict) or not {"boxes", "labels"} <= set(y) or set(y) - set(KEYS):
        raise ValueError(
            'Targets must be {"boxes": float32 (B, M, 4), "labels": int32 (B, M), "count": int32 '
            "(B,)}; rows from count on are padding, and without count there is none. "
            f"Received: {sorted(y) if isinstance(y, dict) else type(y).__name__}"
        )
    boxes, labels = y["boxes"], y["labels"]
    if len(boxes.shape) != 3 or boxes.shape[-1] != 4 or len(labels.shape) != 2:
        raise ValueError(
            "Targets must have boxes (B, M, 4) and labels (B, M). "
            f"Received: boxes {tuple(boxes.shape)}, labels {tuple(labels.shape)}"
        )
    count = y.get("count")
    shapes = [boxes.shape[:2], labels.shape] + ([] if count is None else [count.shape])
    same = all(_agree(labels.shape, shape) for shape in shapes)
    if not same or count is not None and len(count.shape) != 1:
        raise ValueError(
            "boxes (B, M, 4), labels (B, M) and count (B,) must have the same B and the same M. "
            f"Received: {', '.join(f'{key} {tuple(x.shape)}' for key, x in y.items())}"
        )
    return boxes, labels


def _agree(shape, other):
    """Whether two shapes are the same as far as both are known."""
    pairs = zip(shape, other, strict=False)
    return all(a == b for a, b in pairs if a is not None and b is not None)


def check_targets(boxes, labels, count, num_classes):
    """Raises a `ValueError` for targets (NumPy arrays) that a model of K classes cannot learn.

    Args:
        boxes: (B, M, 4), centre x, centre y, width, height, in 0..1 of each picture.
        labels: int (B, M).
        count: int (B,).
        num_classes: int, K.
    """
    count = np.asarray(count)
    if count.size and (count.min() < 0 or count.max() > boxes.shape[1]):
        raise ValueError(
            f"count must be 0 to {boxes.shape[1]}, the rows of boxes. Received: {_first(count)}"
        )
    present = np.arange(boxes.shape[1])[None] < count[:, None]
    boxes, labels = np.where(present[..., None], boxes, 0.25), np.where(present, labels, 0)

    def fail(wrong, what, how):
        picture, i = (int(x[0]) for x in np.nonzero(wrong))
        raise ValueError(
            f"boxes must be (centre x, centre y, width, height) in 0..1 of the picture. {what} in "
            f"{int(wrong.sum())} of {int(present.sum())} objects of a batch. {how} Received: box "
            f"{boxes[picture, i].tolist()}, object {i} of picture {picture}"
        )

    wrong = ~np.isfinite(boxes).all(-1)
    if wrong.any():
        fail(wrong, "There are NaN or infinite numbers", "Leave these objects out.")
    wrong = (np.abs(boxes) > PIXELS).any(-1)
    if wrong.any():
        fail(wrong, "They look like pixels", "Divide by width and height of the picture.")
    wrong = (boxes[..., 2:] < 0).any(-1)
    if wrong.any():
        fail(wrong, "Width or height are negative", "Leave these objects out.")
    half = boxes[..., 2:] / 2
    low, high = boxes[..., :2] - half, boxes[..., :2] + half
    wrong = ((low < -BEYOND) | (high > 1 + BEYOND)).any(-1)
    if wrong.any():
        as_corners = (boxes[present][:, 2:] >= boxes[present][:, :2]).all()
        how = "Clip the boxes to the picture."
        if as_corners and boxes.max() <= 1 + BEYOND:
            how = (
                "They look like corners (x0, y0, x1, y1): convert them with "
                "keras_vit.ops.boxes.corners_to_center."
            )
        fail(wrong, "They reach beyond the picture", how)
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
        picture, i = (int(x[0]) for x in np.nonzero(wrong))
        raise ValueError(
            f"labels must be 0 to {num_classes - 1}, the outputs of the model; there is none for "
            "the background. For ids with gaps, number the classes first, or build the model with "
            f"num_classes = largest id + 1. Received: label {int(labels[picture, i])}, object {i} "
            f"of picture {picture}"
        )


def _first(count):
    wrong = count[(count < 0) | (count == count.max())]
    return f"count={int(wrong[0])}"
