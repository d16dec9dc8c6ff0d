"""Warnings that point at the user's line of code."""

import sys
import warnings

WITHIN = ("keras_vit", "keras", "tensorflow", "jax", "torch")


def warn(message):
    """Warns with the line of the nearest caller outside this library, Keras and its backends.

    Args:
        message: str.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in WITHIN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
