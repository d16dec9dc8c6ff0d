"""Mean intersection over union, and all else that follows from one confusion matrix.

Letters: B batch, H x W size of the labels, h x w size of the predictions, K classes.
"""

import keras
import numpy as np
from keras import ops

from keras_vit.ops.resample import resampling_matrix

DIGIT = 2**20  # counts are kept as two int32 digits: JAX has no int64 by default


@keras.saving.register_keras_serializable(package="keras_vit")
class MeanIoU(keras.metrics.Metric):
    """Mean intersection over union of a segmentation, over all pixels that it has seen.

    One confusion matrix is accumulated over the whole set: the result is the mean IoU of the
    benchmarks, not the mean of the batches' or the pictures' IoUs. The counts are exact up to 2^51
    pixels on every backend, in one process and distributed.

    A pixel counts if its label is one of 0..K-1. `ignore_class`, and any other value, such as a
    void class with the number K, is left out.

    Args:
        num_classes: int, K.
        ignore_class: int or None, a class in 0..K-1 that is left out too; values from K on, such as
            255, always are.
        name, dtype: as in `keras.metrics.Metric`.

    Call arguments:
        y_true: integer labels (B, H, W).
        y_pred: logits (B, h, w, K), resized to H x W before the argmax where they have another
            size (bilinear, half-pixel centres), or integer class maps (B, H, W).

    `result()` is the mean IoU over the classes that occur in labels or predictions; 0 before any
    pixel has counted.

    Raises:
        ValueError: for fewer than two classes, sample weights (set the labels of pixels that should
            not count to 255), or shapes that do not fit.

    Example:
        >>> metric = keras_vit.metrics.MeanIoU(num_classes=2)
        >>> metric.update_state([[[0, 1, 255]]], [[[0, 0, 1]]])
        >>> float(metric.result()), metric.per_class()["accuracy"].tolist()
        (0.25, [1.0, 0.0])

    Source: Everingham et al. 2015, "The Pascal Visual Object Classes challenge", section 4.2.
    """

    def __init__(self, num_classes, ignore_class=255, name="mean_iou", dtype=None):
        super().__init__(name=name, dtype=dtype)
        if num_classes < 2:
            raise ValueError(f"num_classes must be 2 or more. Received: num_classes={num_classes}")
        self.num_classes, self.ignore_class = num_classes, ignore_class
        shape = (num_classes, num_classes)
        # Both are sums, so copies on several devices may be added.
        self.low, self.high = (
            self.add_variable(shape, "zeros", dtype="int32", name=name) for name in ("low", "high")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            raise ValueError(
                "MeanIoU counts pixels and takes no sample weights: set the labels of pixels that "
                "should not count to 255, and pass it as metrics=, not weighted_metrics=. "
                f"Received: sample_weight of shape {tuple(sample_weight.shape)}"
            )
        low = self.low + self._counts(y_true, y_pred)
        self.low.assign(low % DIGIT)
        self.high.assign(self.high + low // DIGIT)

    def _counts(self, y_true, y_pred):
        """The confusion matrix (K, K) of a batch, int32: rows are labels."""
        labels = ops.cast(y_true, "int32")
        predicted = self._classes(labels, ops.convert_to_tensor(y_pred))
        k = self.num_classes
        counts = (labels >= 0) & (labels < k) & (predicted >= 0) & (predicted < k)
        if self.ignore_class is not None:
            counts &= labels != self.ignore_class
        cell = ops.where(counts, labels * k + predicted, k * k)  # the last cell is dropped
        cell = ops.reshape(cell, (-1,))
        found = ops.segment_sum(ops.ones_like(cell), cell, num_segments=k * k + 1)
        return ops.reshape(found[: k * k], (k, k))

    def _classes(self, labels, predictions):
        """The predicted class of every labelled pixel, int32 (B, H, W)."""
        if len(labels.shape) != 3 or len(predictions.shape) not in (3, 4):
            raise ValueError(
                "MeanIoU takes labels (B, H, W) and logits (B, h, w, num_classes) or class maps "
                f"(B, H, W). Received: {tuple(labels.shape)} and {tuple(predictions.shape)}"
            )
        if len(predictions.shape) == 3:
            return ops.cast(predictions, "int32")
        if predictions.shape[-1] != self.num_classes:
            raise ValueError(
                f"MeanIoU of {self.num_classes} classes takes as many logits. "
                f"Received: {tuple(predictions.shape)}"
            )
        for axis in (1, 2):
            old, new = predictions.shape[axis], labels.shape[axis]
            if old != new and None not in (old, new):
                matrix = ops.cast(resampling_matrix(old, new, "bilinear"), predictions.dtype)
                moved = ops.tensordot(predictions, matrix, axes=(axis, 1))
                predictions = ops.moveaxis(moved, -1, axis)
        return ops.cast(ops.argmax(predictions, axis=-1), "int32")

    def result(self):
        counts = ops.cast(self.high, "float32") * DIGIT + ops.cast(self.low, "float32")
        both = ops.diagonal(counts)
        either = ops.sum(counts, axis=0) + ops.sum(counts, axis=1) - both
        occurs = ops.cast(either > 0, "float32")
        iou = both / ops.maximum(either, 1.0)
        return ops.sum(iou) / ops.maximum(ops.sum(occurs), 1.0)

    @property
    def confusion(self):
        """int64 array (K, K) of pixels: rows are labels, columns are predictions."""
        low, high = (
            np.asarray(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(x)), "int64")
            for x in (self.low, self.high)
        )
        return high * DIGIT + low

    def per_class(self):
        """The measures of every class.

        Returns:
            dict of float64 arrays (K,): "iou", "dice", "accuracy" (the share of a class's pixels
            that are predicted as it); NaN where a class does not occur.
        """
        return per_class(self.confusion)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "ignore_class": self.ignore_class,
        }


def per_class(confusion):
    """The measures of every class in a confusion matrix (K, K); see `MeanIoU.per_class`."""
    both = np.diagonal(confusion).astype("float64")
    labelled, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "iou": _share(both, labelled + predicted - both),
        "dice": _share(2 * both, labelled + predicted),
        "accuracy": _share(both, labelled),
    }


def _share(part, whole):
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
