"""Layer normalisation of tokens, and linear layers on them."""

import keras
from keras import ops

from keras_vit.fast_paths import fast_paths_enabled
from keras_vit.ops.gradients import layer_norm


class LayerNormalization(keras.layers.LayerNormalization):
    """Keras's layer, over the last axis, with the gradient of `keras_vit.ops.gradients` on JAX.

    For layers within blocks, whose class no file names; what a model is built of stays Keras's.
    """

    def call(self, inputs):
        return ops.cast(layer_norm(inputs, self.gamma, self.beta, self.epsilon), self.compute_dtype)


def linear(layer, x):
    """Calls a `Dense` layer, on JAX with all axes of `x` but the last as one.

    The gradient of the kernel is then a plain matrix product; with three axes it is a sum over two
    of them, for which XLA has slower kernels (a training step of ViT-S took twice as long on a
    CPU).

    Args:
        layer: layer that maps (..., D) to (..., units).
        x: float tensor (..., D).

    Returns:
        Tensor (..., units).
    """
    if keras.backend.backend() != "jax" or len(x.shape) < 3 or not fast_paths_enabled():
        return layer(x)
    y = layer(ops.reshape(x, (-1, x.shape[-1])))
    return ops.reshape(y, (*ops.shape(x)[:-1], y.shape[-1]))
