"""Averages of the weights, judged and saved while training goes on with the weights themselves."""

import contextlib

import keras
from keras import ops


def uses_ema(model):
    """Whether a compiled model's optimizer keeps an average of the weights."""
    return bool(_optimizer(model).use_ema)


@contextlib.contextmanager
def ema_weights(model):
    """Within it the model has the optimizer's average of its weights; then its own, exactly.

    Args:
        model: compiled `keras.Model`.

    Raises:
        ValueError: where the optimizer keeps no average.
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
    """Gives the model arrays of its own after Keras has put the optimizer's averages into it.

    JAX gives a model's arrays away while it trains or evaluates; the averages must not be these.
    """
    for variable in model.trainable_variables:
        variable.assign(ops.copy(variable))


class EvaluateEMA(keras.callbacks.Callback):
    """Puts the optimizer's average of the weights into the model for every validation.

    Training goes on with exactly the weights that it had; `keras.callbacks.SwapEMAWeights` on
    TensorFlow rounds them. `model.fit` itself leaves the average in the model at its end.
    """

    def on_test_begin(self, logs=None):
        self._within = contextlib.ExitStack()
        self._within.enter_context(ema_weights(self.model))

    def on_test_end(self, logs=None):
        self._within.close()

    def on_train_end(self, logs=None):
        unshare(self.model)


def _optimizer(model):
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)
