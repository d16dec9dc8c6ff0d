"""Initial weights, which a model that is about to be filled can do without."""

import contextlib
import contextvars

import keras
from keras import ops

_skipped = contextvars.ContextVar("skipped", default=False)


@contextlib.contextmanager
def no_initialization():
    """Within it, weights of new layers are zeros: billions of random numbers take time and memory.

    Whoever uses it assigns every weight afterwards.
    """
    token = _skipped.set(True)
    try:
        yield
    finally:
        _skipped.reset(token)


@keras.saving.register_keras_serializable(package="keras_vit")
class Initial(keras.initializers.Initializer):
    """An initializer that `no_initialization` turns off.

    Args:
        initializer: `keras.initializers.Initializer`, or its name.
    """

    def __init__(self, initializer):
        self.initializer = keras.initializers.get(initializer)

    def __call__(self, shape, dtype=None, **kwargs):
        if _skipped.get():
            return ops.zeros(shape, dtype)
        return self.initializer(shape, dtype, **kwargs)

    def get_config(self):
        return {"initializer": keras.initializers.serialize(self.initializer)}
