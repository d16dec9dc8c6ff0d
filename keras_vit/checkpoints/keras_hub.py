"""Reads what a preset of keras-hub says: a backbone, the classifier on it, and its pictures.

`save_to_preset` writes the backbone's configuration to `config.json` and its weights to
`model.weights.h5`; a classifier adds `task.json` and `task.weights.h5`, a preprocessor
`image_converter.json`. Presets on the hubs have the same files.
"""

from keras_vit.checkpoints.configs import Description, refuse
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.fields import Field, keys_of, read_fields
from keras_vit.checkpoints.pictures.keras_hub import add_converter
from keras_vit.checkpoints.untrusted import brief

PACKAGE = "keras_hub>"  # before the registered names of its classes
WEIGHTS, HEAD = "model.weights.h5", "task.weights.h5"
# What names a model or its precision, and what is refused unless it is as here.
_WITHOUT_EFFECT = {"name", "trainable", "dtype", "data_format"}
# Of `task.json`; the tensors show the width of the pre-logits.
_TASK = {
    "backbone", "preprocessor", "name", "dtype", "num_classes", "pooling", "activation",
    "intermediate_dim",
}  # fmt: skip


def only_read(key, argument, **arguments):
    """A `Field` of a preset: no folder of keras-hub is written here."""
    return Field(key, argument, write=None, one_way="presets are only read", **arguments)


# of `config.json`, in all families
FIELDS = (
    only_read("image_shape", "image_size", read=lambda shape: shape[:2]),
    only_read("image_shape", "num_channels", read=lambda shape: shape[2]),
    only_read("patch_size", "patch_size"),
    only_read("num_heads", "num_heads"),
    only_read("dropout_rate", "dropout_rate"),
    only_read("attention_dropout", "attention_dropout_rate"),
)


def is_preset(config):
    """Whether a `config.json` is that of a preset."""
    name = config.get("registered_name") if isinstance(config, dict) else None
    return isinstance(name, str) and name.startswith(PACKAGE)


def configs(read):
    """(configuration with that of the task as "task", that of the image converter) of a preset.

    Args:
        read: name of a file -> dict or None.
    """
    converter = read("image_converter.json")
    if converter is None:  # older presets have it within that of the preprocessor
        own = (read("preprocessor.json") or {}).get("config")
        converter = own.get("image_converter") if isinstance(own, dict) else None
    return {**read("config.json"), "task": read("task.json")}, converter


def describe(config, converter, backbones, also_known=()):
    """Reads the configuration of a preset.

    Args:
        config: dict, as `configs` gives it.
        converter: dict, the content of `image_converter.json`, or None.
        backbones: dict of a backbone's class to the tuple of its `Field`s.
        also_known: names of further fields, which the caller reads.

    Returns:
        (`Description`, dict of the classifier's arguments); the dict is empty for a backbone alone,
        and what it says of pooling is left to the caller.

    Raises:
        CheckpointError: for another class, or a field that cannot be honoured.
    """
    kind = config["registered_name"].removeprefix(PACKAGE)
    if kind not in backbones:
        raise CheckpointError(
            f"This preset of keras-hub does not fit its weights. Expected: {', '.join(backbones)}. "
            f"Received: {brief(kind)}"
        )
    own, fields = config["config"], backbones[kind]
    refuse(own, "data_format", ("channels_last", None))
    known = keys_of(fields) | _WITHOUT_EFFECT | set(also_known)
    found = Description(read_fields(fields, own), unread=sorted(set(own) - known))
    task = _task(config, kind, fields, found)
    add_converter(found, converter)
    return found, task


def _task(config, kind, fields, found):
    """The arguments of the classifier, held against the backbone."""
    task = config.get("task")
    if task is None:
        return {}
    expected = kind.removesuffix("Backbone") + "ImageClassifier"
    if task["registered_name"] != PACKAGE + expected:
        raise CheckpointError(
            f"task.json must be that of a {expected}. Received: {brief(task['registered_name'])}"
        )
    own = task["config"]
    if read_fields(fields, own["backbone"]["config"]) != found.arguments:
        raise CheckpointError(
            f"config.json and task.json describe two backbones. Received: {brief(found.arguments)} "
            f"and {brief(own['backbone']['config'])}"
        )
    refuse(own, "activation", (None, "linear"))
    found.arguments["num_classes"] = own["num_classes"]
    unread = sorted(key for key in set(own) - _TASK if own[key] not in (None, 0))
    found.unread += [f"{key} (task.json)" for key in unread]
    return own
