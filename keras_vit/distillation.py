"""Knowledge distillation: a student learns from labels and from the predictions of a teacher.

Letters: B batch, H x W the student's image size, h x w the teacher's, C channels, K classes.
"""

import warnings

import keras
from keras import ops

from keras_vit.layers.validation import check_choice
from keras_vit.models.base import ImageModel
from keras_vit.models.inputs import build_training
from keras_vit.models.vit import VisionTransformer
from keras_vit.optimizers.fused import FusesOptimizer
from keras_vit.teacher import Teacher, normalization, num_classes

KINDS = ("hard", "soft")
OUTPUTS = ("class", "distillation")
TEMPERATURE = 3.0


@keras.saving.register_keras_serializable(package="keras_vit")
class DistillationLoss(keras.losses.Loss):
    """Loss between the logits of a student and those of a teacher.

    Args:
        kind: "hard" for the cross-entropy with the teacher's most probable class as the label, or
            "soft" for the Kullback-Leibler divergence of the two distributions at a temperature,
            multiplied by the temperature squared, so that the scale of the gradients does not
            depend on it.
        temperature: float above 0, divisor of both logits for "soft".
        reduction, name, dtype: as in `keras.losses.Loss`.

    Call arguments:
        y_true: the teacher's logits (B, K).
        y_pred: the student's logits (B, K).
        sample_weight: (B,) or None.

    Returns:
        Scalar, the mean over the batch, unless `reduction` is set.

    Raises:
        ValueError: if the kind is unknown, the temperature is not above 0, or the numbers of
            classes differ.

    Example:
        >>> float(DistillationLoss("soft", temperature=2.0)([[1.0, 0.0]], [[1.0, 0.0]]))
        0.0

    Sources: Hinton et al. 2015 (arXiv:1503.02531), section 2; Touvron et al. 2021
    (arXiv:2012.12877), equations 2 and 3.
    """

    def __init__(self, kind="hard", temperature=TEMPERATURE, **kwargs):
        super().__init__(**{"name": "distillation_loss", **kwargs})
        check_choice(kind, "kind", KINDS)
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be above 0. Received: temperature={temperature}")
        self.kind = kind
        self.temperature = temperature

    def call(self, y_true, y_pred):
        if y_true.shape[-1] != y_pred.shape[-1]:
            raise ValueError(
                "Teacher and student must have the same classes. Received: logits of "
                f"{y_true.shape[-1]} classes from the teacher, {y_pred.shape[-1]} from the student"
            )
        if self.kind == "hard":
            label = ops.argmax(y_true, axis=-1)
            return ops.sparse_categorical_crossentropy(label, y_pred, from_logits=True)
        teacher = ops.log_softmax(y_true / self.temperature)
        student = ops.log_softmax(y_pred / self.temperature)
        return self.temperature**2 * ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)

    def get_config(self):
        return {**super().get_config(), "kind": self.kind, "temperature": self.temperature}


