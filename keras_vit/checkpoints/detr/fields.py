"""Configuration fields of DETR in transformers."""

import re

from keras_vit.checkpoints.configs import WITHOUT_EFFECT, Description, label_names, refuse
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.fields import Field, keys_of, read_fields
from keras_vit.checkpoints.pictures.read import RESAMPLING
from keras_vit.checkpoints.resnet.fields import DEFAULTS as OF_RESNET
from keras_vit.checkpoints.untrusted import brief
from keras_vit.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessor
from keras_vit.tasks.detr.backbone import SIZES

HF = (
    Field("d_model", "width"),
    Field("num_queries", "num_queries"),
    Field("num_channels", "num_channels"),
    Field("encoder_layers", "encoder_depth"),
    Field("decoder_layers", "decoder_depth"),
    Field("activation_function", "mlp"),
    Field("position_embedding_type", "position_embedding"),
    Field("dilation", "dilation"),
    Field("dropout", "dropout_rate"),
    Field("attention_dropout", "attention_dropout_rate"),
)
# A pair here, of encoder and decoder.
PAIRS = {
    "num_heads": ("encoder_attention_heads", "decoder_attention_heads"),
    "mlp_dim": ("encoder_ffn_dim", "decoder_ffn_dim"),
}
# What DetrConfig assumes where config.json is silent, and no tensor tells.
DEFAULTS = {
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "activation_function": "relu",
    "position_embedding_type": "sine",
    "dilation": False,
    "dropout": 0.1,
    "attention_dropout": 0.0,
}
ACTIVATIONS = ("relu", "gelu")
CLASSES = ("DetrForObjectDetection", "DetrForSegmentation", None)
# What acts in training alone, on masks, or on what is loaded before the weights. `auxiliary_loss`
# changes transformers' own outputs, by a normalisation too many, which is not followed here.
_WITHOUT_EFFECT = """
    activation_dropout auxiliary_loss bbox_cost bbox_loss_coefficient class_cost classifier_dropout
    decoder_layerdrop dice_loss_coefficient encoder_layerdrop eos_coefficient giou_cost
    giou_loss_coefficient init_std init_xavier_std mask_loss_coefficient max_position_embeddings
    num_hidden_layers scale_embedding use_pretrained_backbone use_timm_backbone
"""
_OF_BACKBONES = ("backbone", "backbone_config", "backbone_kwargs")


def describe(config, processor=None, name=""):
    """Reads transformers' `DetrConfig`."""
    if not isinstance(config, dict) or config.get("model_type") != "detr":
        received = config.get("model_type") if isinstance(config, dict) else type(config).__name__
        raise CheckpointError(
            "The tensors are those of transformers' 'detr', so config.json must be its own. "
            f"Received: model_type={brief(received)}"
        )
    config = {**DEFAULTS, **config}
    refuse({"architectures": (config.get("architectures") or [None])[0]}, "architectures", CLASSES)
    refuse(config, "activation_function", ACTIVATIONS)
    refuse(config, "position_embedding_type", ("sine", "learned"))
    known = {*keys_of(HF), *WITHOUT_EFFECT, *_WITHOUT_EFFECT.split(), *_OF_BACKBONES}
    known |= {key for pair in PAIRS.values() for key in pair}
    found = Description(read_fields(HF, config), unread=sorted(set(config) - known))
    for argument, pair in PAIRS.items():
        values = tuple(config.get(key) for key in pair)
        if None not in values:
            found.arguments[argument] = values
    _backbone(found, config)
    found.class_names = label_names(config.get("id2label"))
    if found.class_names is None and config.get("id2label"):
        found.arguments["num_classes"] = len(config["id2label"])
    found.preprocessor = _preprocessor(processor or {})
    return found


def _backbone(found, config):
    """Adds what the backbone's configuration says, or refuses it."""
    backbone = config.get("backbone_config") or {}
    if not isinstance(backbone, dict):
        raise CheckpointError(
            f"backbone_config must be an object. Received: {type(backbone).__name__}"
        )
    kind = backbone.get("model_type", "timm_backbone")
    refuse({"model_type of the backbone": kind}, "model_type of the backbone", _KINDS)
    if kind == "timm_backbone":
        backbone = {**(config.get("backbone_kwargs") or {}), **backbone}
        name = backbone.get("backbone") or config.get("backbone") or "resnet50"
        if not re.fullmatch(r"(tv_)?resnet\d+", str(name)):
            raise CheckpointError(
                "The backbone must be a ResNet with a plain stem, such as 'resnet50'. "
                f"Received: backbone={brief(name)}"
            )
        refuse(backbone, "output_stride", (None, 32, 16))
        found.arguments["dilation"] |= backbone.get("output_stride") == 16
    else:
        for key, value in OF_RESNET.items():
            refuse({key: backbone.get(key, value)}, key, (value,))
        found.arguments["block"] = backbone.get("layer_type", "bottleneck")


_KINDS = ("timm_backbone", "resnet")


def _preprocessor(processor):
    """`Preprocessor` of a `preprocessor_config.json`, which old files write in another way."""
    size = processor.get("size") or {}
    if isinstance(size, dict):
        sides = (size.get("shortest_edge", SIZES[0]), size.get("longest_edge", SIZES[1]))
    else:
        sides = (size, processor.get("max_size") or SIZES[1])
    number = processor.get("resample", 2)
    refuse({"resample": number}, "resample", tuple(RESAMPLING))
    return Preprocessor(
        sides,
        "fit",
        1.0,
        RESAMPLING[number],
        mean=processor.get("image_mean") or IMAGENET_MEAN,
        std=processor.get("image_std") or IMAGENET_STD,
    )
