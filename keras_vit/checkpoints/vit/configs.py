"""What configurations of transformers and timm say of a Vision Transformer."""

import re

from keras_vit.checkpoints.checks import add_num_labels
from keras_vit.checkpoints.configs import (
    ACTIVATIONS,
    WITHOUT_EFFECT,
    Description,
    describe_timm,
    label_names,
    refuse,
)
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.processors import add_transformers
from keras_vit.checkpoints.untrusted import brief


def describe(config, processor=None, name=""):
    """Reads a configuration.

    Args:
        config: dict, the content of `config.json`.
        processor: dict, the content of `preprocessor_config.json`, or None.
        name: str, the hub id or folder, which may carry timm's tag.

    Returns:
        `Description`.

    Raises:
        CheckpointError: for a model that is none of those known here, or a field whose value cannot
            be honoured; it names the field.
    """
    if not isinstance(config, dict):
        raise CheckpointError(f"config.json must hold an object. Received: {type(config).__name__}")
    try:
        if "architecture" in config:  # timm's, and transformers' wrapper around it
            return _describe_timm(config, name)
        if "model_type" in config:
            return _describe_transformers(config, processor)
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise CheckpointError(
            f"config.json is not as its library writes it. Received: {type(error).__name__}: "
            f"{error}"
        ) from error
    raise CheckpointError(
        "config.json must have a `model_type` (transformers) or an `architecture` (timm). "
        f"Received: the fields {brief(sorted(config)[:8])}"
    )


# field: our argument
FIELDS = {
    "hidden_size": "width",
    "num_hidden_layers": "depth",
    "num_attention_heads": "num_heads",
    "intermediate_size": "mlp_dim",
    "image_size": "image_size",
    "patch_size": "patch_size",
    "num_channels": "num_channels",
    "qkv_bias": "qkv_bias",
    "layer_norm_eps": "norm_epsilon",
    "hidden_act": "mlp",
    "hidden_dropout_prob": "dropout_rate",
    "attention_probs_dropout_prob": "attention_dropout_rate",
    "attention_dropout": "attention_dropout_rate",
    "drop_path_rate": "drop_path_rate",
    "num_register_tokens": "num_registers",
}
# What a class assumes where its config.json is silent.
DEFAULTS = {
    "vit": {"layer_norm_eps": 1e-12, "hidden_act": "gelu", "num_attention_heads": 12},
    "deit": {"layer_norm_eps": 1e-12, "hidden_act": "gelu", "num_attention_heads": 12},
    "vit_mae": {"layer_norm_eps": 1e-12, "hidden_act": "gelu", "num_attention_heads": 12},
    "dinov2": {"layer_norm_eps": 1e-6, "hidden_act": "gelu", "num_attention_heads": 12},
    "dinov2_with_registers": {
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu",
        "num_attention_heads": 12,
    },
    "siglip_vision_model": {
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu_pytorch_tanh",
        "num_attention_heads": 12,
    },
    "clip_vision_model": {
        "layer_norm_eps": 1e-5,
        "hidden_act": "quick_gelu",
        "num_attention_heads": 12,
    },
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


def _describe_transformers(config, processor):
    kind = config["model_type"]
    architecture = (config.get("architectures") or [None])[0]
    tower = config
    if kind in TOWERS:
        tower = {"model_type": TOWERS[kind], **(config.get("vision_config") or {})}
        kind = TOWERS[kind]
    if kind not in DEFAULTS:
        raise CheckpointError(
            f"This model_type is not known here. Expected: {', '.join([*DEFAULTS, *TOWERS])} or "
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
    known = {*FIELDS, *WITHOUT_EFFECT, "pooler_act", "pruned_heads", "vision_use_head"}
    found = Description(unread=sorted(set(tower) - known))
    for name, argument in FIELDS.items():
        if tower.get(name) is not None:
            found.arguments[argument] = tower[name]
    found.arguments["mlp"] = ACTIVATIONS[tower["hidden_act"]]
    if tower.get("use_swiglu_ffn"):
        found.arguments["mlp"] = "swiglu"
    for name in ("image_size", "patch_size"):
        if isinstance(found.arguments.get(name), list):
            found.arguments[name] = tuple(found.arguments[name])
    if architecture in HEADS:
        found.arguments["pooling"] = HEADS[architecture]
    elif kind == "siglip_vision_model":
        found.arguments["pooling"] = "map"
    else:
        found.arguments["pooling"] = "token"
    if architecture in HEADS:
        found.class_names = label_names(config.get("id2label"))
        add_num_labels(found, config)
    add_transformers(found, processor, config["model_type"])
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
            "This timm architecture is no plain Vision Transformer. "
            f"Received: architecture={brief(architecture)}"
        )
    return describe_timm(config, name, kinds[0])
