"""What a source's own configuration says: transformers' `config.json`, timm's `config.json`.

Tensors say most of what a model is; a configuration adds what shapes cannot say, and is held
against them. What cannot be honoured is refused by name.
"""

import re
from dataclasses import dataclass, field

from keras_vit.checkpoints.catalog import imagenet_names
from keras_vit.checkpoints.checks import add_num_labels, refuse_unknown, said_by_timm
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.processors import add_timm, add_transformers
from keras_vit.checkpoints.untrusted import brief
from keras_vit.preprocessing import Preprocessor


@dataclass
class Description:
    """What a configuration says.

    Attributes:
        arguments: dict of `VisionTransformer` arguments.
        preprocessor: `Preprocessor` or None.
        refused: `CheckpointError` that says why there is no preprocessor, or None.
        class_names: list of str or None.
        architecture: str, timm's name, or None.
        unread: list of fields that are neither used nor known to be without effect here.
    """

    arguments: dict = field(default_factory=dict)
    preprocessor: Preprocessor | None = None
    refused: CheckpointError | None = None
    class_names: list | None = None
    architecture: str | None = None
    unread: list = field(default_factory=list)


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


# transformers

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
}
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
# Fields that matter to training, to another tower, or that the tensors say too.
_WITHOUT_EFFECT = """
    _name_or_path add_cross_attention apply_layernorm architectures attn_implementation
    bos_token_id chunk_size_feed_forward decoder_hidden_size decoder_intermediate_size
    decoder_num_attention_heads decoder_num_hidden_layers dtype encoder_stride eos_token_id
    id2label initializer_factor initializer_range is_decoder is_encoder_decoder label2id
    layerscale_value logit_scale_init_value mask_ratio mlp_ratio model_type norm_pix_loss
    num_labels out_features out_indices output_attentions output_hidden_states pad_token_id
    pooler_output_size problem_type projection_dim projection_size reshape_hidden_states
    return_dict stage_names text_config torch_dtype torchscript transformers_version
    use_bfloat16 use_mask_token use_swiglu_ffn vision_config
"""
# Old configurations spell out what concerns the generation of text, even those of image towers.
_OF_TEXT = """
    bad_words_ids begin_suppress_tokens cross_attention_hidden_size decoder_start_token_id
    diversity_penalty do_sample dropout early_stopping encoder_no_repeat_ngram_size
    exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id
    length_penalty max_length min_length no_repeat_ngram_size num_beam_groups num_beams
    num_return_sequences output_scores prefix remove_invalid_values repetition_penalty
    return_dict_in_generate sep_token_id suppress_tokens task_specific_params temperature
    tf_legacy_loss tie_encoder_decoder tie_word_embeddings tokenizer_class top_k top_p typical_p
"""
WITHOUT_EFFECT = frozenset((_WITHOUT_EFFECT + _OF_TEXT).split())
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


def refuse(config, name, accepted):
    """Raises where the configuration's field is none of what can be honoured."""
    if config.get(name) not in accepted:
        raise CheckpointError(
            f"{name} cannot be honoured. Expected any of {[x for x in accepted if x is not None]}. "
            f"Received: {name}={brief(config.get(name))}"
        )


def label_names(id2label):
    """Names in the order of their numbers; LABEL_0, LABEL_1 ... are none."""
    if not id2label:
        return None
    names = [id2label.get(str(i)) for i in range(len(id2label))]
    if not all(isinstance(name, str) for name in names):
        raise CheckpointError(
            "id2label in config.json must have a text for every class from 0 on. Received: "
            f"{brief(id2label)}"
        )
    return None if names[0] == "LABEL_0" else names


# timm

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
# model_args of timm whose effect the tensors show, or that only act in training.
_TIMM_SEEN_IN_TENSORS = """
    attn_drop_rate class_token depth drop_path_rate drop_rate dynamic_img_size embed_dim fc_norm
    img_size in_chans init_values mlp_ratio no_embed_class num_classes patch_drop_rate
    patch_size pool_include_prefix pos_drop_rate pre_norm proj_drop_rate qk_norm qkv_bias
    reg_tokens strict_img_size weight_init
"""
TIMM_SEEN_IN_TENSORS = frozenset(_TIMM_SEEN_IN_TENSORS.split())
# Those of them that must agree with the tensors: our argument
TIMM_FIELDS = {
    "depth": "depth",
    "embed_dim": "width",
    "in_chans": "num_channels",
    "patch_size": "patch_size",
    "qkv_bias": "qkv_bias",
    "reg_tokens": "num_registers",
}
# timm's heads are 64 wide, but for these widths.
TIMM_HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}
POOLS = {"token": "token", "avg": "gap", "map": "map", "": None}


def _describe_timm(config, name):
    architecture = config["architecture"]
    kinds = [kind for pattern, kind in TIMM_KINDS if re.fullmatch(pattern, architecture)]
    if not kinds or kinds[0] is None:
        raise CheckpointError(
            "This timm architecture is no plain Vision Transformer. "
            f"Received: architecture={brief(architecture)}"
        )
    return describe_timm(config, name, kinds[0])


def describe_timm(config, name, kind):
    """Reads timm's configuration of an architecture that is `kind`, arguments, beyond its tensors.

    Args:
        config: dict, the content of `config.json`.
        name: str, the hub id or folder, which may carry timm's tag.
        kind: dict of arguments.

    Returns:
        `Description`.

    Raises:
        CheckpointError: for a field whose value cannot be honoured; it names the field.
    """
    arguments = dict(kind)
    model_args = dict(config.get("model_args") or {})
    pretrained = {**config, **(config.get("pretrained_cfg") or {})}
    if "num_heads" in model_args:
        arguments["num_heads"] = model_args.pop("num_heads")
    pool = model_args.pop("global_pool", config.get("global_pool"))
    if pool is not None:
        refuse({"global_pool": pool}, "global_pool", POOLS)
        arguments["pooling"] = POOLS[pool]
    act = model_args.pop("act_layer", None)
    if act is not None:
        refuse({"act_layer": act}, "act_layer", ACTIVATIONS | {"gelu_tanh": "", "silu": ""})
        arguments["mlp"] = {**ACTIVATIONS, "gelu_tanh": "gelu_tanh", "silu": "swiglu"}[act]
    refuse_unknown(model_args, TIMM_SEEN_IN_TENSORS)
    arguments.update(said_by_timm(TIMM_FIELDS, model_args, config))
    size = model_args.get("img_size")
    size = list(pretrained.get("input_size") or ())[1:] or None if size is None else size
    if "no_embed_class" in model_args:
        alone = model_args["no_embed_class"]
        arguments["position_embedding"] = "learned_patches" if alone else "learned"
    arguments["image_size"] = tuple(size) if isinstance(size, (list, tuple)) else size
    result = Description(arguments, architecture=config["architecture"])
    add_timm(result, pretrained)
    result.class_names = timm_class_names(config, pretrained, name)
    return result


def timm_class_names(config, pretrained, name):
    """The labels in timm's configuration, those of ImageNet-1k, or None."""
    names = config.get("label_names") or pretrained.get("label_names")
    descriptions = config.get("label_descriptions") or {}
    if names:
        return [str(descriptions.get(x, x)) for x in names]
    # timm names no classes of ImageNet-1k; its tags end in what the head was trained on.
    tag = pretrained.get("tag") or str(name).rpartition(".")[2]
    is_imagenet = pretrained.get("num_classes") == 1000 and tag.split("_")[-1] == "in1k"
    return list(imagenet_names()) if is_imagenet else None
