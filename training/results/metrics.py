"""Accuracy, cross-entropy and calibration error, computed from logits.

Letters: N images, K classes.
"""

import math
from dataclasses import dataclass

import numpy as np

BINS = 15


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a model on a set of images.

    Attributes:
        images: int, N.
        classes: int, K, the classes that competed.
        top1: float, fraction of the images whose most probable class is correct.
        top5: float, fraction of the images whose correct class is among the five most probable;
            None if there are at most five classes, or images may have several correct classes.
        loss: float, mean cross-entropy in nats; None if images may have several correct classes.
        ece: float, expected calibration error of the most probable class, 15 bins.
    """

    images: int
    classes: int
    top1: float
    top5: float | None
    loss: float | None
    ece: float

    def __str__(self):
        parts = [f"top-1 {100 * self.top1:.2f} %"]
        parts += [] if self.top5 is None else [f"top-5 {100 * self.top5:.2f} %"]
        parts += [] if self.loss is None else [f"loss {self.loss:.4f}"]
        parts.append(f"calibration error {100 * self.ece:.2f} %")
        return f"{', '.join(parts)} on {self.images:,} images of {self.classes:,} classes"


def measure(logits, labels, classes=None):
    """Measures logits against labels, in float32.

    Args:
        logits: float array (N, K).
        labels: integer array (N,), or a list of N non-empty lists of the correct classes.
        classes: sorted integer array, the classes that compete; None for all. Every label must be
            among them.

    Returns:
        `Evaluation`.

    Raises:
        ValueError: if there are no images, logits are not finite, or a label has no logit.

    Example:
        >>> print(measure(np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([0, 0])))
        top-1 50.00 %, loss 1.6809, calibration error 61.07 % on 2 images of 2 classes
    """
    logits = np.asarray(logits, "float32")
    check_labels(labels, logits.shape[1] if classes is None else classes)
    if not np.isfinite(logits).all():
        row = int(np.flatnonzero(~np.isfinite(logits).all(axis=-1))[0])
        raise ValueError(
            f"Logits must be finite; the model's weights may not be. Received: {logits[row]} for "
            f"image {row}"
        )
    if classes is not None:
        logits, labels = logits[:, classes], np.searchsorted(classes, labels)
    log_p = log_softmax(logits)
    predicted, confidence = log_p.argmax(-1), np.exp(log_p.max(-1))
    top5 = loss = None
    if isinstance(labels, np.ndarray):
        right = predicted == labels
        rows = np.arange(len(labels))
        loss = -float(log_p[rows, labels].mean(dtype="float64"))
        if logits.shape[1] > 5:
            top5 = float((_rank(logits, labels) < 5).mean())
    else:
        right = np.array([p in allowed for p, allowed in zip(predicted, labels, strict=True)])
    ece = calibration_error(confidence, right)
    return Evaluation(*logits.shape, float(right.mean()), top5, loss, ece)


def calibration_error(confidence, right, bins=BINS):
    """Expected calibration error: the mean difference between confidence and accuracy.

    The images are divided into bins of equal width, ((m - 1) / M, m / M], by their confidence. The
    absolute difference of mean confidence and accuracy in each bin is averaged over the images.

    Args:
        confidence: float array (N,), the probabilities of the predicted classes.
        right: bool array (N,), whether the predictions are correct.
        bins: int, M.

    Returns:
        float in [0, 1].

    Example:
        >>> calibration_error(np.array([0.9, 0.9]), np.array([True, False]))
        0.4

    Source: Guo et al. 2017 (arXiv:1706.04599), equation 3.
    """
    confidence = np.asarray(confidence, "float64")
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    excess = np.bincount(place, confidence - np.asarray(right, "float64"), minlength=bins)
    return float(np.abs(excess).sum() / len(confidence))


def chance(labels):
    """The accuracy of always predicting the most frequent class.

    Args:
        labels: integer array (N,).
    """
    return float(np.bincount(labels).max() / len(labels))


def at_chance(accuracy, share, images):
    """Whether an accuracy is within three standard deviations of chance, or below it.

    Args:
        accuracy: float, accuracy on the images.
        share: float, the result of `chance`.
        images: int, N, number of images.

    Example:
        >>> at_chance(0.14, 0.1, 359), at_chance(0.15, 0.1, 359)
        (True, False)
    """
    return accuracy <= share + 3 * math.sqrt(share * (1 - share) / images)


def log_softmax(logits):
    """Logarithms of the probabilities, float32 (N, K)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def check_labels(labels, classes):
    """Raises a `ValueError` if a label has no logit, or there are no labels.

    Args:
        labels: integer array (N,), or a list of N lists.
        classes: int, K, or an integer array of the classes that compete.
    """
    if not len(labels):
        raise ValueError("There must be images to evaluate on. Received: 0 images")
    flat = (
        labels if isinstance(labels, np.ndarray) else np.concatenate([np.array(x) for x in labels])
    )
    known = np.arange(classes) if np.ndim(classes) == 0 else classes
    unknown = flat[~np.isin(flat, known)]
    if unknown.size:
        raise ValueError(
            f"Labels must be among the {len(known)} classes that compete. Received: {unknown[0]}"
        )


def _rank(logits, labels):
    """The rank of the correct class, from 0; ties are ranked in the order of the classes."""
    own = np.take_along_axis(logits, labels[:, None], axis=-1)  # (N, 1)
    before = np.arange(logits.shape[1]) < labels[:, None]
    return ((logits > own) | ((logits == own) & before)).sum(axis=-1)
