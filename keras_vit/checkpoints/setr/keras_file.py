"""Loads a SETR from a `.keras` file, whose encoder may be of any family."""

import math
from types import SimpleNamespace

import keras

from keras_vit.checkpoints.arguments import keras_arguments
from keras_vit.checkpoints.building import SLACK, SPREAD
from keras_vit.checkpoints.errors import CheckpointError, readable
from keras_vit.checkpoints.families import families, family
from keras_vit.checkpoints.report import LoadReport
from keras_vit.checkpoints.untrusted import brief
from keras_vit.layers.initializers import no_initialization
from keras_vit.tasks.setr.model import SETR

NAME = keras.saving.get_registered_name(SETR)
# What a caller may change: no weight depends on it.
FREE = ("preprocessor", "class_names", "short_side", "name")


def is_setr(config):
    """Whether a file's configuration is that of a SETR."""
    return isinstance(config, dict) and config.get("registered_name") == NAME


def load(reader, overrides, name):
    """Builds the model of a `.keras` file and loads its weights.

    The classes that the configuration names must be models of this library, and every argument is
    checked before anything is built.

    Args:
        reader: `KerasReader`, whose configuration is that of a SETR.
        overrides: dict of the caller's arguments, of those in `FREE`.
        name: str, the source, for errors.

    Raises:
        CheckpointError: for other classes or arguments, or weights that do not fit them.
        ValueError: for other overrides.
    """
    other = sorted(set(overrides) - set(FREE))
    if other:
        raise ValueError(
            f"The arguments of a SETR in a .keras file are its own; {', '.join(FREE)} can be "
            f"changed. Received: {', '.join(other)}"
        )
    with readable(name, "checkpoint"):
        limit = SPREAD * sum(math.prod(x.shape) for x in reader.tensors.values()) + SLACK
        with no_initialization(limit):
            encoder = _encoder(reader)
            model = SETR(encoder, **{**_own_arguments(reader), **overrides})
        model.load_weights(reader.path)
    model.load_report = LoadReport(
        name, "keras", used=[([x], []) for x in reader.tensors], notes=["read by Keras"]
    )
    return model


def _encoder(reader):
    """The encoder that the configuration describes, without its weights."""
    given = reader.config.get("config")
    config = given.get("encoder") if isinstance(given, dict) else None
    known = {keras.saving.get_registered_name(x.model): x for x in families() if x.model != SETR}
    found = known.get(config.get("registered_name")) if isinstance(config, dict) else None
    if found is None:
        raise CheckpointError(
            f"{reader.path} must have one of these encoders: {', '.join(known)}. Received: "
            f"{brief(config.get('registered_name') if isinstance(config, dict) else config)}"
        )
    arguments = keras_arguments(SimpleNamespace(path=reader.path, config=config), {}, found)
    return found.model(**arguments)


def _own_arguments(reader):
    """The arguments of the file's SETR, but for its encoder."""
    config = {k: v for k, v in reader.config["config"].items() if k != "encoder"}
    config = {"registered_name": NAME, "config": config}
    return keras_arguments(SimpleNamespace(path=reader.path, config=config), {}, family("setr"))
