"""Layers whose configuration is the arguments of their constructor, recorded once."""

import inspect

import keras

from keras_vit.layers.activations import activation_name


def constructor_arguments(cls, args, kwargs):
    """The arguments of `cls(*args, **kwargs)` by name, defaults included.

    What goes into `**kwargs` of the constructor is listed like its other arguments.

    Args:
        cls: class.
        args, kwargs: tuple and dict, what it is called with.

    Returns:
        dict of argument name to value, without `self`; empty for a call that the constructor
        refuses.
    """
    signature = inspect.signature(cls.__init__)
    try:
        bound = signature.bind(None, *args, **kwargs)
    except TypeError:
        return {}  # the constructor raises a better one
    bound.apply_defaults()
    arguments = {}
    for name, value in list(bound.arguments.items())[1:]:
        several = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
        arguments.update(value if several else {name: value})
    return arguments


def recorded(arguments):
    """Arguments as configurations keep them: of a function, which is an activation, its name."""
    return {
        name: activation_name(value) if inspect.isfunction(value) else value
        for name, value in arguments.items()
    }


class ConfiguredLayer(keras.layers.Layer):
    """A layer whose `get_config` returns what its constructor was called with.

    Subclasses need no `get_config`, as long as `cls(**config)` with the same arguments makes the
    same layer. Keras records arguments too, but not where one of them is a dtype policy.
    """

    def __new__(cls, *args, **kwargs):
        layer = super().__new__(cls, *args, **kwargs)
        # Past Keras's tracking, which would wrap every list and dict.
        arguments = recorded(constructor_arguments(cls, args, kwargs))
        object.__setattr__(layer, "_arguments", arguments)
        return layer

    def get_config(self):
        return {**self._arguments, **super().get_config()}
