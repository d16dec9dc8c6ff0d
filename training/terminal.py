"""Terminal output of the commands."""

import contextlib
import os
import sys

# As a person calls them: messages and reports name the command that was used.
PACKAGE = __package__
INSTALLED = PACKAGE == "keras_vit.training"
TRAIN = "keras-vit train" if INSTALLED else "python -m training"
EVALUATE = "keras-vit evaluate" if INSTALLED else "python -m training.evaluate"
OURS = ("keras_vit", "training")


@contextlib.contextmanager
def quiet():
    """Suppresses the messages of TensorFlow's C++ code on import, which no setting does."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def packages(end=False):
    """Says of a package that is not installed that the extra `training` brings it.

    Args:
        end: bool, whether to print that and to end the process with 2, as a command does.

    Raises:
        ImportError: if not `end`.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package in OURS or package and not isinstance(error, ModuleNotFoundError):
            raise  # a bug, of one version with another for example
        if package:
            error = ImportError(
                f"Training needs {package}, which is not installed: pip install "
                f"'keras-vision-transformers[training]'. Received: {error}"
            )
        if end:
            print(f"error: {error}", file=sys.stderr)  # `say` may need what is missing
            raise SystemExit(2) from None
        raise error from None


def fail(error, code):
    """Prints an error; returns the exit code."""
    say(f"error: {' '.join(str(error).split())}", sys.stderr)
    return code


def say(text, file=None):
    """Prints a line; unprintable characters in file names or labels are escaped."""
    with quiet():
        from keras_vit.terminal import printable

    print(printable(text), file=file)


def clock(seconds):
    """Formats seconds: 75 -> "1:15", 3675 -> "1:01:15"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
