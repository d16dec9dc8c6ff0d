"""Models of a task that `finetune.source` gives, with the settings of a recipe."""

from ..recipe.schema import require

PAIRS = ("image_size", "num_heads", "mlp_dim")  # one number stands for two


def with_settings(model, arguments, free, precision, encoder):
    """A model of a source with the arguments of [model].

    Args:
        model: model of a task.
        arguments: dict, those that a recipe gives; the source was read with its num_classes.
        free: names of the arguments that may differ from the source's, because no weight of the
            source depends on them.
        precision: str, name of the dtype policy of a model that is built anew.
        encoder: str, name of the argument that is the model's encoder.

    Returns:
        `model`, or where arguments differ a model with the same weights.

    Raises:
        ValueError: for an argument that differs and is not free.
    """
    config, changed = model.get_config(), {}
    for key, value in arguments.items():
        own = config[key]
        if key in ("num_classes", "class_names") or _plain(key, own) == _plain(key, value):
            continue
        own = list(own) if isinstance(own, tuple) else own
        require(key in free, f"model.{key}", f"that of finetune.source, {own}", value)
        changed[key] = value
    if changed:
        model = rebuilt(model, changed, precision, encoder)
    if arguments.get("class_names") is not None:
        model.class_names = arguments["class_names"]
    return model


def rebuilt(model, changes, precision, encoder):
    """A model with other arguments, and the weights that both have.

    Args:
        model, precision, encoder: as of `with_settings`.
        changes: dict of arguments.
    """
    config = model.get_config() | {"dtype": precision} | changes
    config[encoder]["config"]["dtype"] = precision
    found = type(model).from_config(config)
    known = {weight.path: weight for weight in model.weights}
    for weight in found.weights:
        if weight.path in known and known[weight.path].shape == weight.shape:
            weight.assign(known[weight.path])
    return found


def _plain(key, value):
    """A value as it compares: lists for tuples, pairs for single numbers."""
    if key in PAIRS and isinstance(value, int):
        return [value, value]
    return list(value) if isinstance(value, tuple) else value
