"""Loads the model of a task from a `.keras` file, whose encoder may be of any family."""

import math
from types import SimpleNamespace

import keras

from keras_vit.checkpoints.arguments import keras_arguments
from keras_vit.checkpoints.building import SLACK, SPREAD
from keras_vit.checkpoints.errors import CheckpointError, readable
from keras_vit.checkpoints.families import family, registered
from keras_vit.checkpoints.report import LoadReport
from keras_vit.checkpoints.untrusted import brief
from keras_vit.layers.initializers import no_initialization
from keras_vit.models.registry import FAMILIES, TASKS


def task_of(config):
    """The `Family` of the task that a file's configuration is of, or None."""
    found = registered(config.get("registered_name")) if isinstance(config, dict) else None
    return found if found in _of(TASKS) else None


def _of(registry):
    return [family(name) for name in registry]


def load(reader, overrides, name):
    """Builds the model of a `.keras` file and loads its weights.

    The classes that the configuration names must be models of this library, and every argument is
    checked before anything is built.

    Args:
        reader: `KerasReader`, whose configuration is that of a task's model.
        overrides: dict of the caller's arguments, of those in the task's `FREE`.
        name: str, the source, for errors.

    Raises:
        CheckpointError: for other classes or arguments, or weights that do not fit them.
        ValueError: for other overrides.
    """
    task = task_of(reader.config)
    other = sorted(set(overrides) - set(task.read.FREE))
    if other:
        raise ValueError(
            f"The arguments of a {task.model.__name__} in a .keras file are its own; "
            f"{', '.join(task.read.FREE)} can be changed. Received: {', '.join(other)}"
        )
    with readable(name, "checkpoint"):
        limit = SPREAD * sum(math.prod(x.shape) for x in reader.tensors.values()) + SLACK
        with no_initialization(limit):
            encoder = _encoder(reader, task.read.ENCODER)
            model = task.model(encoder, **{**_own_arguments(reader, task), **overrides})
        model.load_weights(reader.path)
    model.load_report = LoadReport(
        name, "keras", used=[([x], []) for x in reader.tensors], notes=["read by Keras"]
    )
    return model


def _encoder(reader, argument):
    """The encoder that the configuration describes, without its weights."""
    given = reader.config.get("config")
    config = given.get(argument) if isinstance(given, dict) else None
    name = config.get("registered_name") if isinstance(config, dict) else config
    known = {keras.saving.get_registered_name(x.model): x for x in _of(FAMILIES)}
    found = known.get(name) if isinstance(config, dict) and isinstance(name, str) else None
    if found is None:
        raise CheckpointError(
            f"{reader.path} must have one of these as its {argument}: {', '.join(known)}. "
            f"Received: {brief(name)}"
        )
    arguments = keras_arguments(SimpleNamespace(path=reader.path, config=config), {}, found)
    return found.model(**arguments)


def _own_arguments(reader, task):
    """The arguments of the file's model, but for its encoder and what that determines."""
    left_out = {task.read.ENCODER, *task.read.OF_ENCODER}
    config = {k: v for k, v in reader.config["config"].items() if k not in left_out}
    config = {**reader.config, "config": config}
    return keras_arguments(SimpleNamespace(path=reader.path, config=config), {}, task)
