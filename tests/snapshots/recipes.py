"""What a recipe may say: its tables and keys, with types, defaults and choices."""

import dataclasses
import typing

from training import recipe
from training.recipe.model_schema import Auto, ModelTable
from training.recipe.schema import Recipe

PLAIN = {
    "model": {"variant": "ViTTiny"},
    "data": {"source": "digits"},
    "optimizer": {"learning_rate": 1.0},
    "train": {"epochs": 1, "batch_size": 1},
}


def lines():
    """A line for a recipe of the package, a model that a recipe can train, and every key."""
    yield "# python -m training NAME"
    yield from sorted(path.stem for path in recipe.RECIPES.glob("*.toml"))
    for table in dataclasses.fields(Recipe):
        yield ""
        yield f"[{table.name}]"
        if table.type is ModelTable:
            yield "variant, and its arguments: any of"
            yield from (f"    {name}" for name in sorted(ModelTable.variants()))
            continue
        for key in dataclasses.fields(table.type):
            kind = key.type.__name__ if isinstance(key.type, type) else key.type
            if Auto in typing.get_args(kind):
                kind = f"{typing.get_args(kind)[0].__name__} or 'auto'"
            made = key.default_factory
            default = repr(key.default if made is dataclasses.MISSING else made())
            default = "required" if default == repr(dataclasses.MISSING) else default
            yield f"{key.name}: {kind} = {default}{choices(table.name, key)}"


def choices(table, key):
    """What the error says of a str that may only be one of some."""
    if key.type is str:
        try:
            recipe.of_tables({k: dict(v) for k, v in PLAIN.items()}, [f"{table}.{key.name}=?"])
        except ValueError as error:
            _, one_of, names = str(error).partition(" must be one of ")
            return one_of and f", one of {names.partition('. Received: ')[0]}"
    return ""
