"""Configuration fields of Swin Transformers in transformers and timm."""

import re

from keras_vit.checkpoints import keras_hub, torchvision
from keras_vit.checkpoints.configs import (
    ACTIVATIONS,
    DROP_PATH,
    HIDDEN_ACT,
    WITHOUT_EFFECT,
    Description,
    add_labels,
    refuse,
    refuse_unknown,
    timm_arguments,
    timm_description,
    timm_parts,
)
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.fields import Field, keys_of, one_or_two, read_fields
from keras_vit.checkpoints.pictures.read import add_transformers
from keras_vit.checkpoints.untrusted import brief

_BOTH = (
    Field("embed_dim", "width"),
    Field("depths", "depths"),
    Field("num_heads", "num_heads"),
    Field("mlp_ratio", "mlp_ratio"),
    Field("patch_size", "patch_size", write=one_or_two),
    Field("qkv_bias", "qkv_bias"),
)
HF = (
    *_BOTH,
    Field("window_size", "window_size"),
    Field("pretrained_window_sizes", "pretrained_window_size", kinds=("swinv2",)),
    Field("image_size", "image_size", write=one_or_two),
    Field("num_channels", "num_channels"),
    Field("layer_norm_eps", "norm_epsilon"),
    HIDDEN_ACT,
    Field("hidden_dropout_prob", "dropout_rate"),
    Field("attention_probs_dropout_prob", "attention_dropout_rate"),
    DROP_PATH,
)


def _write_windows(windows):
    """timm's windows of each stage: pairs, for it takes two numbers as height and width."""
    return windows if isinstance(windows, int) else [[side, side] for side in windows]


def _read_windows(windows):
    """The way back; a window that is not square stays as it is, and no model here has it."""
    if not isinstance(windows, tuple):
        return windows
    return tuple(x[0] if isinstance(x, list) and x == x[:1] * 2 else x for x in windows)


TIMM = (  # of model_args
    *_BOTH,
    Field("window_size", "window_size", read=_read_windows, write=_write_windows),
    Field("pretrained_window_sizes", "pretrained_window_size", kinds=(2,)),  # of version 2
    Field("img_size", "image_size"),
    Field("in_chans", "num_channels"),
)
# of model_args: what acts in training alone, the tensors show, or limits the sizes that timm takes
_TIMM_WITHOUT_EFFECT = """
    always_partition attn_drop_rate drop_path_rate drop_rate dynamic_img_size num_classes
    proj_drop_rate strict_img_size weight_init
"""


def describe(config, processor=None, name=""):
    """Reads a configuration, as `vit.fields.describe` does for Vision Transformers."""
    if not isinstance(config, dict):
        raise CheckpointError(f"config.json must hold an object. Received: {type(config).__name__}")
    try:
        if "architecture" in config:  # timm's, and transformers' wrapper around it
            return _describe_timm(config, name)
        if torchvision.KEY in config:
            return torchvision.describe(config)
        if keras_hub.is_preset(config):
            return _describe_keras_hub(config, processor)
        return _describe_transformers(config, processor)
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise CheckpointError(
            f"config.json is not as its library writes it. Received: {type(error).__name__}: "
            f"{error}"
        ) from error


def _describe_transformers(config, processor):
    refuse(config, "model_type", ("swin", "swinv2"))
    config = {"hidden_act": "gelu", "layer_norm_eps": 1e-5, "window_size": 7, **config}
    refuse(config, "hidden_act", ACTIVATIONS)
    refuse(config, "use_absolute_embeddings", (False, None))
    refuse(config, "layer_norm_eps", (1e-5,))  # as the other norms have it in any case
    known = keys_of(HF) | WITHOUT_EFFECT | {"use_absolute_embeddings"}
    known |= {"hidden_size", "num_layers", "path_norm"}  # what embed_dim and depths make
    found = Description(_as_ours(read_fields(HF, config)), unread=sorted(set(config) - known))
    architecture = (config.get("architectures") or [""])[0]
    add_labels(found, config, architecture.endswith("ForImageClassification"))
    add_transformers(found, processor, config["model_type"])
    return found


def _describe_timm(config, name):
    architecture = config["architecture"]
    named = re.fullmatch(
        r"swin(?:v2)?_(?:s3_)?(?:tiny|small|base|large)(?:_patch4)?"
        r"(?:_window(?:(?P<old>\d+)to)?(?P<window>\d+))?_(?:\d+to)?\d+",
        architecture,
    )
    if named is None or "swinv2_cr" in architecture:
        raise CheckpointError(
            "This timm architecture is not a Swin Transformer of version 1 or 2. "
            f"Received: architecture={brief(architecture)}"
        )
    model_args, pretrained = timm_parts(config)
    arguments = {}
    if named["window"]:
        arguments["window_size"] = int(named["window"])
    if named["old"]:  # pre-trained at 192 pixels, whose last map is half a window
        old = int(named["old"])
        arguments["pretrained_window_size"] = (old, old, old, old // 2)
    pool = model_args.pop("global_pool", config.get("global_pool"))
    refuse({"global_pool": pool}, "global_pool", ("avg", None))
    refuse(model_args, "always_partition", (False, None))
    act = model_args.pop("act_layer", None) or "gelu"
    refuse({"act_layer": act}, "act_layer", (*ACTIVATIONS, "gelu_tanh"))
    arguments["mlp"] = {**ACTIVATIONS, "gelu_tanh": "gelu_tanh"}[act]
    refuse_unknown(model_args, {*keys_of(TIMM), *_TIMM_WITHOUT_EFFECT.split()})
    arguments |= timm_arguments(TIMM, model_args, config, pretrained)
    return timm_description(_as_ours(arguments), config, pretrained, name)


KERAS_HUB = (
    *keras_hub.FIELDS,
    keras_hub.only_read("embed_dim", "width"),
    keras_hub.only_read("depths", "depths"),
    keras_hub.only_read("mlp_ratio", "mlp_ratio"),
    keras_hub.only_read("qkv_bias", "qkv_bias"),
    keras_hub.only_read("window_size", "window_size"),
    keras_hub.only_read("drop_path", "drop_path_rate"),
)


def _describe_keras_hub(config, converter):
    backbones = {"SwinTransformerBackbone": KERAS_HUB}
    found, task = keras_hub.describe(config, converter, backbones, also_known=("patch_norm",))
    refuse(config["config"], "patch_norm", (True, None))
    refuse(task, "pooling", ("gap", None))
    _refuse_padding(found.arguments)
    found.arguments = _as_ours(found.arguments)
    return found


def _refuse_padding(arguments):
    """Raises where windows do not divide a map, which keras-hub pads in a way of its own."""
    (h, w), window = arguments["image_size"], arguments["window_size"]
    h, w = h // arguments["patch_size"], w // arguments["patch_size"]
    for _ in arguments["depths"]:
        if h % window or w % window:
            raise CheckpointError(
                "Windows must divide the map of every stage: keras-hub pads others in a way that "
                f"no model here does. Received: a map of {h} x {w}, window_size={window}"
            )
        h, w = h // 2, w // 2


def _as_ours(found):
    """Patches as pairs, and no pre-training windows where all are 0."""
    patch = found.get("patch_size")
    if isinstance(patch, int):
        found["patch_size"] = (patch, patch)
    old = found.pop("pretrained_window_size", None)
    if old is not None and any(old):  # transformers' default has four, whatever the stages
        found["pretrained_window_size"] = old[: len(found.get("depths", old))]
    return found
