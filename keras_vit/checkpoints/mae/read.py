"""Infers an MAE from tensors, configuration and the caller's arguments."""

import inspect
import re

from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.fields import Field, keys_of, read_fields
from keras_vit.checkpoints.tables import as_tuple
from keras_vit.checkpoints.vit import read as vit
from keras_vit.models.vit import VisionTransformer
from keras_vit.tasks.mae.model import MAE

SAID_TWICE = ()
ARITHMETIC = frozenset({"num_heads", "decoder_heads"})
DESCRIBED = frozenset({"mlp", "norm_epsilon", "normalize_pixels"})
ASKED = ("num_heads", "decoder_heads")
GUESSED = ("num_heads", "decoder_heads", "normalize_pixels")
FIRST_CONVOLUTION = vit.FIRST_CONVOLUTION
RESAMPLED, ONLY_WITH, REFUSED = {}, {}, {}
EFFECTS = {}
OWN = re.compile(r"decoder_|mask_token/")  # paths of what an encoder has not

# transformers' fields of the decoder; other libraries' files have no configuration for it.
FIELDS = (
    Field("decoder_hidden_size", "decoder_width"),
    Field("decoder_num_hidden_layers", "decoder_depth"),
    Field("decoder_num_attention_heads", "decoder_heads"),
    Field("decoder_intermediate_size", "decoder_mlp_dim"),
    Field("mask_ratio", "mask_ratio"),
    Field("norm_pix_loss", "normalize_pixels"),
)
# What transformers' class assumes where its config.json is silent.
DEFAULTS = {"decoder_heads": 16, "mask_ratio": 0.75, "normalize_pixels": False}
FROM_TENSORS = ("decoder_width", "decoder_depth", "decoder_mlp_dim")

_OF_VIT = inspect.signature(VisionTransformer).parameters
_OF_MAE = {k: p for k, p in inspect.signature(MAE).parameters.items() if k != "encoder"}
# Arguments of the encoder as a classifier: whoever gives them wants the encoder alone.
OF_CLASSIFIERS = frozenset(
    ["num_classes", "class_names", "pooling", "fc_norm", "representation_size", "distillation_head"]
)
CLASSIFIER = {"pooling": "gap", "fc_norm": True}  # how the encoder is fine-tuned
_OF_ENCODER = {k: p for k, p in _OF_VIT.items() if k not in _OF_MAE and k not in OF_CLASSIFIERS}
_DETERMINED = ("image_size", "include_preprocessing")  # by the encoder
_OWN = [name for name in _OF_MAE if name not in _OF_VIT]


def build(**arguments):
    """An `MAE` from its own arguments and those of its `VisionTransformer`, side by side."""
    names = (*_OF_ENCODER, *_DETERMINED, "dtype")
    encoder = {name: arguments[name] for name in names if name in arguments}
    if encoder.get("include_preprocessing"):
        encoder["preprocessor"] = arguments.get("preprocessor")
    own = {k: v for k, v in arguments.items() if k in _OF_MAE and k not in _DETERMINED}
    return MAE(VisionTransformer(num_classes=None, **encoder), **own)


build.__name__ = "MAE"
build.__signature__ = inspect.Signature(
    parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    for parameter in {**_OF_ENCODER, **_OF_MAE, **{k: _OF_VIT[k] for k in _DETERMINED}}.values()
)


def arguments_of(model):
    """The arguments of `build` for a standing model."""
    config = model.get_config()
    encoder = config.pop("encoder")["config"]
    return {k: v for k, v in encoder.items() if k in _OF_ENCODER} | config


def infer(matched, tensors):
    """What the tensors say of the model: arguments of `build`.

    Args, Returns, Raises: as `vit.read.infer`.
    """
    encoder, shapes, depth = {}, {}, 0
    for (row, number), sources in matched.found.items():
        target = as_tuple(row.targets)[0]
        if OWN.match(target):
            shapes[target] = tensors[next(iter(sources.values()))].shape
            depth = max(depth, int(number) + 1) if number is not None else depth
        else:
            encoder[row, number] = sources
    found = vit.infer(matched._replace(found=encoder), tensors)
    found = {k: v for k, v in found.items() if k not in OF_CLASSIFIERS}
    kernel = shapes.get("decoder_embedding/kernel", ())
    if len(kernel) != 2 or kernel[1] != found["width"]:
        raise CheckpointError(
            "The decoder of an MAE must begin with a linear layer on the tokens of its encoder, "
            f"which are {found['width']} wide. Received: a kernel of shape {kernel}"
        )
    hidden = shapes["decoder_block{i}/mlp/fc2/kernel"]
    return found | {
        "decoder_width": kernel[0],
        "decoder_depth": depth,
        "decoder_mlp_dim": hidden[-1],
    }


def describe(config, processor=None, name=""):
    """Reads a configuration of transformers' ViTMAEForPreTraining.

    Args, Returns, Raises: as `vit.fields.describe`.
    """
    found = vit.describe(config, processor, name)
    found.arguments.pop("pooling", None)
    if config.get("model_type") == "vit_mae":
        found.arguments |= DEFAULTS | read_fields(FIELDS, config)
        found.unread = [key for key in found.unread if key not in keys_of(FIELDS)]
    return found


def complete(inferred, description, overrides, name):
    """Arguments of `build` from what tensors, configuration and caller say.

    Args, Returns, Raises: as `vit.read.complete`.
    """
    said = dict(description.arguments) if description else {}
    for key in FROM_TENSORS:
        if said.get(key, inferred[key]) != inferred[key]:
            raise CheckpointError(
                f"The configuration and the tensors of {name} contradict each other. Expected: "
                f"{key}={inferred[key]!r}, as the tensors have it. Received: {key}={said[key]!r}"
            )
    own = {k: v for k, v in (said | inferred).items() if k in _OWN}
    own.setdefault("decoder_heads", overrides.get("decoder_heads") or 16)
    own.setdefault("normalize_pixels", True)
    if description:
        description.arguments = {k: v for k, v in said.items() if k not in own}
    encoder = {k: v for k, v in inferred.items() if k not in own}
    found = vit.complete({**encoder, "num_classes": None}, description, overrides, name)
    found = {k: v for k, v in found.items() if k in _OF_ENCODER or k in _OF_MAE}
    return found | own | {"frozen_layers": ("position_embedding",)}  # as both sources have them


def facts(arguments):
    """`layouts.Facts` of a source, or of a model, that these arguments describe."""
    return vit.facts(arguments)
