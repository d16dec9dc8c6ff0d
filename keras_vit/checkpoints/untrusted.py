"""Parses untrusted data within bounds, and describes it briefly for error messages.

Nothing here walks through a value of unknown depth: a few kilobytes of a pickle can describe a
tuple whose `repr`, hash or comparison takes 2^100 steps.
"""

import json
import math

MAX_JSON = 16 * 2**20  # bytes; the labels of 21,843 classes take about two million
MAX_NESTING = 100
MAX_NUMBER = 2**62  # of bytes, numbers, positions: no file has more
MAX_AXES = 32  # of an array


def brief(value):
    """Describes an untrusted value in at most some 600 characters.

    Args:
        value: anything.

    Returns:
        str. Lists and dicts are described by their length and first items, without nested items.
    """
    if isinstance(value, dict):
        keys = [_word(key) for key, _ in zip(value, range(5), strict=False)]
        return f"a dict of {len(value)} items" + (f" such as {', '.join(keys)}" if keys else "")
    if isinstance(value, (list, tuple)):
        if len(value) > 8:
            return _word(value)
        words = ", ".join(map(_word, value))
        return f"[{words}]" if isinstance(value, list) else f"({words})"
    return _word(value)


def _word(value):
    if isinstance(value, (str, bytes)):
        return repr(value[:60]) + ("..." if len(value) > 60 else "")
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, (list, tuple, dict)):
        return f"a {type(value).__name__} of {len(value)} items"
    return f"a {type(value).__name__}"


def is_count(value, least=0):
    """Whether the value is an int (not a bool) of a size that a file can have."""
    return type(value) is int and least <= value < MAX_NUMBER


def is_finite(value):
    """Whether the value is an int or a float, and neither NaN nor infinite."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) < math.inf


def read_json(file):
    """The value of a JSON file.

    Args:
        file: binary file, at the start of the JSON, which ends with it.

    Returns:
        dict, list, str, number, bool or None.

    Raises:
        ValueError: for more than 16 MiB, for a key that comes twice, for nesting deeper than 100,
            for NaN, Infinity and integers of more than 19 digits.
    """
    data = file.read(MAX_JSON + 1)
    if len(data) > MAX_JSON:
        raise ValueError(f"more than {MAX_JSON} bytes of JSON")
    value = json.loads(
        data.decode("utf-8"),
        object_pairs_hook=_unique_keys,
        parse_int=_integer,
        parse_float=_float,
        parse_constant=_float,
    )
    _check_nesting(value)
    return value


def _unique_keys(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        seen = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"{brief(twice)} comes twice")
    return found


def _integer(text):
    if len(text) > 19:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _float(text):
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]}")
    return value


def _check_nesting(value):
    level = [value]
    for _ in range(MAX_NESTING):
        inner = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        level = inner
    if level:
        raise ValueError(f"values within values, more than {MAX_NESTING} deep")
