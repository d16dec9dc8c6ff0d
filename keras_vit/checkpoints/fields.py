"""Building blocks of tables of configuration fields: a row a field, used in both directions."""

from collections.abc import Callable
from typing import NamedTuple


def _same(value):
    return value


class Field(NamedTuple):
    """A field of a library's configuration, and the argument that it is here.

    A list of JSON is a tuple here. What else differs is for `read` and `write` to convert.

    Attributes:
        key: str, the library's name.
        argument: str, ours.
        read: their value -> ours, or None for a field that is not read.
        write: our value -> theirs, or None for a field that is not written.
        kinds: tuple of the kinds of models whose configurations have it; () for all. It is read
            wherever it stands.
        one_way: str, why it is not read, or not written.
    """

    key: str
    argument: str
    read: Callable | None = _same
    write: Callable | None = _same
    kinds: tuple = ()
    one_way: str = ""


def read_fields(fields, config):
    """dict of the arguments that a configuration gives; null counts as absent."""
    found = {}
    for field in fields:
        value = config.get(field.key)
        if field.read is not None and value is not None:
            found[field.argument] = field.read(tuple(value) if isinstance(value, list) else value)
    return found


def write_fields(fields, arguments, kind=None):
    """dict of the fields for these arguments in a configuration of that kind."""
    return {
        field.key: field.write(arguments[field.argument])
        for field in fields
        if field.write is not None and (not field.kinds or kind in field.kinds)
    }


def keys_of(fields):
    """set of the fields' names."""
    return {field.key for field in fields}


def seen_in_tensors(key, argument, write=_same):
    """A `Field` that is only written, because the tensors show its value."""
    return Field(key, argument, read=None, write=write, one_way="the tensors show it")


def held_against_tensors(key, argument):
    """A `Field` that is only read: no argument, but checked against the tensors."""
    return Field(key, argument, write=None, one_way="the model has no such argument")


def one_or_two(pair):
    """A pair of numbers as one number if both are equal, else as a list."""
    return pair[0] if pair[0] == pair[1] else list(pair)
