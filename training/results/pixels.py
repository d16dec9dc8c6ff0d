"""Measures of a segmentation: IoU, Dice and accuracy, with an interval over pictures.

Letters: N pictures, K classes, H x W size of a picture.
"""

from dataclasses import dataclass, field

import numpy as np

from keras_vit.metrics.mean_iou import per_class

RESAMPLES, LEVEL = 1000, 0.95


@dataclass(frozen=True)
class Segmented:
    """The measures of a model on N pictures, each at its own size.

    Attributes:
        pictures: int, N.
        classes: int, K.
        mean_iou, mean_dice, mean_accuracy: float, means over the classes that occur.
        pixel_accuracy: float, share of the labelled pixels whose class is right.
        interval: (float, float), bootstrap interval of 95 % of `mean_iou` over pictures.
        majority: float, mean IoU of predicting the most frequent class everywhere.
        iou, dice, accuracy: list of K floats, NaN for a class that does not occur.
        confusion: int64 array (K, K) of pixels, rows are labels.
        of_pictures: float array (N,), the mean IoU within each picture.
    """

    pictures: int
    classes: int
    mean_iou: float
    mean_dice: float
    mean_accuracy: float
    pixel_accuracy: float
    interval: tuple
    majority: float
    iou: list
    dice: list
    accuracy: list
    confusion: np.ndarray = field(repr=False)
    of_pictures: np.ndarray = field(repr=False)

    def __str__(self):
        low, high = self.interval
        return (
            f"mean IoU {100 * self.mean_iou:.2f} % (95 % interval over pictures: "
            f"{100 * low:.2f} to {100 * high:.2f}), mean Dice {100 * self.mean_dice:.2f} %, mean "
            f"accuracy {100 * self.mean_accuracy:.2f} %, pixel accuracy "
            f"{100 * self.pixel_accuracy:.2f} % on {self.pictures:,} pictures of "
            f"{self.classes:,} classes"
        )

    def numbers(self):
        """The measures for JSON: a dict, with None where a class does not occur."""
        names = [
            "pictures",
            "classes",
            "mean_iou",
            "mean_dice",
            "mean_accuracy",
            "pixel_accuracy",
            "majority",
        ]
        found = {name: getattr(self, name) for name in names}
        found["interval"] = list(self.interval)
        for name in ("iou", "dice", "accuracy"):
            values = getattr(self, name)
            found[f"class_{name}"] = [None if np.isnan(x) else float(x) for x in values]
        return found


class Counts:
    """The confusion of a set of pictures, added picture by picture.

    Args:
        num_classes: int, K.
    """

    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.confusion = np.zeros((num_classes, num_classes), "int64")
        self._pictures = []  # for each (3, K): right, labelled and predicted pixels

    def add(self, labels, predicted):
        """Adds a picture: integer labels and class map, both (H, W); other labels are left out."""
        k = self.num_classes
        counts = (labels >= 0) & (labels < k)
        cells = labels[counts].astype("int64") * k + predicted[counts]
        found = np.bincount(cells, minlength=k * k).reshape(k, k)
        self.confusion += found
        self._pictures.append((found.diagonal(), found.sum(axis=1), found.sum(axis=0)))

    def last_iou(self):
        """The mean IoU of the picture that was added last; NaN if it has no labels."""
        right, labelled, predicted = (x.astype("float64") for x in self._pictures[-1])
        return float(_mean_of_those_that_occur(right, labelled + predicted - right))

    def measure(self):
        """The measures of all pictures that were added: `Segmented`.

        Raises:
            ValueError: if no pixel of any picture has a label.
        """
        labelled = self.confusion.sum(axis=1)
        if not labelled.sum():
            raise ValueError(
                "There must be labelled pixels to measure. Received: "
                f"{len(self._pictures)} pictures with none"
            )
        found = per_class(self.confusion)
        means = {name: float(np.nanmean(values)) for name, values in found.items()}
        right, of_label, of_prediction = np.array(self._pictures, "float64").transpose(1, 0, 2)
        either = of_label + of_prediction - right
        with np.errstate(invalid="ignore", divide="ignore"):
            of_pictures = _mean_of_those_that_occur(right, either)
        most = labelled.max() / labelled.sum()
        return Segmented(
            len(self._pictures),
            self.num_classes,
            means["iou"],
            means["dice"],
            means["accuracy"],
            float(self.confusion.trace() / labelled.sum()),
            bootstrap(right, either),
            float(most / (labelled > 0).sum()),
            *(found[name].tolist() for name in ("iou", "dice", "accuracy")),
            self.confusion,
            of_pictures,
        )


def bootstrap(right, either, seed=0):
    """The interval of 95 % of the mean IoU, when pictures are drawn again with replacement.

    Args:
        right, either: float arrays (N, K), pixels of intersection and union by picture and class.
        seed: int.

    Returns:
        (float, float).

    Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13 (percentiles).
    """
    size = len(right)
    drawn = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), RESAMPLES)
    means = _mean_of_those_that_occur(drawn @ right, drawn @ either)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(means, (tail, 100 - tail))
    return float(low), float(high)


def _mean_of_those_that_occur(right, either):
    """The mean of right / either over the last axis, without classes of which there are none."""
    occurs = either > 0
    iou = np.divide(right, either, out=np.zeros_like(either), where=occurs)
    return iou.sum(axis=-1) / np.where(occurs.any(axis=-1), occurs.sum(axis=-1), np.nan)
