"""Shapes of tensors, on PyTorch without Keras's search for symbolic tensors in every argument."""

import keras
from keras import ops

from keras_vit.fast_paths import fast_paths_enabled

TORCH = keras.backend.backend() == "torch"


def reshape(x, shape):
    """`keras.ops.reshape` of a tensor of the backend."""
    return x.reshape(shape) if TORCH and fast_paths_enabled() else ops.reshape(x, shape)


def unstack(x, axis):
    """`keras.ops.unstack` of a tensor of the backend."""
    if TORCH and fast_paths_enabled():
        return x.unbind(axis)
    return ops.unstack(x, x.shape[axis], axis)
