"""The modules that read and write the checkpoints of each registered family.

They are in the package that `keras_vit.models.registry` says. `names` has its `TABLES`. `write` has
`WRITERS`: dict of "hf" and "timm" to (model, folder) -> None. `read` has

    infer: (`Match`, tensors) -> dict of arguments, what the tensors say.
    describe: (config, processor, name) -> `Description`, what a configuration says.
    complete: (inferred, description, overrides, name) -> arguments of the model.
    facts: (arguments) -> `layouts.Facts` or `StageFacts` of a source, or of a model.
    EFFECTS: dict of argument to the pattern of weights that the caller's value may leave out.
    SAID_TWICE: arguments that a `.keras` file's configuration and weights both say.
    ARITHMETIC: arguments that must be equal for the same tensors to compute the same.
    DESCRIBED: more of them, which count only where a configuration says them.
    ASKED: arguments of a standing model that fill in where the source is silent.
    GUESSED: arguments that `complete` guesses where neither source nor caller says them.
    FIRST_CONVOLUTION: path of the kernel that reads the pixels.
    RESAMPLED: dict of the end of a path to (array, (h, w), arguments of the model) -> array: tables
        of the family's own that are resampled to another size.
    ONLY_WITH: dict of a pattern of weights to (argument, value): those of a source that a model has
        with this value alone.
    REFUSED: dict of an argument that no `.keras` file may have to what the file must hold instead.

That of a task may have `build` and `arguments_of` (`Family`), and

    ENCODER: the argument that is a model of another family; "encoder" by default.
    OF_ENCODER: arguments that this model determines.
    FREE: arguments besides `preprocessor` and `name` that a caller may change of a `.keras` file.
    OF_CLASSIFIERS: arguments that the task has not and its encoder has: a caller who gives one of
        them wants the encoder alone.
    CLASSIFIER: arguments of that encoder where a caller gives num_classes and no pooling.
"""

import functools
import importlib
from types import ModuleType
from typing import NamedTuple

import keras

from keras_vit.models import registry


class Family(NamedTuple):
    """The modules that read and write the checkpoints of a class of models."""

    model: type
    names: ModuleType
    read: ModuleType
    write: ModuleType

    @property
    def build(self):
        """The function that builds a model from its arguments: the class, unless `read` has one.

        A task's takes the arguments of its encoder too.
        """
        return getattr(self.read, "build", self.model)

    def arguments(self, model):
        """dict of the arguments of `build` for a standing model."""
        arguments_of = getattr(self.read, "arguments_of", lambda model: model.get_config())
        return arguments_of(model)


@functools.cache
def _family(model, package):
    modules = [importlib.import_module(f"{package}.{x}") for x in ("names", "read", "write")]
    return Family(model, *modules)


def family(name):
    """The `Family` of a name in `registry.FAMILIES` or `registry.TASKS`."""
    found = (registry.FAMILIES | registry.TASKS)[name]
    return _family(found.model, found.checkpoints)


def families():
    """list of `Family`, without repeats: two entries of the registry may share a class."""
    return list(dict.fromkeys(family(name) for name in registry.FAMILIES | registry.TASKS))


def family_of(model):
    """The `Family` of a model, or None."""
    found = registry.family_of(model)
    return found and family(found.name)


def registered(name):
    """The `Family` whose class Keras knows by this name, or None."""
    known = {keras.saving.get_registered_name(family.model): family for family in families()}
    return known.get(name) if isinstance(name, str) else None


def tables(config=None, of_tasks=True):
    """list of the `Names` of all families, first those of a Keras configuration's model.

    Args:
        config: the configuration, or None.
        of_tasks: bool, whether models of tasks count; without them a file holds an encoder.
    """
    name = config.get("registered_name") if isinstance(config, dict) else None
    known = sorted(families(), key=lambda x: keras.saving.get_registered_name(x.model) != name)
    encoders = {family.model for family in registry.FAMILIES.values()}
    known = [x for x in known if of_tasks or x.model in encoders]
    return [table for family in known for table in family.names.TABLES]


def asked():
    """Names of the caller's arguments that count while a source of any family is read."""
    return {"position_grid"} | {name for family in families() for name in family.read.ASKED}


def builders():
    """list of the functions that build the models from their arguments."""
    return [family.build for family in families()]


def classes():
    """list of the models' classes."""
    return [family.model for family in families()]


def names_of(models):
    """The names of the models' classes, for errors."""
    return " or ".join(model.__name__ for model in models)
