"""`CheckpointError`, and context managers that turn other errors into it and name the file."""

import contextlib
import struct
import tokenize
import zipfile
import zlib


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or does not fit; says what was expected and what came."""


class ArgumentError(ValueError):
    """A mistake in the caller's arguments that shows while a file is read; none of the file's."""


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
    """Turns whatever goes wrong with what a file holds into one `CheckpointError` that names it.

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
        raise CheckpointError(f"{path} needs more memory than there is.") from error
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
        advice = f"is no whole {what} file: download or write it again"
        if isinstance(error, OSError) and error.errno is not None:
            advice = "cannot be read"
        raise CheckpointError(
            f"{path} {advice}. Received: {type(error).__name__}: {str(error)[:300]}"
        ) from error
