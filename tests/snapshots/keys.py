"""The keys of a JSON document, and of which type their values are."""

import re

import keras


def keys(document):
    """A line for a key: `layers[].shape[]: int`; the elements of a list are taken together."""
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
    """A key without what depends on the numbers or on the backend."""
    return "BACKEND" if key == keras.backend.backend() else re.sub(r" \d+", " N", key)
