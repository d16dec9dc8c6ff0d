"""`CheckpointError`, and context managers that turn other errors into it and name the file."""

import contextlib
import struct
import tokenize
import zipfile
import zlib


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or does not fit; the message says what was expected."""


class ArgumentError(ValueError):
    """A mistake in the caller's arguments, not in the file, that shows only while it is read."""


@contextlib.contextmanager
def named(path):
    """Adds the file, or the source as the user named it, to every `CheckpointError`."""
    try:
        yield
    except CheckpointError as error:
        if str(path) in str(error):
            raise
        raise CheckpointError(f"{path}: {error}") from error


@contextlib.contextmanager
def readable(path, what):
    """Turns any error that the content of a file causes into a `CheckpointError` that names it.

    Args:
        path: the file, or the source as the user named it.
        what: str, what it should be, such as "safetensors".
    """
    try:
        with named(path):
            yield
    except (ArgumentError, CheckpointError):
        raise
    except MemoryError as error:
        raise CheckpointError(f"{path} needs more memory than is available.") from error
    except (
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        NotImplementedError,
        OSError,
        RuntimeError,  # RecursionError among them
        SyntaxError,
        TypeError,
        ValueError,
        struct.error,
        tokenize.TokenError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        advice = f"is not a complete {what} file: download or write it again"
        if isinstance(error, OSError) and error.errno is not None:
            advice = "cannot be read"
        raise CheckpointError(
            f"{path} {advice}. Received: {type(error).__name__}: {str(error)[:300]}"
        ) from error
