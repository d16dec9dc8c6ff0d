"""Calls of sub-layers, on PyTorch without what Keras does around each of them.

Keras converts the inputs of a layer, builds it, resolves `training` and masks, and opens scopes:
some 600 Python calls, for which a small batch and a GPU wait in PyTorch's eager mode. A sub-layer
needs none of it, because Keras has called the layer or the model that it is part of.
"""

import inspect

import keras

from keras_vit.fast_paths import fast_paths_enabled

TORCH = keras.backend.backend() == "torch"

_direct = {keras.layers.Dropout: True, keras.layers.LayerNormalization: False}  # takes `training`


def direct(kind):
    """Class decorator: `sublayer` may call `call` of a layer of exactly this class.

    The class must compute in its compute dtype also where Keras does not cast its variables: it
    casts them itself, creates them with `autocast=False`, or leaves them to its own sub-layers.
    """
    _direct[kind] = "training" in inspect.signature(kind.call).parameters
    return kind


def sublayer(layer, x, *others, **kwargs):
    """Calls a layer, on PyTorch by its `call` where nothing else would happen (`plain`).

    Args:
        layer: built layer of the same dtype policy as the layer or model that calls it.
        x: its input.
        others, kwargs: further call arguments. If `training` matters to the layer, it must be
            given.

    Returns:
        What the layer returns.
    """
    if TORCH and type(layer) in _direct and plain(layer, x):
        if not _direct[type(layer)]:
            kwargs.pop("training", None)
        return layer.call(x, *others, **kwargs)
    return layer(x, *others, **kwargs)


def plain(layer, x):
    """Whether Keras and PyTorch would do nothing but call `layer.call(x)`.

    They do more for layers with hooks, quantised ones, and inputs that have to be cast.
    """
    import torch

    own = layer.__dict__
    return (
        fast_paths_enabled()
        and str(x.dtype)[6:] == layer.compute_dtype  # "torch.float32"; of a KerasTensor "float32"
        and layer.built
        and (layer.autocast or isinstance(layer, keras.layers.LayerNormalization))
        and layer.quantization_mode is None
        and layer.activity_regularizer is None
        and own["_remat_mode"] is None
        and "call" not in own  # replaced for this layer
        and not own["_forward_hooks"]
        and not own["_forward_pre_hooks"]
        and not own["_backward_hooks"]
        and not own["_backward_pre_hooks"]
        and not torch.nn.modules.module._has_any_global_hook()
    )
