"""Reads recipes strictly; an error for an unknown name suggests the nearest one."""

import dataclasses
import difflib
import tomllib
import typing
from pathlib import Path

import tomli_w

from .model_schema import AUTO, Auto, ModelTable, require
from .schema import Recipe

RECIPES = Path(__file__).parents[1] / "recipes"
FILES = ("folder:", "tfds:", "tfrecord:")  # sources of picture files


def find(name):
    """The file of a recipe: a name in training/recipes, or a path that ends in .toml.

    Raises:
        ValueError: for a file that does not exist, or an unknown name, with the nearest one.
    """
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise ValueError(f"The recipe file does not exist. Received: {name}")
        return Path(name)
    names = sorted(path.stem for path in RECIPES.glob("*.toml"))
    if name not in names:
        _unknown("recipe", name, names)
    return RECIPES / f"{name}.toml"


def read(path, overrides=()):
    """Reads a recipe.

    Args:
        path: `Path` of a .toml file with the tables [task], [model], [finetune], [distill], [data],
            [augment], [optimizer], [train], [distribute] and [log], whose keys are the attributes
            in `training.recipe.schema`.
        overrides: strings "table.key=value"; the value as in TOML, or a bare string.

    Returns:
        `Recipe`.

    Raises:
        ValueError: for a file that is not TOML, unknown or missing tables and keys, and values of
            the wrong type or out of bounds.

    Example:
        >>> read(find("digits"), ["train.epochs=3"]).train.epochs
        3
    """
    return of_tables(_toml(path), overrides)


def read_of_run(path, overrides=()):
    """Reads the recipe in a run folder, with the defaults of the version that wrote it.

    Args, Returns, Raises: as `read`.
    """
    tables = _toml(path)
    data = tables.get("data")
    if isinstance(data, dict) and str(data.get("source")).startswith(FILES):
        data.setdefault("upright", False)  # version 0.1 turned no picture
    return of_tables(tables, overrides)


def _toml(path):
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no valid TOML: {error}. Received: {path}") from error


def of_tables(tables, overrides=()):
    """The recipe of dicts by table, as `Recipe.as_dict` gives them; arguments else as `read`."""
    classes = {f.name: f.type for f in dataclasses.fields(Recipe)}
    for name, table in tables.items():
        if name not in classes:
            _unknown("table", name, list(classes))
        if not isinstance(table, dict):
            raise ValueError(f"{name} must be a table: [{name}]. Received: {name}={table!r}")
    for name, key, value in map(parse_override, overrides):
        if name not in classes:
            _unknown("table", name, list(classes))
        tables.setdefault(name, {})[key] = value
    read_tables = {name: _table(c, name, tables.get(name, {})) for name, c in classes.items()}
    recipe = Recipe(**read_tables)
    known = recipe.model.variant != AUTO or recipe.finetune.source != ""
    require(known, "finetune.source", "set beside model.variant='auto'", "")
    return recipe


def parse_override(text):
    """Splits "train.epochs=3" into ("train", "epochs", 3)."""
    path, equals, value = text.partition("=")
    table, dot, key = path.strip().partition(".")
    if not equals or not dot or not key:
        raise ValueError(f"--set takes table.key=value, as in train.epochs=3. Received: {text!r}")
    try:
        return table, key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return table, key, value.strip()  # a string needs no quotes on the command line


def to_toml(recipe, comment):
    """The text of a recipe with every value that is in force, below a line of comment."""
    return f"# {comment}\n\n{tomli_w.dumps(recipe.as_dict())}"


def _table(table_class, name, values):
    """An instance of `table_class` from the values of the table `name`."""
    if table_class is ModelTable:
        return _model_table(values)
    fields = {f.name: f for f in dataclasses.fields(table_class)}
    for key in values:
        if key not in fields:
            _unknown("key", f"{name}.{key}", [f"{name}.{known}" for known in fields])
    for key, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and key not in values:
            raise ValueError(f"{name}.{key} is missing. Received: [{name}] with {list(values)}")
    return table_class(**{k: _typed(f"{name}.{k}", v, fields[k].type) for k, v in values.items()})


def _model_table(values):
    arguments = dict(values)
    if "variant" not in arguments:
        raise ValueError(f"model.variant is missing. Received: [model] with {list(values)}")
    variant = _typed("model.variant", arguments.pop("variant"), str)
    if variant not in (AUTO, *ModelTable.variants()):
        _unknown("model.variant", variant, list(ModelTable.variants()))
    table = ModelTable(variant, arguments)
    for key in arguments:
        if key not in table.valid_arguments():
            known = ["variant", *table.valid_arguments()]
            _unknown("key", f"model.{key}", [f"model.{name}" for name in known])
    classes = table.all_arguments().get("num_classes", AUTO)
    enough = classes == AUTO or type(classes) is int and classes > 1
    require(enough, "model.num_classes", "an integer of 2 or more", classes)
    return table


def _typed(name, value, expected):
    """`value` as the type `expected`: int, float, bool, str or tuple[int or float, ...].

    Of a type that has "auto" beside it, also that.
    """
    may_be = ""
    if Auto in typing.get_args(expected):
        if value == AUTO:
            return value
        expected, may_be = typing.get_args(expected)[0], f'"{AUTO}" or '
    if typing.get_origin(expected) is tuple:
        values, (element, _) = _typed(name, value, list), typing.get_args(expected)
        return tuple(_typed(f"{name}[{i}]", v, element) for i, v in enumerate(values))
    if expected is float and type(value) is int:
        return float(value)
    if type(value) is not expected:
        raise ValueError(
            f"{name} must be {may_be}of type {expected.__name__}. "
            f"Received: {name}={value!r} of type {type(value).__name__}"
        )
    return value


def _unknown(kind, name, known):
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    raise ValueError(
        f"Unknown {kind} {name!r}; did you mean {nearest!r}? "
        f"There are: {', '.join(known)}. Received: {name!r}"
    )
