"""The keys of a JSON document, and the types of their values."""

import re

import keras


def keys(document):
    """One line per key, such as `layers[].shape[]: int`; the elements of a list share a line."""
    found = {}

    def walk(value, path):
        if isinstance(value, dict) and value:
            for key, x in value.items():
                walk(x, f"{path}.{said(key)}" if path else said(key))
        elif isinstance(value, list) and value:
            for x in value:
                walk(x, f"{path}[]")
        else:
            found.setdefault(path, set()).add("null" if value is None else type(value).__name__)

    walk(document, "")
    return [f"{path}: {' or '.join(sorted(types))}" for path, types in found.items()]


def said(key):
    """A key without the parts that depend on numbers or on the backend."""
    return "BACKEND" if key == keras.backend.backend() else re.sub(r" \d+", " N", key)
