"""Other ways to `from_pretrained`: the `weights=` of a variant, and the name that KerasHub uses."""

import inspect
import os

import keras

from keras_vit.checkpoints.catalog import catalog
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.load import from_pretrained
from keras_vit.layers.validation import as_pair
from keras_vit.models.registry import FAMILIES, loads_weights, variants

from_preset = from_pretrained

# What makes a variant of a family, besides the arguments that it sets itself.
SIZES = ("version", "width", "widths", "depth", "depths", "num_heads", "mlp_dim")
SIZES += ("distillation_token",)
# What it sets and a checkpoint may have otherwise: sizes that weights are resampled to, and where a
# factor started that has learned since.
FREE = ("image_size", "window_size", "layer_scale")


@loads_weights
def variant_with_weights(variant, weights, arguments):
    """A variant with published weights.

    Args:
        variant: str, its name.
        weights: "imagenet", or a source as `from_pretrained` takes it.
        arguments: dict, those of the caller.

    Raises:
        ValueError: for weights that are no source, or of another variant.
    """
    if not isinstance(weights, (str, os.PathLike)):
        raise ValueError(
            'weights must be None, "imagenet", or a source as keras_vit.from_pretrained takes it. '
            f"Received: weights={weights!r}"
        )
    source = variant if weights == "imagenet" else weights
    entry = catalog().get(str(source).removeprefix("hf://").removeprefix("timm/"))
    if entry is not None and not os.path.exists(source):  # before anything is downloaded
        model, config = _described(entry)
        _check_variant(variant, source, model, config | arguments, arguments)
    model = from_pretrained(source, **arguments)
    _check_variant(variant, source, type(model), model.get_config(), arguments)
    return model


def _described(entry):
    """(class, arguments) of the model that an `Entry` of the catalogue says."""
    family = variants().get(entry.variant)
    if family is None:  # the class itself
        model = next(x.model for x in FAMILIES.values() if x.model.__name__ == entry.variant)
        return model, _defaults(model) | entry.arguments
    return family.model, _defaults(family.variants[entry.variant]) | entry.arguments


def _defaults(factory):
    return {name: x.default for name, x in inspect.signature(factory).parameters.items()}


def _check_variant(variant, source, model, config, given):
    """Raises unless a model of this class and configuration is one of the variant."""
    family = variants()[variant]
    if not issubclass(model, family.model):
        raise CheckpointError(
            f"weights of {variant} must be those of a {family.model.__name__}. "
            f"Received: weights={str(source)!r}, which is a {model.__name__}"
        )
    own = _defaults(family.variants[variant])
    keys = [k for k in own if k in SIZES or k in family.rows[variant] and k not in FREE]
    other = {k: config[k] for k in keys if k not in given and not _equal(k, config[k], own[k])}
    if other:
        ours = ", ".join(f"{key}={own[key]!r}" for key in other)
        theirs = ", ".join(f"{key}={value!r}" for key, value in other.items())
        raise CheckpointError(
            f"weights of {variant} must have {ours}, unless you give it as an argument; "
            "keras_vit.from_pretrained loads those of any size. "
            f"Received: weights={str(source)!r}, which has {theirs}"
        )


def _equal(name, a, b):
    if name == "patch_size":
        return as_pair(a, name) == as_pair(b, name)
    return keras.tree.flatten(a) == keras.tree.flatten(b)
