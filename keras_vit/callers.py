"""Warnings that point at the line of the user's that they are about."""

import sys
import warnings

WITHIN = ("keras_vit", "keras", "tensorflow", "jax", "torch")


def warn(message):
    """Warns as from the nearest caller outside of this library, Keras and its backends.

    Args:
        message: str.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in WITHIN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
