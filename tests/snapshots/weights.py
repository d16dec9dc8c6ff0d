"""Paths, shapes and order of the weights of every family and variant, with two blocks per stage.

A line is a layer of the model with its weights in order. If a layer is like the one before it, the
line says so. Models with the same weights are listed together.
"""

import inspect
import re

import keras_vit
from keras_vit.layers import initializers
from keras_vit.models.base import ImageModel
from training.cnn import SmallCNN

# Other options that change the weights, beside those of the variants.
OPTIONS = {
    "VisionTransformer": (
        dict(mlp="swiglu", qk_norm=True, pre_norm=True, pooling="gap", fc_norm=True),
        dict(num_registers=4, patch_bias=False, qkv_bias=False, representation_size=768),
        dict(position_embedding="sincos", num_classes=None, include_preprocessing=True),
        dict(dropout_rate=0.1, attention_dropout_rate=0.1, drop_path_rate=0.1, remat=True),
    ),
    "SwinTransformer": (
        dict(version=2, qkv_bias=False, drop_path_rate=0.1),
        dict(patch_size=2, mlp_ratio=2.0, num_classes=None),
    ),
    "PyramidVisionTransformer": (dict(qkv_bias=False, drop_path_rate=0.1),),
    "PyramidVisionTransformerV2": (dict(qkv_bias=False, dropout_rate=0.1),),
    "HybridVisionTransformer": (dict(representation_size=768, drop_path_rate=0.1),),
    "CaiT": (dict(mlp="swiglu", qkv_bias=False, attention_dropout_rate=0.1),),
}


def lines():
    """The models, grouped by their weights, and below them one line per layer."""
    found = {}
    for name, of_layers in models():
        found.setdefault(tuple(of_layers), []).append(name)
    for of_layers, names in found.items():
        yield from (f"# {name}" for name in names)
        yield from of_layers
        yield ""


def models():
    """Yields (call that builds the model, lines of its layers)."""
    factories = {name: x for name, x in vars(keras_vit).items() if makes_models(x)}
    built = {}
    for name, factory in {**factories, "SmallCNN": SmallCNN}.items():
        for options in ({}, *OPTIONS.get(name, ())):
            arguments = {**defaults(factory), **least(factory), **options}
            key = repr((family(factory), arguments))  # many variants differ only in their depths
            if key not in built:
                with initializers.no_initialization():
                    built[key] = list(layers(factory(**least(factory), **options)))
            words = {**least(factory), **options}
            yield f"{name}({', '.join(f'{k}={v!r}' for k, v in words.items())})", built[key]


def makes_models(value):
    if not callable(value):
        return False
    made = family(value)
    return inspect.isclass(made) and issubclass(made, ImageModel)


def family(factory):
    """The class of the models that a class or a variant builds."""
    return factory if inspect.isclass(factory) else inspect.signature(factory).return_annotation


def defaults(factory):
    parameters = inspect.signature(factory).parameters
    return {name: x.default for name, x in parameters.items() if name != "name"}


def least(factory):
    """The arguments for two blocks, in every stage if there are stages."""
    found = {k: v for k, v in defaults(factory).items() if k.split("_")[-1] in ("depth", "depths")}
    return {k: 2 if isinstance(v, int) else (2,) * len(v) for k, v in found.items()}


def layers(model):
    """The lines of a model, one for each layer and nested layer with weights."""
    before = None
    for layer in model.layers:
        inner = {}
        for weight in layer.variables:
            path = re.sub(r"(seed_generator)_\d+", r"\1", weight.path)  # counted by the process
            path, _, name = path.removeprefix(f"{layer.name}/").rpartition("/")
            said = f"{name} {tuple(weight.shape)}"
            said += "" if weight.trainable else " not trained"
            inner.setdefault(path, []).append(said)
        if not inner:
            continue
        if len(inner) > 1 and before == (type(layer), inner):
            yield f"{layer.name}: as the layer before it"
        else:
            for path, said in inner.items():
                yield f"{layer.name}{'/' * bool(path)}{path}: {', '.join(said)}"
        before = (type(layer), inner)
