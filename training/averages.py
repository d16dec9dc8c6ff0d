"""Averages of the weights, judged while training goes on with the weights themselves."""

import keras
from keras import ops


class EvaluateAverage(keras.callbacks.Callback):
    """Puts the optimizer's average of the weights into the model for every validation.

    Training goes on with exactly the weights that it had; `keras.callbacks.SwapEMAWeights` on
    TensorFlow rounds them. `model.fit` itself leaves the average in the model at its end.
    """

    def set_model(self, model):
        super().set_model(model)
        optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        if not optimizer.use_ema:
            raise ValueError(
                "EvaluateAverage needs an optimizer that keeps one: use_ema=True. "
                f"Received: {type(optimizer).__name__} with use_ema=False"
            )
        self._optimizer = optimizer
        self._kept = None

    def on_test_begin(self, logs=None):
        variables = self.model.trainable_variables
        self._kept = [ops.convert_to_numpy(variable).copy() for variable in variables]
        self._optimizer.finalize_variable_values(variables)
        self._unshare()

    def on_test_end(self, logs=None):
        for variable, value in zip(self.model.trainable_variables, self._kept, strict=True):
            variable.assign(value)
        self._kept = None

    def on_train_end(self, logs=None):
        self._unshare()  # Keras has put the averages into the model

    def _unshare(self):
        """JAX gives the model's arrays away while it evaluates; the averages must not be these."""
        for variable in self.model.trainable_variables:
            variable.assign(ops.copy(variable))
