"""Initializers that can be skipped for a model whose weights are loaded afterwards."""

import contextlib
import contextvars
import math

import keras
from keras import ops

# How many numbers may still be created, in a list of one; None to initialize as usual.
_remaining = contextvars.ContextVar("remaining", default=None)


@contextlib.contextmanager
def no_initialization(limit=None):
    """Context manager in which new weights are zeros, because drawing random numbers takes time.

    Every weight must be assigned afterwards.

    Args:
        limit: int, maximal total size of the weights, or None for no limit.

    Raises:
        ValueError: in the context, before a weight is created that exceeds `limit`.
    """
    token = _remaining.set([math.inf if limit is None else limit])
    try:
        yield
    finally:
        _remaining.reset(token)


@keras.saving.register_keras_serializable(package="keras_vit")
class Initial(keras.initializers.Initializer):
    """An initializer that `no_initialization` turns off.

    Args:
        initializer: `keras.initializers.Initializer`, or its name.
    """

    def __init__(self, initializer):
        self.initializer = keras.initializers.get(initializer)

    def __call__(self, shape, dtype=None, **kwargs):
        remaining = _remaining.get()
        if remaining is not None:
            remaining[0] -= math.prod(shape)
            if remaining[0] < 0:
                raise ValueError(
                    "The model has more weights than its checkpoint. Received: a weight of "
                    f"shape={shape} beyond them"
                )
            return ops.zeros(shape, dtype)
        return self.initializer(shape, dtype, **kwargs)

    def get_config(self):
        return {"initializer": keras.initializers.serialize(self.initializer)}