class Distiller(FusesOptimizer, keras.Model):
    """Trains a student on labels and on a teacher, with `compile` and `fit`.

    The loss is (1 - alpha) times the compiled loss on the labels, plus alpha times
    `DistillationLoss`. A student with a distillation head (`keras_vit.DeiTSmall`) learns the labels
    with its class head and the teacher with its distillation head; any other student learns both
    with its only head. `evaluate` and `predict` use the student alone, and `save` saves the
    student.

    Args:
        student: built `keras.Model` from images (B, H, W, C) to logits (B, K).
        teacher: `keras.Model` from images (B, h, w, C) to logits or probabilities (B, K). Or None,
            if the `y` of `fit` is {"labels": ..., "teacher": ...}, with logits (B, K) from
            `teacher_logits`. The teacher is frozen (`teacher.trainable = False`) and runs in
            inference mode.
        kind: "hard" or "soft", the kind of `DistillationLoss`.
        temperature: float above 0, temperature of "soft".
        alpha: float in [0, 1], weight of the teacher; 0.5 for "hard" and 0.1 for "soft" in the
            paper.
        preprocess: function or layer from the student's images, resized to (B, h, w, C), to the
            teacher's input, such as `keras.applications.resnet50.preprocess_input`. By default the
            teacher takes the same images as the student. For a teacher of this library with another
            normalisation, the images are converted to it.
        from_logits: bool, whether the teacher outputs logits; False for probabilities. It is
            checked against the output of the teacher for one image.

    Raises:
        ValueError: if student or teacher have no logits of the same K classes, `from_logits` does
            not match the teacher, `kind` is unknown, `alpha` is outside [0, 1], or `preprocess` or
            `from_logits=False` is given without a teacher.

    Example:
        >>> teacher = keras.applications.ResNet50()
        >>> student = keras_vit.DeiTTiny(include_preprocessing=True)
        >>> distiller = keras_vit.Distiller(
        ...     student,
        ...     teacher,
        ...     preprocess=keras.applications.resnet50.preprocess_input,
        ...     from_logits=False,
        ... )
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> distiller.compile("adamw", loss, metrics=["accuracy"])
        >>> distiller.fit(images, labels)
        >>> student.save("student.keras")

    Source: Touvron et al. 2021 (arXiv:2012.12877), equations 2 and 3. Its table 3 compares students
    with and without a distillation token.
    """

    def __init__(
        self,
        student,
        teacher=None,
        kind="hard",
        temperature=TEMPERATURE,
        alpha=0.5,
        preprocess=None,
        from_logits=True,
    ):
        # No autocast: the student casts its images, and those of the teacher are not rounded.
        super().__init__(name=f"{student.name}_distiller", dtype=student.dtype_policy)
        self.autocast = False
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1]. Received: alpha={alpha}")
        _check_used(teacher, kind, temperature, alpha, preprocess, from_logits)
        self.student = student
        self.alpha = alpha
        self.distillation_loss = DistillationLoss(kind, temperature)
        classes = num_classes(student, "student")
        if getattr(student.layers[-1], "activation", None) is keras.activations.softmax:
            raise ValueError(
                "The student must output logits: remove the softmax of its last layer. "
                f"Received: {student.name} with softmax in {student.layers[-1].name}"
            )
        self.heads = _heads(student)
        self.teacher = None
        if teacher is not None:
            if num_classes(teacher, "teacher") != classes:
                raise ValueError(
                    "Teacher and student must have the same classes. Received: "
                    f"{teacher.name} with {num_classes(teacher, 'teacher')}, {student.name} with "
                    f"{classes}"
                )
            if preprocess is None:
                preprocess = normalization(teacher, student)
            teacher.trainable = False
            self.teacher = Teacher(teacher, preprocess, from_logits)
            self.teacher.check(student.input_shape)
        self.built = True

    def fit(self, x=None, *args, **kwargs):
        data = self._checked(x)
        build_training(self, self.student.output, x, *args, **kwargs)
        history = super().fit(data, *args, **kwargs)
        # With use_ema=True Keras ends `fit` with the optimizer's averages in the model. JAX donates
        # the arrays of model and optimizer in every step, and the next `fit` would donate these
        # twice.
        for variable in self.trainable_variables:
            variable.assign(ops.copy(variable))
        return history

    def evaluate(self, x=None, *args, **kwargs):
        again = kwargs.get("_use_cached_eval_dataset", False)  # of a validation within `fit`
        return super().evaluate(x if again else self._checked(x), *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        return super().predict(self._checked(x), *args, **kwargs)

    def _checked(self, x):
        """The data, after the student's checks, which must come before JAX donates the weights."""
        return self.student.checked_data(x) if isinstance(self.student, ImageModel) else x

    def call(self, images, training=None):
        """The student's logits (B, K); in training {"class": (B, K), "distillation": (B, K)}."""
        if not training:
            return self.student(images, training=False)
        outputs = self.heads(images, training=True)
        return outputs if isinstance(outputs, dict) else dict.fromkeys(OUTPUTS, outputs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        labels = _labels(y)
        if not training:
            return super().compute_loss(x, labels, y_pred, sample_weight, training)
        teacher = self._teacher_logits(x, y)
        loss = super().compute_loss(x, labels, y_pred["class"], sample_weight, training)
        distillation = self.distillation_loss(teacher, y_pred["distillation"], sample_weight)
        # Regularisation losses of the student are part of the first loss; they count in full.
        return (1 - self.alpha) * loss + self.alpha * (distillation + sum(self.losses))

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if isinstance(y_pred, dict):
            y_pred = (y_pred["class"] + y_pred["distillation"]) / 2
        return super().compute_metrics(x, _labels(y), y_pred, sample_weight)

    def _teacher_logits(self, x, y):
        given = isinstance(y, dict)
        if given == (self.teacher is not None):
            raise ValueError(
                'Without a teacher y must be {"labels": ..., "teacher": ...}; with a teacher it '
                f"must be the labels. Received: teacher={self.teacher}, y of type "
                f"{type(y).__name__}"
            )
        return ops.stop_gradient(y["teacher"] if given else self.teacher(x, training=False))

    def save(self, *args, **kwargs):
        """Saves the student; the arguments are those of `keras.Model.save`.

        `keras.callbacks.ModelCheckpoint` therefore saves the student too.
        """
        self.student.save(*args, **kwargs)


def _check_used(teacher, kind, temperature, alpha, preprocess, from_logits):
    """Raises for arguments that need a teacher, and warns about arguments without effect."""
    if teacher is None and not (preprocess is None and from_logits):
        raise ValueError(
            "preprocess and from_logits are for a teacher; without one pass them to "
            "`teacher_logits`, which computes the logits for y. "
            f"Received: teacher=None, preprocess={preprocess}, from_logits={from_logits}"
        )
    if kind == "hard" and temperature != TEMPERATURE:
        warnings.warn(f"temperature={temperature} has no effect with kind='hard'.", stacklevel=3)
    if alpha == 0:
        warnings.warn(
            "The teacher has no effect with alpha=0: only the labels count.", stacklevel=3
        )


def _heads(student):
    """The student, or if it has a distillation head a model with both heads as outputs."""
    two = isinstance(student, VisionTransformer) and "distillation_head" in (
        layer.name for layer in student.layers
    )
    return student.distillation_model() if two else student


def _labels(y):
    return y["labels"] if isinstance(y, dict) else y
