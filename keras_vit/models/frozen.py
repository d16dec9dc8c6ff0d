"""Frozen layers and weights, as paths in a model's configuration."""

import difflib


def named_layers(model):
    """dict of path to layer, nested ones included: "block00", "block00/attention", ..."""
    found = {}

    def walk(layer, path):
        if path not in found:
            found[path] = layer
            for inner in layer._layers:
                walk(inner, f"{path}/{inner.name}")

    for layer in model.layers:
        walk(layer, layer.name)
    return found


def frozen_paths(model, lora=True):
    """The shortest list of paths that describes which layers and weights are frozen.

    If a frozen layer has a trainable part, its frozen parts are listed instead of the layer.

    Args:
        model: functional model.
        lora: bool, whether layers keep their low-rank updates. If False, the updates are merged
            into the matrices, and these count as trainable, as the updates were.

    Returns:
        list of str, such as `["block00", "block01/norm1/gamma"]`.
    """
    found = []

    def walk(layer, path):
        if not layer.weights:
            return
        trained = model.trainable and any(v.trainable for v in layer.variables)
        if not trained and not (layer.trainable and model.trainable):
            found.append(path)
            return
        merged = not lora and getattr(layer, "lora_enabled", False)
        for weight in layer._trainable_variables:  # unlike a moving average
            updated = merged and (weight is layer._kernel or weight.name.startswith("lora_"))
            if not weight.trainable and not updated:
                found.append(f"{path}/{weight.name}")
        for inner in layer._layers:
            walk(inner, f"{path}/{inner.name}")

    for layer in model.layers:
        walk(layer, layer.name)
    return found


def freeze(model, paths):
    """Freezes layers, with all layers inside them, or single weights.

    Args:
        model: functional model.
        paths: list of paths, such as "block00", "block00/attention" or "block00/norm1/gamma".

    Raises:
        ValueError: if a path does not exist.
    """
    if not paths:
        return
    if not isinstance(paths, (list, tuple)):
        raise ValueError(f"frozen_layers must be a list of paths. Received: {paths!r}")
    known = dict(named_layers(model))
    for path, layer in list(known.items()):
        for weight in layer._trainable_variables:
            known.setdefault(f"{path}/{weight.name}", weight)
    for path in paths:
        if not isinstance(path, str) or path not in known:
            near = difflib.get_close_matches(str(path), known, 3)
            raise ValueError(
                "frozen_layers must hold paths of layers or weights, such as 'block00' or "
                f"'block00/attention'{'; similar: ' + ', '.join(near) if near else ''}. "
                f"Received: {path!r}"
            )
        known[path].trainable = False
