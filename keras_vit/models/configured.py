"""The arguments of a family's constructor: recorded in one place, and documented in one place."""

import functools
import inspect
import re

import keras

from keras_vit.layers.configured import recorded
from keras_vit.models.normalization import as_preprocessor

# The documentation of arguments that mean the same in every family.
SHARED = {
    "num_classes": "int, K, or None for features (B, width) instead of logits.",
    "num_channels": "int, C.",
    "mlp": """activation of the MLPs: "gelu" (exact), "gelu_tanh", "quick_gelu", "swiglu", or
        another that `keras_vit.layers.MLP` takes, such as `keras.activations.relu`.""",
    "norm_epsilon": "float, epsilon of every layer normalisation.",
    "attention_dropout_rate": "float in [0, 1), dropout on the attention scores.",
    "drop_path_rate": """float in [0, 1), stochastic depth of the last block; it grows linearly from
        0 at the first.""",
    "remat": """whether training recomputes every block in the backward pass (gradient
        checkpointing): less memory, about a third more work.""",
    "include_preprocessing": """if True the model takes pixels 0..255 and normalises them itself, as
        `preprocessor` says, by default to -1..1; otherwise it expects normalised images.""",
    "preprocessor": """`keras_vit.Preprocessor`, how pictures of any size become this model's input;
        `predict_images` uses it, and it is saved with the model.""",
    "class_names": "list of str, what the K logits stand for.",
    "frozen_layers": """list of paths of layers or weights that are not trained, such as "block00"
        or "block00/attention"; setting `trainable` later changes the configuration likewise,
        so that a saved model loads as it was.""",
    "adapted_layers": """how layers were changed since they were built, by `enable_lora` or
        `quantize`, as `get_config` gives it, so that a saved model loads as it was.""",
    "dtype": 'dtype policy of every layer, such as "mixed_bfloat16"; by default the global one.',
    "name": "str.",
}


def configured(family):
    """Class decorator of an `ImageModel`: records the constructor's arguments, documents them.

    `self._arguments` is there when the constructor begins: a dict of every argument by name, of
    which `dtype` is a policy and `preprocessor` a `Preprocessor` or None already. The class's
    docstring gets those arguments from `SHARED` that its "Args" leave out.

    Raises:
        TypeError: for an argument that is documented nowhere.
    """
    init = family.__init__
    signature = inspect.signature(init)

    @functools.wraps(init)
    def __init__(self, *args, **kwargs):
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}: {error}") from None
        bound.apply_defaults()
        _, *given = bound.arguments.items()
        arguments = recorded(dict(given))
        policy = arguments["dtype"] or keras.config.dtype_policy()
        arguments["dtype"] = keras.dtype_policies.get(policy)
        arguments["preprocessor"] = as_preprocessor(arguments["preprocessor"])
        # Past Keras, which takes attributes only when the graph is there.
        object.__setattr__(self, "_arguments", arguments)
        object.__setattr__(self, "_made", {})  # layers by name
        init(self, **arguments)

    __init__.__signature__ = signature  # for Keras, which does not follow wrappers everywhere
    family.__init__ = __init__
    family.__doc__ = _documented(family, list(signature.parameters)[1:])
    return family


def _documented(family, names):
    """The docstring of a class, with every argument in the order of the constructor."""
    if family.__doc__ is None:
        return None  # python -OO
    doc = inspect.cleandoc(family.__doc__)
    before, args, after = re.split(r"(?<=\nArgs:\n)|\n(?=\nRaises:\n)", doc)
    own = {entry.split(":")[0].strip(): entry for entry in re.split(r"\n(?=    \w+: )", args)}
    shared = {name: f"    {name}: {text}" for name, text in SHARED.items()}
    unknown = set(names) - set(own) - set(shared) | set(own) - set(names)
    if unknown:
        raise TypeError(f"Args must document the constructor's arguments. Received: {unknown}")
    return before + "\n".join(own.get(name, shared.get(name)) for name in names) + "\n" + after
