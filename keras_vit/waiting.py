"""Lets packages wait for their first use: the command is there at once, without start-up lines.

`import keras_vit` imports Keras and its backend, which takes seconds. The command `keras-vit` is
part of that package; in its process, and in no other, `keras_vit/__init__.py` stops before these
imports, and is run again, whole, when a command takes the first name from it.
"""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import os
import sys
import tempfile
import types
from pathlib import Path

SCRIPTS = ("keras-vit", "keras-vit.exe")
_waiting = set()


class Waiting(types.ModuleType):
    """A package whose `__init__.py` runs when somebody asks for a name that only it can give."""

    def __getattr__(self, name):
        self.__class__ = types.ModuleType
        try:
            with quiet():
                self.__spec__.loader.exec_module(self)
        except ModuleNotFoundError as error:
            from keras_vit.backends import missing_backend

            if message := missing_backend(error):
                raise ValueError(message) from error
            raise
        return getattr(self, name)


class QuietTensorFlow(importlib.abc.MetaPathFinder):
    """Keeps back what TensorFlow writes when it is imported, by Keras on another backend too."""

    def find_spec(self, name, path, target=None):
        if name != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            execute = spec.loader.exec_module

            def quietly(module):
                with quiet():
                    execute(module)

            spec.loader.exec_module = quietly
        return spec


@contextlib.contextmanager
def quiet():
    """Keeps back what is written to the descriptor of stderr; an error shows it after all.

    TensorFlow writes some lines before it reads TF_CPP_MIN_LOG_LEVEL, and around `sys.stderr`.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(stderr, kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


def wait(name):
    """Makes `import name` wait, with all that it imports, for the first use of it."""
    spec = importlib.util.find_spec(name)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.modules[name].__class__ = Waiting


def waits(name):
    """Whether the package `name`, whose `__init__.py` asks, stops here and waits: once.

    Only in the process of the command `keras-vit`, also as `python -m keras_vit`.
    """
    if name in _waiting or not _is_command():
        return False
    _waiting.add(name)
    sys.modules[name].__class__ = Waiting
    return True


def _is_command():
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # Python looks for the module that it is to run
        return ("-m", "keras_vit") in itertools.pairwise(sys.orig_argv)
    return Path(program).name in SCRIPTS
