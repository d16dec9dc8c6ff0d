"""The EMA of the weights: evaluated and saved while training continues with the weights."""

import contextlib

import keras
from keras import ops


def uses_ema(model):
    """Whether the optimizer of a compiled model keeps an EMA of the weights."""
    return bool(_optimizer(model).use_ema)


@contextlib.contextmanager
def ema_weights(model):
    """Context in which a model has the EMA of its weights; restores the weights exactly.

    Args:
        model: compiled `keras.Model`.

    Raises:
        ValueError: if the optimizer keeps no EMA.
    """
    optimizer = _optimizer(model)
    if not optimizer.use_ema:
        raise ValueError(
            "An average of the weights needs an optimizer that keeps one: use_ema=True. "
            f"Received: {type(optimizer).__name__} with use_ema=False"
        )
    kept = [ops.copy(variable) for variable in model.trainable_variables]
    optimizer.finalize_variable_values(model.trainable_variables)
    unshare(model)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, kept, strict=True):
            variable.assign(value)


def unshare(model):
    """Copies the weights of a model after Keras has assigned the optimizer's EMA to them.

    On JAX training and evaluation donate the arrays of a model; those of the EMA must survive.
    """
    for variable in model.trainable_variables:
        variable.assign(ops.copy(variable))


class EvaluateEMA(keras.callbacks.Callback):
    """Validates with the EMA of the weights.

    Training continues with exactly the weights that it had; `keras.callbacks.SwapEMAWeights` rounds
    them on TensorFlow. `model.fit` itself leaves the EMA in the model at the end.
    """

    def on_test_begin(self, logs=None):
        self._within = contextlib.ExitStack()
        self._within.enter_context(ema_weights(self.model))

    def on_test_end(self, logs=None):
        self._within.close()

    def on_train_end(self, logs=None):
        unshare(self.model)


class MeasureEveryEpoch(keras.callbacks.Callback):
    """Adds metrics that are none of Keras to the logs of every epoch, as "val_" and their name.

    It comes before the callbacks that read them. Like validation, it sees the EMA of the weights
    where there is one.

    Args:
        measure: function from a model to a dict of float.
    """

    def __init__(self, measure):
        super().__init__()
        self.measure = measure

    def on_epoch_end(self, epoch, logs=None):
        averaged = uses_ema(self.model)
        with ema_weights(self.model) if averaged else contextlib.nullcontext():
            found = self.measure(self.model)
        logs.update({f"val_{key}": value for key, value in found.items()})


def _optimizer(model):
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)
