"""Nonlinearities by name: the four of published Vision Transformers, and all that Keras knows."""

import keras
from keras import ops

from keras_vit.ops.gradients import gelu

ACTIVATIONS = {
    "gelu": gelu,
    "gelu_tanh": lambda x: ops.gelu(x, approximate=True),
    "quick_gelu": lambda x: x * ops.sigmoid(1.702 * x),
}
PUBLISHED = (*ACTIVATIONS, "swiglu")


def activation_name(activation):
    """The name under which configurations, files and recipes keep an activation.

    Args:
        activation: str: one of `PUBLISHED` or a name of `keras.activations`, such as "relu"; or a
            function: of `keras.activations`, or one's own that is registered with
            `keras.saving.register_keras_serializable`.

    Returns:
        str, such as "gelu" or "my_package>my_activation".

    Raises:
        ValueError: for a name that nobody knows, or a function that has none.
    """
    name = activation
    if callable(activation):
        name = keras.saving.get_registered_name(activation)
        own = getattr(keras.activations, name, keras.saving.get_registered_object(name))
        name = name if own is activation else None
    if name in PUBLISHED or activation_function(name) is not None:
        return name
    raise ValueError(
        f"activation must be one of {', '.join(map(repr, PUBLISHED))}, a name or function of "
        "keras.activations, or a function that keras.saving.register_keras_serializable registers. "
        f"Received: activation={activation!r}"
    )


def activation_function(name):
    """The function behind a name other than "swiglu", which is a gate; None where nobody has it."""
    if not isinstance(name, str):
        return None
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    if ">" in name:
        return keras.saving.get_registered_object(name)
    try:
        return keras.activations.get(name)
    except ValueError:
        return None
