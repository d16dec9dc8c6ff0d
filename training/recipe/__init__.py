"""Recipes: what they may say, and the model and the optimizer that they describe."""

from training.recipe.reader import (
    RECIPES,
    find,
    of_tables,
    parse_override,
    read,
    read_of_run,
    to_toml,
)
from training.recipe.schema import Recipe

__all__ = [
    "RECIPES",
    "Recipe",
    "find",
    "of_tables",
    "parse_override",
    "read",
    "read_of_run",
    "to_toml",
]
