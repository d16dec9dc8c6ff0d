"""The former place of `CheckpointError`, kept for one version with a deprecation warning."""

import warnings

from keras_vit.checkpoints import errors


def __getattr__(name):
    if name != "CheckpointError":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"{__name__}.CheckpointError is now {errors.__name__}.CheckpointError",
        DeprecationWarning,
        stacklevel=2,
    )
    return errors.CheckpointError
