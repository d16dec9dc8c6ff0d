"""The name under which version 0.1 had `CheckpointError`; gone with the version after this one."""

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
