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

# What a caller may change of any task: no weight depends on it.
FREE = ("preprocessor", "name")


def task_of(config):
    """The `Family` of the task that a file's configuration is of, or None."""
    found = registered(config.get("registered_name")) if isinstance(config, dict) else None
    return found if found in [family(name) for name in TASKS] else None


def load(task, reader, overrides, name):
    """Builds the model of a `.keras` file and loads its weights.

    The classes that the configuration names must be models of this library, and every argument is
    checked before anything is built.

    Args:
        task: `Family`, what `task_of` gives for the reader's configuration.
        reader: `KerasReader`.
        overrides: dict of the caller's arguments, of those in `FREE` and in the task's own.
        name: str, the source, for errors.

    Raises:
        CheckpointError: for other classes or arguments, or weights that do not fit them.
        ValueError: for other overrides.
    """
    free = (*getattr(task.read, "FREE", ()), *FREE)
    other = sorted(set(overrides) - set(free))
    if other:
        raise ValueError(
            f"The arguments of a {task.model.__name__} in a .keras file are its own; "
            f"{', '.join(free)} can be changed. Received: {', '.join(other)}"
        )
    with readable(name, "checkpoint"):
        limit = SPREAD * sum(math.prod(x.shape) for x in reader.tensors.values()) + SLACK
        with no_initialization(limit):
            encoder = _encoder(task, reader)
            model = task.model(encoder, **{**_own_arguments(task, reader), **overrides})
        model.load_weights(reader.path)
    model.load_report = LoadReport(
        name, "keras", used=[([x], []) for x in reader.tensors], notes=["read by Keras"]
    )
    return model


def _argument(task):
    """The argument of a task's model that is its encoder."""
    return getattr(task.read, "ENCODER", "encoder")


def _encoder(task, reader):
    """The encoder that the configuration describes, without its weights."""
    given, argument = reader.config.get("config"), _argument(task)
    config = given.get(argument) if isinstance(given, dict) else None
    name = config.get("registered_name") if isinstance(config, dict) else config
    families = [family(name) for name in FAMILIES]
    known = {keras.saving.get_registered_name(x.model): x for x in families}
    found = known.get(name) if isinstance(config, dict) and isinstance(name, str) else None
    if found is None:
        raise CheckpointError(
            f"{reader.path} must have one of these as its {argument}: {', '.join(known)}. "
            f"Received: {brief(name)}"
        )
    arguments = keras_arguments(SimpleNamespace(path=reader.path, config=config), {}, found)
    return found.model(**arguments)


def _own_arguments(task, reader):
    """The arguments of the file's model, but for its encoder and what that determines."""
    left_out = {_argument(task), *getattr(task.read, "OF_ENCODER", ())}
    config = {k: v for k, v in reader.config["config"].items() if k not in left_out}
    config = {**reader.config, "config": config}
    return keras_arguments(SimpleNamespace(path=reader.path, config=config), {}, task)
