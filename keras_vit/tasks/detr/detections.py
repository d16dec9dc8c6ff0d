"""`Detections`, the objects that were found in a picture, and how a model's outputs become them.

Letters: B batch, Q queries, K classes, n objects.
"""

import dataclasses

import numpy as np
from keras import ops


@dataclasses.dataclass(frozen=True)
class Detections:
    """The objects that were found in a picture, the most certain first.

    Attributes:
        boxes: float32 array (n, 4), x0, y0, x1, y1, in pixels of the picture.
        scores: float32 array (n,), the probability of the class.
        labels: int32 array (n,), outputs of the model, 0 to K - 1.
        names: list of n str, or None for a model without class names.
        ids: list of n int, the ids of the classes in the data set (`model.class_ids`).
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: list | None = None
    ids: list | None = None

    def __len__(self):
        return len(self.scores)

    def keep(self, chosen):
        """The detections of an index or mask array."""
        order = np.arange(len(self))[chosen]
        names, ids = (None if x is None else [x[i] for i in order] for x in (self.names, self.ids))
        return Detections(self.boxes[order], self.scores[order], self.labels[order], names, ids)


def decode(outputs, sizes):
    """The class and box of every query, without a threshold; for evaluation take all of them.

    Args:
        outputs: {"logits": (B, Q, K + 1), "boxes": (B, Q, 4)}, arrays or tensors.
        sizes: B pairs (H, W), the sizes of the pictures in pixels.

    Returns:
        list of B `Detections` with Q objects each, the most certain first; boxes are not clipped.

    Source: facebookresearch/detr `models/detr.py`, `PostProcess`.
    """
    logits, boxes = (
        np.asarray(ops.convert_to_numpy(outputs[key]), "float32") for key in ("logits", "boxes")
    )
    exps = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores = (exps / exps.sum(axis=-1, keepdims=True))[..., :-1]  # (B, Q, K)
    center, size = boxes[..., :2], boxes[..., 2:]
    corners = np.concatenate([center - size / 2, center + size / 2], axis=-1)
    found = []
    for score, box, (height, width) in zip(scores, corners, sizes, strict=True):
        label = score.argmax(axis=-1).astype("int32")
        best = score.max(axis=-1)
        order = np.argsort(-best, kind="stable")
        scale = np.array([width, height, width, height], "float32")
        found.append(Detections((box * scale)[order], best[order], label[order]))
    return found
