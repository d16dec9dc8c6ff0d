"""Recipes: what they may say, and the model and the optimizer that they describe."""

from .reader import (
    RECIPES,
    find,
    of_tables,
    parse_override,
    read,
    read_of_run,
    to_toml,
)
from .schema import Recipe

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
