"""Losses of semantic segmentation, on labels of every pixel, some of which are ignored.

Letters: B batch, H x W image size, K classes, N pixels that are not ignored.
"""

import keras
import numpy as np
from keras import ops

from keras_vit.layers.validation import check_choice, check_count

IGNORED = 255
AVERAGES = ("valid", "all")


@keras.saving.register_keras_serializable(package="keras_vit")
class SegmentationCrossEntropy(keras.losses.Loss):
    """Cross-entropy of every pixel, averaged over the pixels that are not ignored.

    Args:
        ignore_class: int, the label of ignored pixels.
        class_weights: sequence of K floats that multiply the cross-entropy of the pixels of each
            class; "balanced" for weights with which all classes that occur in a batch count the
            same (N / (number of such classes x pixels of the class)); None for no weights.
        average: "valid" to divide the sum by the sum of the weights of the pixels that are not
            ignored, as `torch.nn.CrossEntropyLoss` does, or "all" to divide it by the number of all
            pixels, as the code of SETR's authors and mmsegmentation do. With "all" a padded crop
            counts less.
        name, dtype: as in `keras.losses.Loss`.

    Call arguments:
        y_true: int tensor (B, H, W), 0..K-1 or `ignore_class`.
        y_pred: logits (B, H, W, K).

    Returns:
        float32 scalar; 0 if all pixels are ignored. NaN if a label is no class and not
        `ignore_class`; such pixels have no gradient.

    Raises:
        ValueError: if an argument is invalid, or the shapes do not fit.

    Example:
        >>> loss = keras_vit.losses.SegmentationCrossEntropy()
        >>> float(loss(np.array([[[0, 255]]]), np.array([[[[0.0, 0.0], [9.0, 0.0]]]])))
        0.6931472
    """

    def __init__(
        self,
        ignore_class=IGNORED,
        class_weights=None,
        average="valid",
        name="segmentation_cross_entropy",
        dtype=None,
    ):
        super().__init__(name=name, dtype=dtype)
        check_count(ignore_class, "ignore_class", minimum=-1)
        check_choice(average, "average", AVERAGES)
        self.ignore_class = ignore_class
        self.class_weights = _class_weights(class_weights)
        self.average = average

    def call(self, y_true, y_pred):
        labels, valid, logits, unknown = _standardized(y_true, y_pred, self.ignore_class)
        classes = logits.shape[-1]
        weights = valid  # (B, H, W)
        if self.class_weights == "balanced":
            counts = ops.sum(
                ops.one_hot(labels, classes) * valid[..., None], axis=(0, 1, 2)
            )  # (K,)
            number, occurring = ops.sum(valid), ops.sum(ops.cast(counts > 0, "float32"))
            each = number / (ops.maximum(occurring, 1.0) * ops.maximum(counts, 1.0))
            weights = valid * ops.take(each, labels)
        elif self.class_weights is not None:
            weights = valid * ops.take(_of_classes(self.class_weights, classes), labels)
        log_probabilities = ops.log_softmax(logits, axis=-1)  # (B, H, W, K)
        chosen = ops.take_along_axis(log_probabilities, labels[..., None], axis=-1)[..., 0]
        total = unknown - ops.sum(weights * chosen)
        if self.average == "all":
            return total / ops.cast(ops.size(valid), "float32")
        return total / ops.maximum(ops.sum(weights), keras.config.epsilon())

    def get_config(self):
        return {
            "ignore_class": self.ignore_class,
            "class_weights": self.class_weights,
            "average": self.average,
            "name": self.name,
            "dtype": self.dtype,
        }


