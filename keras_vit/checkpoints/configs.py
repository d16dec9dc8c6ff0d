"""Reads configurations: `config.json` of transformers and of timm.

Tensors say most of what a model is. A configuration adds what shapes cannot say, and is checked
against them. What cannot be honoured is refused by name.
"""

from dataclasses import dataclass, field

from keras_vit.checkpoints.catalog import imagenet_names
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.fields import Field, keys_of, one_or_two, read_fields
from keras_vit.checkpoints.pictures.read import add_timm
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


ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
}
_WRITTEN = {"gelu_tanh": "gelu_pytorch_tanh", "swiglu": "gelu"}
# transformers' fields of all families; `refuse` other values of the first before they are read
HIDDEN_ACT = Field("hidden_act", "mlp", ACTIVATIONS.get, lambda mlp: _WRITTEN.get(mlp, mlp))
DROP_PATH = Field("drop_path_rate", "drop_path_rate")
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


def refuse(config, name, accepted):
    """Raises unless the configuration's field has a value that can be honoured."""
    if config.get(name) not in accepted:
        raise CheckpointError(
            f"{name} cannot be honoured. Expected any of {[x for x in accepted if x is not None]}. "
            f"Received: {name}={brief(config.get(name))}"
        )


def refuse_unknown(model_args, known):
    """Raises if timm's configuration has arguments that no model here supports."""
    unknown = sorted(set(model_args) - set(known))[:8]
    if unknown:
        found = ", ".join(f"{key[:60]}={brief(model_args[key])}" for key in unknown)
        raise CheckpointError(
            f"These model_args in config.json cannot be honoured. Received: {found}"
        )


def label_names(id2label):
    """Class names in order, or None for the placeholders LABEL_0, LABEL_1 ..."""
    if not id2label:
        return None
    names = [id2label.get(str(i)) for i in range(len(id2label))]
    if not all(isinstance(name, str) for name in names):
        raise CheckpointError(
            "id2label in config.json must have a string for every class from 0 on. Received: "
            f"{brief(id2label)}"
        )
    return None if names[0] == "LABEL_0" else names


def add_labels(description, config, has_head):
    """Adds the class names to transformers' `Description`, or the number of classes."""
    if not has_head:
        return
    description.class_names = label_names(config.get("id2label"))
    if config.get("id2label") and description.class_names is None:
        description.arguments["num_classes"] = len(config["id2label"])


# timm's model_args of all Vision Transformers
TIMM_ENCODER = (
    Field("img_size", "image_size"),
    Field("patch_size", "patch_size", write=one_or_two),
    Field("in_chans", "num_channels"),
    Field("embed_dim", "width"),
    Field("depth", "depth"),
    Field("num_heads", "num_heads"),
)
# those whose effect the tensors show, or that only act in training
_TIMM_WITHOUT_EFFECT = """
    attn_drop_rate class_token drop_path_rate drop_rate dynamic_img_size fc_norm init_values
    mlp_ratio no_embed_class num_classes patch_drop_rate pool_include_prefix pos_drop_rate pre_norm
    proj_drop_rate qk_norm strict_img_size weight_init
"""
POOLS = {"token": "token", "avg": "gap", "map": "map", "": None}


def describe_timm(config, name, kind, fields):
    """Reads timm's configuration of an architecture.

    Args:
        config: dict, the content of `config.json`.
        name: str, the hub id or folder, which may carry timm's tag.
        kind: dict of arguments that the architecture implies and no tensor shows.
        fields: tuple of `Field`, the model_args of its family.

    Returns:
        `Description`.

    Raises:
        CheckpointError: for a field whose value cannot be honoured; it names the field.
    """
    arguments = dict(kind)
    model_args, pretrained = timm_parts(config)
    pool = model_args.pop("global_pool", config.get("global_pool"))
    if pool is not None:
        refuse({"global_pool": pool}, "global_pool", POOLS)
        arguments["pooling"] = POOLS[pool]
    act = model_args.pop("act_layer", None)
    if act is not None:
        refuse({"act_layer": act}, "act_layer", ACTIVATIONS | {"gelu_tanh": "", "silu": ""})
        arguments["mlp"] = {**ACTIVATIONS, "gelu_tanh": "gelu_tanh", "silu": "swiglu"}[act]
    refuse_unknown(model_args, {*keys_of(fields), *_TIMM_WITHOUT_EFFECT.split()})
    if "no_embed_class" in model_args:
        alone = model_args["no_embed_class"]
        arguments["position_embedding"] = "learned_patches" if alone else "learned"
    arguments |= timm_arguments(fields, model_args, config, pretrained)
    return timm_description(arguments, config, pretrained, name)


def timm_parts(config):
    """(model_args, pretrained_cfg) of timm's configuration, as copies."""
    pretrained = {**config, **(config.get("pretrained_cfg") or {})}
    return dict(config.get("model_args") or {}), pretrained


def timm_arguments(fields, model_args, config, pretrained):
    """dict of the arguments that timm's configuration gives."""
    found = {"image_size": tuple(pretrained.get("input_size") or ())[1:] or None}
    found |= read_fields(fields, model_args)
    counts = [x["num_classes"] for x in (config, model_args) if x.get("num_classes") is not None]
    if counts and counts[0] != counts[-1]:
        raise CheckpointError(
            "config.json contradicts itself about num_classes. Received: "
            f"{brief(counts[0])}, {brief(counts[-1])} in model_args"
        )
    if counts:
        found["num_classes"] = None if counts[0] == 0 else counts[0]  # 0 for features
    return found


def timm_description(arguments, config, pretrained, name):
    """`Description` of timm's configuration with its preprocessing and names of classes."""
    found = Description(arguments, architecture=config["architecture"])
    add_timm(found, pretrained)
    found.class_names = timm_class_names(config, pretrained, name)
    return found


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
