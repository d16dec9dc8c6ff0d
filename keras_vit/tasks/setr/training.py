"""`TrainsSegmentation`: loss and outputs of a segmentation model in training.

Letters: B batch, H x W image size, K classes.
"""

from types import SimpleNamespace

import keras

from keras_vit.layers.sublayer import TORCH
from keras_vit.losses import SegmentationCrossEntropy, SegmentationDice
from keras_vit.models.walk import walk

LOSSES = {"cross_entropy": SegmentationCrossEntropy, "dice": SegmentationDice}


class TrainsSegmentation(keras.Model):
    """Mixin of a functional model from images (B, H, W, C) to logits (B, H, W, K).

    In training the model also computes the logits of auxiliary heads.
    """

    for_inference = {"auxiliary_heads": False}  # arguments of a model without them
    _training = SimpleNamespace(model=None)
    _compiled = SimpleNamespace(losses=None, given={})

    def _set_training_outputs(self, images, logits, auxiliary):
        """Sets what a call with `training=True` returns: symbolic logits, and a list of others."""
        if auxiliary:
            outputs = {"main": logits, "auxiliary": auxiliary}
            # In a namespace, where Keras does not look for layers to track and to save.
            graph = keras.Model(images, outputs, name=f"{self.name}_training")
            object.__setattr__(self, "_training", SimpleNamespace(model=graph))

    @property
    def training_model(self):
        """`keras.Model` from images to {"main": logits, "auxiliary": [logits, ...]}, or None.

        It shares the weights. A call of the model with `training=True` returns its outputs; without
        auxiliary heads this is None.
        """
        return self._training.model

    def call(self, inputs, training=None, mask=None):
        if training and self.training_model is not None:
            self.check_size(inputs.shape)
            if TORCH:
                return walk(self.training_model, inputs, training, self.compiled_by_torch)
            return self.training_model.call(inputs, training=training)
        return super().call(inputs, training=training, mask=mask)

    def compile(
        self,
        optimizer="rmsprop",
        loss="cross_entropy",
        class_weights=None,
        average="valid",
        auxiliary_weight=0.4,
        metrics=None,
        **kwargs,
    ):
        """Configures training; `fit` takes images (B, H, W, C) and labels (B, H, W).

        Args:
            optimizer: as in `keras.Model.compile`.
            loss: "cross_entropy", "dice", a `keras.losses.Loss` of labels (B, H, W) and logits
                (B, H, W, K) such as those of `keras_vit.losses`, or a list of these, which are
                added up.
            class_weights: sequence of K floats, or "balanced" (`SegmentationCrossEntropy`, the only
                one that takes it), of the losses that are given by name.
            average: "valid" or "all", over which pixels the cross-entropy is averaged
                (`SegmentationCrossEntropy`).
            auxiliary_weight: float, weight of the loss of each auxiliary head.
            metrics: list of metrics of labels and logits, such as
                `keras_vit.metrics.MeanIoU(num_classes)`.
            kwargs: other arguments of `keras.Model.compile`.

        Raises:
            ValueError: if a loss is unknown, or `class_weights` suits none.

        Example:
            >>> model.compile("adamw", loss=["cross_entropy", "dice"], class_weights="balanced")
        """
        given = {
            "loss": loss,
            "class_weights": class_weights,
            "average": average,
            "auxiliary_weight": auxiliary_weight,
        }
        if not isinstance(auxiliary_weight, (int, float)) or not auxiliary_weight >= 0:
            raise ValueError(
                "auxiliary_weight must be a number that is not negative. "
                f"Received: auxiliary_weight={auxiliary_weight!r}"
            )
        losses = _losses(loss, class_weights, average)
        super().compile(optimizer, loss=None, metrics=metrics, **kwargs)
        self._compiled = SimpleNamespace(losses=losses, given=given)

    def get_compile_config(self):
        config = super().get_compile_config()
        given = keras.saving.serialize_keras_object(self._compiled.given)
        return {**config, **given} if config else config

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if sample_weight is not None:
            raise ValueError(
                "Segmentation takes no sample weights: pass class_weights to compile, or label the "
                "pixels 255 that are not to count. Received: sample_weight in the data"
            )
        if y is None:
            raise ValueError("fit and evaluate need labels (B, H, W). Received: y=None")
        main, auxiliary = _parted(y_pred)
        loss = self._loss_of(y, main)
        for logits in auxiliary:
            loss = loss + self._compiled.given["auxiliary_weight"] * self._loss_of(y, logits)
        for more in self.losses:  # of layers, such as regularisation
            loss = loss + more
        # Under tf.distribute Keras adds up the gradients of the replicas, and expects shares of it.
        return self._aggregate_additional_loss(loss)

    def _loss_of(self, labels, logits):
        return sum(loss(labels, logits) for loss in self._compiled.losses)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, y, _parted(y_pred)[0], sample_weight)


def _parted(outputs):
    """(main logits, list of auxiliary logits) of what a call returns."""
    return (outputs["main"], outputs["auxiliary"]) if isinstance(outputs, dict) else (outputs, [])


def _losses(loss, class_weights, average):
    """list of `keras.losses.Loss` that the arguments of `compile` describe."""
    asked = list(loss) if isinstance(loss, (list, tuple)) else [loss]
    balanced = isinstance(class_weights, str) and class_weights == "balanced"
    if class_weights is not None and all(isinstance(x, keras.losses.Loss) for x in asked):
        raise ValueError(
            "class_weights are those of losses that are given by name: pass them to the loss. "
            f"Received: class_weights={class_weights!r}, loss={loss!r}"
        )
    found = []
    for one in asked:
        if isinstance(one, keras.losses.Loss):
            found.append(one)
        elif isinstance(one, str) and one == "cross_entropy":
            found.append(SegmentationCrossEntropy(class_weights=class_weights, average=average))
        elif isinstance(one, str) and one == "dice":
            found.append(SegmentationDice(class_weights=None if balanced else class_weights))
        else:
            raise ValueError(
                f"loss must be any of {', '.join(map(repr, LOSSES))}, a keras.losses.Loss, or a "
                f"list of these. Received: loss={loss!r}"
            )
    if not found:
        raise ValueError(f"loss must name at least one loss. Received: loss={loss!r}")
    return found
