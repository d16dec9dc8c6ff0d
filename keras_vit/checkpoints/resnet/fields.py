"""Configuration fields of ResNet, in timm and transformers."""

import re

from keras_vit.checkpoints import torchvision
from keras_vit.checkpoints.configs import (
    DROP_PATH,
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
from keras_vit.checkpoints.fields import Field, keys_of, read_fields, seen_in_tensors
from keras_vit.checkpoints.pictures.read import add_transformers
from keras_vit.checkpoints.untrusted import brief

HF = (
    Field("depths", "depths"),
    Field("hidden_sizes", "widths"),
    Field("embedding_size", "stem_width"),
    Field("layer_type", "block"),
    Field("num_channels", "num_channels"),
)
# What ResNetConfig assumes where config.json is silent; tensors show the rest.
DEFAULTS = {
    "hidden_act": "relu",
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
}
TIMM = (  # of model_args
    Field("layers", "depths"),
    seen_in_tensors("channels", "channels"),
    Field("in_chans", "num_channels"),
    Field("output_stride", "dilation", {32: False, 16: True}.get, {False: 32, True: 16}.get),
    Field("drop_rate", "dropout_rate"),
    DROP_PATH,
)
_TIMM_WITHOUT_EFFECT = ("num_classes", "zero_init_last")


def describe(config, processor=None, name=""):
    """Reads the configuration of a ResNet: of transformers, timm or a file of torchvision's."""
    if not isinstance(config, dict):
        raise CheckpointError(f"config.json must hold an object. Received: {type(config).__name__}")
    if "architecture" in config:
        return _describe_timm(config, name)
    if torchvision.KEY in config:
        return torchvision.describe(config)
    return _describe_transformers(config, processor)


def _describe_transformers(config, processor):
    if config.get("model_type") != "resnet":
        raise CheckpointError(
            "The tensors are those of transformers' 'resnet', so config.json must be its own. "
            f"Received: model_type={brief(config.get('model_type'))}"
        )
    config = {**DEFAULTS, **config}
    for key, value in DEFAULTS.items():  # others are no "v1.5", or have another activation
        refuse(config, key, (value,))
    known = {*keys_of(HF), *WITHOUT_EFFECT, *DEFAULTS}
    found = Description(read_fields(HF, config), unread=sorted(set(config) - known))
    head = (config.get("architectures") or [None])[0] == "ResNetForImageClassification"
    add_labels(found, config, head)
    add_transformers(found, processor, "resnet")
    return found


def _describe_timm(config, name):
    architecture = config["architecture"]
    if not re.fullmatch(r"(tv_)?resnet\d+", str(architecture)):
        raise CheckpointError(
            "The tensors are those of a ResNet, so config.json must be of one of timm's resnet* "
            f"with a plain stem. Received: architecture={brief(architecture)}"
        )
    model_args, pretrained = timm_parts(config)
    pool = model_args.pop("global_pool", config.get("global_pool") or "avg")
    refuse({"global_pool": pool}, "global_pool", ("avg",))
    if "output_stride" in model_args:
        refuse(model_args, "output_stride", (32, 16))
    refuse_unknown(model_args, {*keys_of(TIMM), *_TIMM_WITHOUT_EFFECT})
    arguments = timm_arguments(TIMM, model_args, config, pretrained)
    return timm_description(arguments, config, pretrained, name)
