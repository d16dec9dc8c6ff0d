"""The script `keras-vit`: quick where no model is needed, and without TensorFlow's start-up lines.

It lies beside the package because Python runs `keras_vit/__init__.py`, which imports Keras and its
backend for seconds, before anything inside the package. Here the package is entered without that
file; the first name that a command takes from `keras_vit`, or from Keras, runs theirs.
"""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
import types


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


def main():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.meta_path.insert(0, QuietTensorFlow())
    wait("keras")
    wait("keras_vit")
    from keras_vit.cli import app

    app(prog_name="keras-vit")


if __name__ == "__main__":
    main()
