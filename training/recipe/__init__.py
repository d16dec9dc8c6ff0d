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

__all__ = ["RECIPES", "find", "of_tables", "parse_override", "read", "read_of_run", "to_toml"]
