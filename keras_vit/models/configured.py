"""`configured`: records and documents the constructor arguments of a model family."""

import functools
import inspect
import re

import keras

from keras_vit.layers.configured import recorded
from keras_vit.models.normalization import as_preprocessor

# The documentation of arguments that mean the same in every family.
SHARED = {
    "image_size": """int or (H, W), in pixels, a multiple of `patch_size`; None to accept any such
        size at call time.""",
    "patch_size": "int or (p, q), patch size in pixels.",
    "width": "int, D, width of the tokens.",
    "depth": "int, number of transformer blocks.",
    "num_heads": "int, attention heads of each block; `width` must be a multiple of it.",
    "mlp_dim": "int, hidden width of the MLP in each block.",
    "position_grid": """int or (h, w), grid of the learned position embeddings; by default the
        grid of `image_size`, or of 224 pixels if `image_size` is None.""",
    "dropout_rate": """float in [0, 1), dropout after the position embedding, after the attention
        and in the MLP.""",
    "num_classes": "int, K, or None for features (B, width) instead of logits.",
    "num_channels": "int, C.",
    "mlp": """activation of the MLPs: "gelu" (exact), "gelu_tanh", "quick_gelu", "swiglu", or
        another that `keras_vit.layers.MLP` takes, such as `keras.activations.relu`.""",
    "norm_epsilon": "float, epsilon of every layer normalisation.",
    "attention_dropout_rate": "float in [0, 1), dropout on the attention scores.",
    "drop_path_rate": """float in [0, 1), stochastic depth rate of the last block; the rate grows
        linearly from 0 in the first block.""",
    "remat": """bool, whether training recomputes every block in the backward pass (gradient
        checkpointing). This saves memory and costs about a third more computation.""",
    "include_preprocessing": """bool. If True, the model takes pixels 0..255 and normalises them
        itself, with the mean and std of `preprocessor`, or to -1..1 without one. If False, it takes
        normalised images.""",
    "preprocessor": """`keras_vit.Preprocessor` that turns pictures of any size into this model's
        input. `predict_images` uses it, and it is saved with the model.""",
    "class_names": "list of str, the names of the K classes.",
    "frozen_layers": """list of paths of layers or weights that are not trained, such as "block00"
        or "block00/attention". `get_config` lists what `trainable` says when it is called, so a
        loaded model has the same layers frozen.""",
    "adapted_layers": """dict, the changes that `enable_lora` or `quantize` made after the model was
        built, as `get_config` returns them; used to load a saved model.""",
    "dtype": 'dtype policy of every layer, such as "mixed_bfloat16"; by default the global one.',
    "name": "str, name of the model.",
}


def configured(family):
    """Class decorator of an `ImageModel`: records and documents the constructor's arguments.

    Before the constructor runs, `self._arguments` is set to a dict of all arguments by name, in
    which `dtype` is a dtype policy and `preprocessor` a `Preprocessor` or None. Arguments that the
    class's docstring leaves out of "Args" are documented from `SHARED`.

    Raises:
        TypeError: if an argument is documented neither in the class nor in `SHARED`.
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
        # Keras's own __setattr__ raises before the graph is built.
        object.__setattr__(self, "_arguments", arguments)
        object.__setattr__(self, "_layers_by_name", {})
        init(self, **arguments)

    __init__.__signature__ = signature  # Keras does not follow `__wrapped__` everywhere
    family.__init__ = __init__
    family.__doc__ = _documented(family, list(signature.parameters)[1:])
    return family


def _documented(family, names):
    """The docstring of a class with all arguments, in the order of the constructor."""
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
