"""Configuration fields of Vision Transformers in transformers and timm."""

import re

from keras_vit.checkpoints import keras_hub, torchvision
from keras_vit.checkpoints.configs import (
    ACTIVATIONS,
    DROP_PATH,
    HIDDEN_ACT,
    TIMM_ENCODER,
    WITHOUT_EFFECT,
    Description,
    add_labels,
    describe_timm,
    refuse,
)
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.fields import (
    Field,
    keys_of,
    one_or_two,
    read_fields,
    seen_in_tensors,
)
from keras_vit.checkpoints.pictures.read import add_transformers
from keras_vit.checkpoints.untrusted import brief

_DINOV2 = ("dinov2", "dinov2_with_registers")
_CLIP = ("siglip_vision_model", "clip_vision_model")
_OTHERS = ("vit", "deit", "vit_mae", *_DINOV2)
HF = (
    Field("hidden_size", "width"),
    Field("num_hidden_layers", "depth"),
    Field("num_attention_heads", "num_heads"),
    Field("intermediate_size", "mlp_dim"),
    Field("image_size", "image_size", write=one_or_two),
    Field("patch_size", "patch_size", write=one_or_two),
    Field("num_channels", "num_channels"),
    Field("qkv_bias", "qkv_bias"),
    Field("layer_norm_eps", "norm_epsilon"),
    HIDDEN_ACT,
    Field("hidden_dropout_prob", "dropout_rate", kinds=_OTHERS),
    Field("attention_probs_dropout_prob", "attention_dropout_rate", kinds=_OTHERS),
    Field("attention_dropout", "attention_dropout_rate", kinds=_CLIP),
    DROP_PATH._replace(kinds=_DINOV2),
    Field("num_register_tokens", "num_registers", kinds=_DINOV2),
)
TIMM = (
    *TIMM_ENCODER,
    Field("qkv_bias", "qkv_bias"),
    Field("reg_tokens", "num_registers"),
    seen_in_tensors("mlp_ratio", "mlp_ratio"),
    seen_in_tensors("qk_norm", "qk_norm"),
    seen_in_tensors("init_values", "layer_scale"),
    seen_in_tensors("class_token", "class_token"),
    seen_in_tensors("pre_norm", "pre_norm"),
    seen_in_tensors("fc_norm", "fc_norm"),
)


def _assumed(epsilon, activation="gelu"):
    return {"layer_norm_eps": epsilon, "hidden_act": activation, "num_attention_heads": 12}


# What a class assumes where its config.json is silent.
DEFAULTS = {
    "vit": _assumed(1e-12),
    "deit": _assumed(1e-12),
    "vit_mae": _assumed(1e-12),
    "dinov2": _assumed(1e-6),
    "dinov2_with_registers": _assumed(1e-6),
    "siglip_vision_model": _assumed(1e-6, "gelu_pytorch_tanh"),
    "clip_vision_model": _assumed(1e-5, "quick_gelu"),
}
# Whole models of two towers: where the image tower's configuration is, and its own type.
TOWERS = {"siglip": "siglip_vision_model", "clip": "clip_vision_model"}
# class: what its head reads; classes not named here give features
HEADS = {
    "ViTForImageClassification": "token",
    "DeiTForImageClassification": "token",
    "DeiTForImageClassificationWithTeacher": "token",
    "Dinov2ForImageClassification": "token_gap",
    "Dinov2WithRegistersForImageClassification": "token_gap",
    "SiglipForImageClassification": "gap",
}


def describe(config, processor=None, name=""):
    """Reads a configuration.

    Args:
        config: dict, the content of `config.json`.
        processor: dict, the content of `preprocessor_config.json`, or None.
        name: str, the hub id or folder, which may carry timm's tag.

    Returns:
        `Description`.

    Raises:
        CheckpointError: for a model that is not supported, or a field whose value cannot
            be honoured; it names the field.
    """
    if not isinstance(config, dict):
        raise CheckpointError(f"config.json must hold an object. Received: {type(config).__name__}")
    try:
        if "architecture" in config:  # timm's, and transformers' wrapper around it
            return _describe_timm(config, name)
        if "model_type" in config:
            return _describe_transformers(config, processor)
        if torchvision.KEY in config:
            return torchvision.describe(config)
        if keras_hub.is_preset(config):
            return _describe_keras_hub(config, processor)
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise CheckpointError(
            f"config.json is not as its library writes it. Received: {type(error).__name__}: "
            f"{error}"
        ) from error
    raise CheckpointError(
        "config.json must have a `model_type` (transformers) or an `architecture` (timm). "
        f"Received: the fields {brief(sorted(config)[:8])}"
    )


