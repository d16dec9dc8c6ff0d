"""Layer normalisation of tokens, and linear layers on them."""

import keras
from keras import ops

from keras_vit.fast_paths import fast_paths_enabled
from keras_vit.layers.sublayer import TORCH, direct, plain
from keras_vit.ops.gradients import layer_norm


@direct
class LayerNormalization(keras.layers.LayerNormalization):
    """Keras's layer, over the last axis, computed by `keras_vit.ops.gradients.layer_norm`.

    For layers within blocks, whose class no file names; what a model is built of stays Keras's.
    """

    def call(self, inputs):
        x = layer_norm(inputs, self.gamma, self.beta, self.epsilon)
        return x if TORCH and plain(self, inputs) else ops.cast(x, self.compute_dtype)


def linear(layer, x):
    """Calls a `Dense` layer, by PyTorch's own function or on JAX with tokens in one axis.

    PyTorch adds the bias within the product, and what Keras does around a layer is left out
    (`keras_vit.layers.sublayer`). On JAX all axes of `x` but the last become one: the gradient of
    the kernel is then a plain matrix product; with three axes it is a sum over two of them, for
    which XLA has slower kernels (a training step of ViT-S took twice as long on a CPU).

    Args:
        layer: layer that maps (..., D) to (..., units).
        x: float tensor (..., D).

    Returns:
        Tensor (..., units).
    """
    if TORCH:
        return _linear_on_torch(layer, x)
    if keras.backend.backend() != "jax" or len(x.shape) < 3 or not fast_paths_enabled():
        return layer(x)
    y = layer(ops.reshape(x, (-1, x.shape[-1])))
    return ops.reshape(y, (*ops.shape(x)[:-1], y.shape[-1]))


def _linear_on_torch(layer, x):
    import torch

    usual = type(layer) is keras.layers.Dense and layer.activation is keras.activations.linear
    if not usual or layer.lora_enabled or not plain(layer, x):
        return layer(x)
    # Keras casts variables only where it has called the layer, and not when PyTorch recomputes a
    # block in the backward pass.
    kernel, bias = layer.kernel.value.to(x.dtype), layer.bias
    bias = None if bias is None else bias.value.to(x.dtype)
    return torch.nn.functional.linear(x, kernel.t(), bias)