@keras.saving.register_keras_serializable(package="keras_vit")
class SegmentationDice(keras.losses.Loss):
    """Dice loss: 1 - the Dice coefficient of probabilities and labels, averaged over the classes.

    The Dice coefficient of a class is (2 * sum(p t) + smooth) / (sum(p) + sum(t) + smooth) over the
    pixels of a batch that are not ignored, where p is the softmax of the logits and t is 1 for
    pixels of the class. Classes that do not occur in the batch are left out.

    Args:
        ignore_class: int, the label of ignored pixels.
        class_weights: sequence of K floats, how much each class counts in the mean; None for the
            same.
        smooth: float above 0.
        name, dtype: as in `keras.losses.Loss`.

    Call arguments:
        y_true: int tensor (B, H, W), 0..K-1 or `ignore_class`.
        y_pred: logits (B, H, W, K).

    Returns:
        float32 scalar; 0 if all pixels are ignored. NaN if a label is no class and not
        `ignore_class`; such pixels have no gradient.

    Raises:
        ValueError: if an argument is invalid, or the shapes do not fit.

    Source: Milletari et al. 2016 (arXiv:1606.04797), section 3.
    """

    def __init__(
        self,
        ignore_class=IGNORED,
        class_weights=None,
        smooth=1.0,
        name="segmentation_dice",
        dtype=None,
    ):
        super().__init__(name=name, dtype=dtype)
        check_count(ignore_class, "ignore_class", minimum=-1)
        if not 0 < smooth < float("inf"):
            raise ValueError(f"smooth must be above 0. Received: smooth={smooth}")
        self.ignore_class = ignore_class
        self.class_weights = _class_weights(class_weights, balanced=False)
        self.smooth = float(smooth)

    def call(self, y_true, y_pred):
        labels, valid, logits, unknown = _standardized(y_true, y_pred, self.ignore_class)
        truth = ops.one_hot(labels, logits.shape[-1]) * valid[..., None]  # (B, H, W, K)
        probabilities = ops.softmax(logits, axis=-1) * valid[..., None]
        both, either = (
            ops.sum(x, axis=(0, 1, 2)) for x in (truth * probabilities, truth + probabilities)
        )  # (K,)
        dice = (2 * both + self.smooth) / (either + self.smooth)
        weights = ops.cast(ops.sum(truth, axis=(0, 1, 2)) > 0, "float32")
        if self.class_weights is not None:
            weights = weights * _of_classes(self.class_weights, logits.shape[-1])
        total = unknown + ops.sum(weights * (1 - dice))
        return total / ops.maximum(ops.sum(weights), keras.config.epsilon())

    def get_config(self):
        return {
            "ignore_class": self.ignore_class,
            "class_weights": self.class_weights,
            "smooth": self.smooth,
            "name": self.name,
            "dtype": self.dtype,
        }


def _class_weights(weights, balanced=True):
    """Checks class weights: None, "balanced" or a list of finite numbers from 0 on."""
    if weights is None or (balanced and isinstance(weights, str) and weights == "balanced"):
        return weights
    try:
        found = [float(weight) for weight in weights]
    except (TypeError, ValueError):
        found = []
    if isinstance(weights, str) or not found or not all(0 <= x < float("inf") for x in found):
        either = "'balanced', " if balanced else ""
        raise ValueError(
            f"class_weights must be None, {either}or one number from 0 on for each class. "
            f"Received: class_weights={weights!r}"
        )
    return found


def _of_classes(weights, classes):
    """Class weights, a list of K floats, as a tensor."""
    if len(weights) != classes:
        raise ValueError(
            "class_weights must hold one number for each class. Received: "
            f"{len(weights)} weights, {classes} classes"
        )
    return ops.convert_to_tensor(np.array(weights, "float32"))


def _standardized(y_true, y_pred, ignore_class):
    """Labels and logits of the same B, H, W.

    Returns:
        (labels int32, 0 where they do not count; float32, 1 where they do; logits float32; scalar
        0, or NaN if there are labels that are no class and not ignored: a compiled step cannot
        raise, and no number would be right).
    """
    if len(y_pred.shape) != 4 or len(y_true.shape) != 3:
        raise ValueError(
            "Labels must have the shape (batch, height, width) and logits (batch, height, width, "
            f"classes). Received: labels {tuple(y_true.shape)}, logits {tuple(y_pred.shape)}"
        )
    pairs = zip(y_true.shape[1:], y_pred.shape[1:3], strict=True)
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        raise ValueError(
            "Labels and logits must have the same height and width. "
            f"Received: labels {tuple(y_true.shape)}, logits {tuple(y_pred.shape)}"
        )
    labels = ops.cast(y_true, "int32")
    ignored = labels == ignore_class
    known = (labels >= 0) & (labels < y_pred.shape[-1])
    unknown = ops.where(ops.all(known | ignored), 0.0, float("nan"))
    valid = known & ops.logical_not(ignored)
    labels = ops.where(valid, labels, 0)
    return labels, ops.cast(valid, "float32"), ops.cast(y_pred, "float32"), unknown
