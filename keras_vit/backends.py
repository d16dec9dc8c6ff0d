"""What to say where Keras's backend is not installed."""

import importlib.util

BACKENDS = ("tensorflow", "jax", "torch")


def missing_backend(error):
    """What to do about a `ModuleNotFoundError` of importing Keras, or None for another module's.

    Without KERAS_BACKEND, and a configuration of its own, Keras takes TensorFlow.

    Example:
        >>> missing_backend(error)
        "The backend of Keras is not installed. jax is installed: set KERAS_BACKEND=jax. ..."
    """
    package = (error.name or "").partition(".")[0]
    if package not in BACKENDS or _is_installed(package):
        return None
    others = [name for name in BACKENDS if _is_installed(name)]
    instead = "".join(f" {name} is installed: set KERAS_BACKEND={name}." for name in others)
    return (
        f"The backend of Keras is not installed.{instead} Expected: pip install {package}, or "
        f"another of {', '.join(BACKENDS)} by KERAS_BACKEND. Received: {error}"
    )


def _is_installed(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # a module that was put there without a specification
        return False
