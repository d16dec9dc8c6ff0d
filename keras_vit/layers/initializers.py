"""Initial weights, and a context that skips them for a model that is about to be loaded."""

import contextlib
import contextvars
import math

import keras
from keras import ops

_left = contextvars.ContextVar("left", default=None)  # a list of one number; None: initialize


@contextlib.contextmanager
def no_initialization(limit=None):
    """A context in which new weights are zeros, since drawing billions of numbers takes time.

    Every weight must be assigned afterwards.

    Args:
        limit: int, how many numbers the weights may have in all, or None for any.

    Raises:
        ValueError: within it, before a weight is made that would exceed `limit`.
    """
    token = _left.set([math.inf if limit is None else limit])
    try:
        yield
    finally:
        _left.reset(token)


@keras.saving.register_keras_serializable(package="keras_vit")
class Initial(keras.initializers.Initializer):
    """An initializer that `no_initialization` turns off.

    Args:
        initializer: `keras.initializers.Initializer`, or its name.
    """

    def __init__(self, initializer):
        self.initializer = keras.initializers.get(initializer)

    def __call__(self, shape, dtype=None, **kwargs):
        left = _left.get()
        if left is not None:
            left[0] -= math.prod(shape)
            if left[0] < 0:
                raise ValueError(f"The model is larger than its weights. Received: shape={shape}")
            return ops.zeros(shape, dtype)
        return self.initializer(shape, dtype, **kwargs)

    def get_config(self):
        return {"initializer": keras.initializers.serialize(self.initializer)}
