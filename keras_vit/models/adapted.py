"""Saves layers that `enable_lora` or `quantize` changed after the model was built.

Keras builds a saved model from its configuration before it loads the weights, and the configuration
does not describe the layers inside a block. So the model's configuration lists such changes, in
`adapted_layers`.
"""

import contextlib

import keras

from keras_vit.layers.validation import check_count
from keras_vit.models.frozen import named_layers

MODES = ("int8", "int4", "float8")  # the others need calibration data
CHANGES = {"quantization", "lora_rank", "lora_alpha"}
CONFIGS = ("Int8QuantizationConfig", "Int4QuantizationConfig", "Float8QuantizationConfig")


def adapted_layers(model):
    """The changes that `enable_lora` and `quantize` made to the layers of a model.

    Returns:
        dict of layer path to dict with the keys that apply: "quantization" (Keras's quantisation
        configuration, serialised), "lora_rank" and "lora_alpha"; None if nothing was changed.

    Raises:
        ValueError: if a layer is quantised in a mode that cannot be loaded again.
    """
    found = {}
    for path, layer in named_layers(model).items():
        changes = {}
        mode = layer.quantization_mode
        if mode is not None and getattr(layer, "_is_quantized", False):
            if mode not in MODES:
                raise ValueError(
                    f"A model quantised in the mode {mode!r} cannot be saved: its layers cannot be "
                    f"loaded again. Use one of {', '.join(MODES)}, or `export`. Received: {path}"
                )
            changes["quantization"] = keras.saving.serialize_keras_object(layer.quantization_config)
        if has_lora(layer) and not merges(model):
            changes["lora_rank"], changes["lora_alpha"] = layer.lora_rank, layer.lora_alpha
        if changes:
            found[path] = changes
    return found or None


def adapt(model, adapted):
    """Applies the changes that `adapted_layers` returned.

    It does not change which weights are trainable: `frozen_layers` does.

    Args:
        model: functional model, built.
        adapted: the result of `adapted_layers`, or None.

    Raises:
        ValueError: for a path without a layer, or an unknown change.
    """
    if adapted is None:
        return
    if not isinstance(adapted, dict):
        raise ValueError(f"adapted_layers must be a dict or None. Received: {type(adapted)}")
    layers = named_layers(model)
    for path, changes in adapted.items():
        layer = layers.get(path)
        if layer is None or not isinstance(changes, dict) or not set(changes) <= CHANGES:
            raise ValueError(
                "adapted_layers must be what a model's get_config gives: paths of its layers and "
                f"any of {', '.join(sorted(CHANGES))}. "
                f"Received: {path!r} of a {type(changes).__name__}"
            )
        quantization = changes.get("quantization")
        if quantization is not None and layer.quantization_mode is None:
            layer.quantize(config=_quantization(quantization))
        if "lora_rank" in changes and not has_lora(layer):
            check_count(changes["lora_rank"], "lora_rank")
            layer.enable_lora(changes["lora_rank"], lora_alpha=changes.get("lora_alpha"))
            if layer.quantization_mode is None:
                layer._kernel.trainable = True  # `frozen_layers` says what is frozen
    if keras.backend.backend() == "torch":
        for layer in model._flatten_layers():
            layer._track_variables()  # as `Model.quantize` does: drops parameters that are gone


def has_lora(layer):
    """Whether LoRA is enabled for a layer."""
    return getattr(layer, "lora_enabled", False)


@contextlib.contextmanager
def merged(model):
    """Context manager in which `model.save` merges low-rank updates into the matrices.

    Args:
        model: any `keras.Model`.
    """
    model._merges_lora = True
    try:
        yield
    finally:
        del model._merges_lora


def merges(model):
    """Whether a model is in the context `merged`."""
    return getattr(model, "_merges_lora", False)


def _quantization(config):
    """Deserialises a quantisation configuration; only Keras's own classes are accepted."""
    if not isinstance(config, dict) or config.get("class_name") not in CONFIGS:
        raise ValueError(
            f"quantization must be the configuration of one of {', '.join(CONFIGS)}. "
            f"Received: {config!r}"
        )
    return keras.saving.deserialize_keras_object(config)


class LowRankUpdates(keras.Operation):
    """Saves low-rank updates separately from their matrices in model files.

    Keras merges an update into its matrix when it saves a layer. When it loads the layer, the new
    update is all zeros and gets no gradient. This object is an attribute of the model; Keras saves
    and loads it after the layers, so that it restores both the matrices and the updates.

    Args:
        layers: function that returns {path: layer} for the layers with LoRA.
    """

    def __init__(self, layers):
        super().__init__(name="low_rank_updates")
        self._layers_with_lora = layers

    def save_own_variables(self, store):
        for path, layer in self._layers_with_lora().items():
            for weight in _own_weights(layer):
                store[_key(path, weight)] = weight

    def load_own_variables(self, store):
        for i, (path, layer) in enumerate(self._layers_with_lora().items()):
            weights = _own_weights(layer)
            if all(_key(path, weight) in store for weight in weights):
                for weight in weights:
                    weight.assign(store[_key(path, weight)])
            else:  # the file has the update merged: start a new one that can be trained
                first = layer.lora_kernel_a
                first.assign(keras.initializers.HeUniform(seed=i)(first.shape))


def low_rank_updates(model):
    """The `LowRankUpdates` of a model; it is not part of the graph."""

    def layers():
        if merges(model):
            return {}
        return {path: layer for path, layer in named_layers(model).items() if has_lora(layer)}

    return LowRankUpdates(layers)


def _own_weights(layer):
    return layer._trainable_variables + layer._non_trainable_variables


def _key(path, weight):
    return f"{path}/{weight.name}".replace("/", ".")
