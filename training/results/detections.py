"""Measures of a detector: COCO's average precision, and what is wrong with its detections.

Letters: N pictures, n detections and m objects of a picture, K classes.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from keras_vit.metrics import CocoAveragePrecision

RESAMPLES, LEVEL = 200, 0.95
FOUND, NEAR = 0.5, 0.1  # IoU of a right box, and from which a box is near an object
ERRORS = {
    "class": "a box in the right place with another class",
    "localisation": "the right class in the wrong place (IoU 0.1 to 0.5)",
    "both": "another class in the wrong place (IoU 0.1 to 0.5)",
    "duplicate": "an object that has been found already",
    "background": "nothing there (IoU below 0.1)",
    "missed": "objects that are not found",
}


class Picture(NamedTuple):
    """The objects and the detections of a picture, both of which may be none.

    Attributes:
        truth: float array (m, 4), x0, y0, x1, y1 in pixels.
        labels: integer array (m,), classes 0..K-1.
        crowd: bool array (m,), objects that count neither as found nor as missed.
        boxes, scores, classes: float (n, 4), float (n,), integer (n,), from the highest score on.
    """

    truth: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class Detected:
    """The measures of a detector on N pictures.

    Attributes:
        pictures, objects: int, N and the objects in them, without crowds.
        numbers_of_coco: dict, `CocoAveragePrecision.result`.
        by_class: dict of class to `CocoAveragePrecision.by_category`'s dict.
        counts: integer array (K,), the objects of every class.
        curves: `CocoAveragePrecision.curves`.
        interval: (float, float), bootstrap interval of 95 % of AP50 over pictures.
        threshold: float, the score at which F1 is highest, all classes together.
        precision, recall: float, at this threshold and an IoU of 0.5.
        errors: dict of int, the kinds of `ERRORS` at this threshold.
        of_pictures: float array (N,), F1 of every picture at this threshold.
    """

    pictures: int
    objects: int
    numbers_of_coco: dict
    by_class: dict
    counts: np.ndarray
    curves: tuple = field(repr=False)
    interval: tuple
    threshold: float
    precision: float
    recall: float
    errors: dict
    of_pictures: np.ndarray = field(repr=False)

    def __str__(self):
        found, (low, high) = self.numbers_of_coco, self.interval
        return (
            f"AP {100 * found['AP']:.2f} %, AP50 {100 * found['AP50']:.2f} % (95 % interval over "
            f"pictures: {100 * low:.2f} to {100 * high:.2f}), AP75 {100 * found['AP75']:.2f} %, "
            f"AR100 {100 * found['AR100']:.2f} % on {self.pictures:,} pictures with "
            f"{self.objects:,} objects"
        )

    def numbers(self):
        """The measures for JSON: a dict, with None where there is no such object."""
        found = {name: _or_none(value) for name, value in self.numbers_of_coco.items()}
        return {
            "pictures": self.pictures,
            "objects": self.objects,
            **found,
            "AP50_interval": list(self.interval),
            "threshold": self.threshold,
            "precision": self.precision,
            "recall": self.recall,
            "errors": self.errors,
            "class_AP": [_or_none(x["AP"]) for x in self.by_class.values()],
            "class_AP50": [_or_none(x["AP50"]) for x in self.by_class.values()],
        }


class Detections:
    """The detections of a set of pictures, added picture by picture.

    Args:
        boxes: `training.data.boxes.Boxes` of N pictures.
        class_names: list of str, or None.
    """

    def __init__(self, boxes, class_names=None):
        self.boxes = boxes
        self.metric = CocoAveragePrecision(boxes.truth(class_names))
        self._pictures = {}

    def add(self, index, boxes, scores, classes):
        """Adds a picture: boxes (n, 4) x0, y0, x1, y1, scores (n,), classes (n,) 0..K-1.

        Detections of other classes do not count.
        """
        ids = self.boxes.class_ids
        known = (classes >= 0) & (classes < len(ids))  # a model may have more than the data
        order = np.argsort(-scores[known], kind="stable")
        boxes, scores, classes = (x[known][order] for x in (boxes, scores, classes))
        self.metric.update(index + 1, boxes, scores, ids[classes])
        start, end = self.boxes.starts[index : index + 2]
        truth = self.boxes.boxes[start:end].copy()
        truth[:, 2:] += truth[:, :2]
        own = truth, self.boxes.labels[start:end], self.boxes.crowd[start:end]
        self._pictures[index] = Picture(*own, boxes, scores, classes)

    def picture(self, index):
        """The `Picture` at an index."""
        return self._pictures[index]

    def measure(self):
        """The measures of all pictures that were added: `Detected`."""
        pictures = [self._pictures[i] for i in sorted(self._pictures)]
        matched = [match(picture) for picture in pictures]
        objects = sum(int((~x.crowd).sum()) for x in pictures)
        threshold, precision, recall = best_threshold(pictures, matched, objects)
        errors, of_pictures = dict.fromkeys(ERRORS, 0), []
        for picture in pictures:
            kinds, missed = kinds_of(picture, threshold)
            for kind in kinds[kinds != "right"]:
                errors[kind] += 1
            errors["missed"] += missed
            right = int((kinds == "right").sum())
            asked = 2 * right + int((kinds != "right").sum()) + missed
            of_pictures.append(2 * right / asked if asked else 1.0)
        ids, labels = self.boxes.class_ids, self.boxes.labels[~self.boxes.crowd]
        by_category = self.metric.by_category()
        return Detected(
            len(pictures),
            objects,
            self.metric.result(),
            {label: by_category[number] for label, number in enumerate(ids.tolist())},
            np.bincount(labels, minlength=len(ids)),
            self.metric.curves(),
            bootstrap(pictures, matched, len(ids)),
            threshold,
            precision,
            recall,
            errors,
            np.array(of_pictures),
        )


def iou(one, other, crowd=None):
    """Intersection over union of boxes (n, 4) and (m, 4): float array (n, m).

    With a crowd, bool (m,), the area of the first box is in the place of the union, as in COCO.
    """
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(axis=-1)
    areas = [(x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (one, other)]
    either = areas[0][:, None] + areas[1][None] - both
    if crowd is not None:
        either = np.where(crowd[None], areas[0][:, None], either)
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def match(picture, threshold=FOUND):
    """Gives every detection an object of its class, the best detection first, as COCO does.

    Args:
        picture: `Picture`.
        threshold: float, the lowest IoU.

    Returns:
        integer array (n,): the object, -1 for none, -2 for a crowd, which does not count.
    """
    found = np.full(len(picture.scores), -1)
    if not len(picture.labels):
        return found
    overlap = iou(picture.boxes, picture.truth, picture.crowd)
    same = picture.classes[:, None] == picture.labels[None]
    free = ~picture.crowd
    for place, values in enumerate(np.where(same, overlap, 0.0)):
        own = np.where(free, values, 0.0)
        if own.size and own.max() >= threshold:
            # The last of several with the same IoU, as in pycocotools.
            best = len(own) - 1 - int(own[::-1].argmax())
            found[place], free[best] = best, False
        elif (values[picture.crowd] >= threshold).any():
            found[place] = -2
    return found


def best_threshold(pictures, matched, objects):
    """(score at which F1 is highest, precision, recall) of all classes together."""
    scores = np.concatenate([x.scores for x in pictures] or [[]])
    match_of = np.concatenate(matched or [[]])
    counted = match_of != -2
    order = np.argsort(-scores[counted], kind="stable")
    right = np.cumsum(match_of[counted][order] >= 0)
    if not len(right) or not objects or not right[-1]:
        return 0.5, 0.0, 0.0
    said = np.arange(1, len(right) + 1)
    best = int((2 * right / (said + objects)).argmax())
    threshold = float(scores[counted][order][best])
    return threshold, float(right[best] / said[best]), float(right[best] / objects)


def kinds_of(picture, threshold):
    """What the detections of a picture are, from a score on.

    Args:
        picture: `Picture`.
        threshold: float.

    Returns:
        (array of str (n',), "right" or one of `ERRORS`, of the detections from this score on that
        do not lie in a crowd; int, the objects that are missed).

    Source: Bolya et al. 2020 (arXiv:2008.08115), whose kinds of errors these are.
    """
    shown = picture.scores >= threshold
    own = picture._replace(
        **{name: getattr(picture, name)[shown] for name in ("boxes", "scores", "classes")}
    )
    matched = match(own)
    overlap = iou(own.boxes, own.truth[~own.crowd])
    same = own.classes[:, None] == own.labels[~own.crowd][None]
    right_class = np.where(same, overlap, 0.0).max(axis=1, initial=0.0)
    other_class = np.where(same, 0.0, overlap).max(axis=1, initial=0.0)
    kinds = np.select(
        [
            matched >= 0,
            right_class >= FOUND,
            other_class >= FOUND,
            right_class >= NEAR,
            other_class >= NEAR,
        ],
        ["right", "duplicate", "class", "localisation", "both"],
        "background",
    )
    missed = int((~own.crowd).sum() - (matched >= 0).sum())
    return kinds[matched != -2], missed


def bootstrap(pictures, matched, classes, seed=0):
    """The interval of 95 % of AP50, when pictures are drawn again with replacement.

    Args:
        pictures: list of N `Picture`.
        matched: list of N integer arrays, as `match` gives them.
        classes: int, K.
        seed: int.

    Returns:
        (float, float).

    Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13 (percentiles).
    """
    size = len(pictures)
    drawn = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), RESAMPLES)
    values = average_precision(pictures, matched, classes, drawn)
    if np.isnan(values).all():
        return 0.0, 0.0
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(values, (tail, 100 - tail))
    return float(low), float(high)


def average_precision(pictures, matched, classes, drawn):
    """AP50 of pictures that count several times or not at all.

    Args:
        pictures, matched, classes: as in `bootstrap`.
        drawn: integer array (R, N), how often a picture counts.

    Returns:
        float array (R,), the mean over the classes that occur; NaN where none does.
    """
    owner = np.repeat(np.arange(len(pictures)), [len(x.scores) for x in pictures])
    scores, labels = (
        np.concatenate([getattr(x, key) for x in pictures]) for key in ("scores", "classes")
    )
    matched = np.concatenate(matched)
    asked = np.array(
        [np.bincount(x.labels[~x.crowd], minlength=classes)[:classes] for x in pictures]
    )
    asked = drawn @ asked  # (R, K)
    levels = np.linspace(0, 1, 101)
    found = np.full(asked.shape, np.nan)
    for k in np.flatnonzero(asked.any(axis=0)):
        own = np.flatnonzero((labels == k) & (matched != -2))
        own = own[np.argsort(-scores[own], kind="stable")]
        right, place = matched[own] >= 0, owner[own]
        for r in np.flatnonzero(asked[:, k]):
            times = drawn[r, place]
            tp, said = np.cumsum(times * right), np.cumsum(times)
            precision = np.divide(tp, said, out=np.zeros(len(tp)), where=said > 0)
            precision = np.maximum.accumulate(precision[::-1])[::-1]
            at = np.searchsorted(tp / asked[r, k], levels, side="left")
            found[r, k] = np.append(precision, 0.0)[np.minimum(at, len(precision))].mean()
    with np.errstate(invalid="ignore"):
        counts = (~np.isnan(found)).sum(axis=1)
        return np.nansum(found, axis=1) / np.where(counts, counts, np.nan)


def _or_none(value):
    return None if np.isnan(value) or value == -1 else float(value)