def _describe_transformers(config, processor):
    kind = config["model_type"]
    architecture = (config.get("architectures") or [None])[0]
    tower = config
    if kind in TOWERS:
        tower = {"model_type": TOWERS[kind], **(config.get("vision_config") or {})}
        kind = TOWERS[kind]
    if kind not in DEFAULTS:
        raise CheckpointError(
            f"This model_type is not supported. Expected: {', '.join([*DEFAULTS, *TOWERS])} or "
            f"timm_wrapper. Received: model_type={brief(kind)}"
        )
    tower = {**DEFAULTS[kind], **tower}
    refuse(tower, "hidden_act", ACTIVATIONS)
    refuse(tower, "pooler_act", ("tanh", None))
    refuse(tower, "vision_use_head", (True, None))
    refuse(tower, "apply_layernorm", (True, None))
    refuse(tower, "pruned_heads", ({}, None))
    if architecture == "CLIPForImageClassification":
        raise CheckpointError(
            "The head of CLIPForImageClassification reads tokens that were not normalised; no "
            "model here does. Load the CLIP model that it was made of and train a head."
        )
    known = keys_of(HF) | WITHOUT_EFFECT | {"pooler_act", "pruned_heads", "vision_use_head"}
    found = Description(read_fields(HF, tower), unread=sorted(set(tower) - known))
    if tower.get("use_swiglu_ffn"):
        found.arguments["mlp"] = "swiglu"
    pooling = "map" if kind == "siglip_vision_model" else "token"
    found.arguments["pooling"] = HEADS.get(architecture, pooling)
    add_labels(found, config, architecture in HEADS)
    add_transformers(found, processor, config["model_type"])
    return found


_KERAS_HUB = (
    *keras_hub.FIELDS,
    keras_hub.only_read("num_layers", "depth"),
    keras_hub.only_read("hidden_dim", "width"),
    keras_hub.only_read("layer_norm_epsilon", "norm_epsilon"),
    keras_hub.only_read("use_mha_bias", "qkv_bias"),
)
KERAS_HUB = {
    "ViTBackbone": (*_KERAS_HUB, keras_hub.only_read("mlp_dim", "mlp_dim")),
    "DeiTBackbone": (*_KERAS_HUB, keras_hub.only_read("intermediate_dim", "mlp_dim")),
}


def _describe_keras_hub(config, converter):
    seen = ("use_class_token", "use_patch_bias", "use_mlp_bias")  # what the tensors show too
    found, task = keras_hub.describe(config, converter, KERAS_HUB, also_known=seen)
    own = config["config"]
    for bias in ("use_mha_bias", "use_mlp_bias"):
        refuse(own, bias, (True, None))  # of all projections; here some of them always have one
    with_token = own.get("use_class_token", True)
    pooling = "token" if with_token else "gap"
    if task:  # "gap" there is the mean of all tokens, the class token among them
        refuse(task, "pooling", (pooling,))
    found.arguments["pooling"] = pooling
    return found


# What an architecture is beyond its tensors; the first pattern that matches the name decides.
TIMM_KINDS = (
    (r".*(relpos|rpn|18x2|rope|naflex|_r\d+_|_r_|resnet|_mci_|_xp_|dinov3).*", None),
    (r"vit_(pwee|dwee|dlittle|dpwee|intern300m|pe|7b|5b).*|.*(lingbot|sapiens|radio).*", None),
    (r"vit_giantopt_patch16_siglip_\w+", {"mlp": "gelu_tanh", "num_heads": 16}),
    (r"vit_base_patch16_gap_224", {"num_heads": 16}),
    (r"vit_\w+_clip_quickgelu_\d+", {"norm_epsilon": 1e-5, "mlp": "quick_gelu"}),
    (r"vit_\w+_clip_\d+", {"norm_epsilon": 1e-5}),
    (r"vit_(base_patch32|so400m_patch16)_siglip_\w+", {"mlp": "gelu_tanh"}),
    (r"vit_large_patch16_siglip_(gap_)?512", {"mlp": "gelu_tanh"}),
    (r"(vit|flexivit|deit|deit3)_[a-z0-9_]+", {}),
)
# timm's heads are 64 wide, but for these widths.
TIMM_HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}


def _describe_timm(config, name):
    architecture = config["architecture"]
    kinds = [kind for pattern, kind in TIMM_KINDS if re.fullmatch(pattern, architecture)]
    if not kinds or kinds[0] is None:
        raise CheckpointError(
            "This timm architecture is not a plain Vision Transformer. "
            f"Received: architecture={brief(architecture)}"
        )
    return describe_timm(config, name, kinds[0], TIMM)
