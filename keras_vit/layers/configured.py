"""`ConfiguredLayer`: records the arguments of the constructor for `get_config`."""

import inspect

import keras

from keras_vit.layers.activations import activation_name


def constructor_arguments(cls, args, kwargs):
    """The arguments of `cls(*args, **kwargs)` by name, defaults included.

    Keyword arguments that the constructor collects in `**kwargs` are listed like the others.

    Args:
        cls: class.
        args, kwargs: tuple and dict, the arguments of the call.

    Returns:
        dict of argument name to value, without `self`; empty if the arguments do not match the
        signature.
    """
    signature = inspect.signature(cls.__init__)
    try:
        bound = signature.bind(None, *args, **kwargs)
    except TypeError:
        return {}  # the constructor raises a better error
    bound.apply_defaults()
    arguments = {}
    for name, value in list(bound.arguments.items())[1:]:
        several = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
        arguments.update(value if several else {name: value})
    return arguments


def recorded(arguments):
    """Arguments as `get_config` returns them: activation functions by their names."""
    return {
        name: activation_name(value) if inspect.isfunction(value) else value
        for name, value in arguments.items()
    }


class ConfiguredLayer(keras.layers.Layer):
    """A layer whose `get_config` returns the arguments of its constructor.

    Subclasses need no `get_config` if the same arguments always make the same layer. Keras records
    arguments too, but not if one of them is a dtype policy.
    """

    def __new__(cls, *args, **kwargs):
        layer = super().__new__(cls, *args, **kwargs)
        arguments = recorded(constructor_arguments(cls, args, kwargs))
        # Not through Keras's __setattr__, which would wrap every list and dict for tracking.
        object.__setattr__(layer, "_arguments", arguments)
        return layer

    def get_config(self):
        return {**self._arguments, **super().get_config()}
