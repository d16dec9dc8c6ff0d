"""What a source's own configuration says: transformers' `config.json`, timm's `config.json`.

Tensors say most of what a model is; a configuration adds what shapes cannot say, and is held
against them. What cannot be honoured is refused by name.
"""

from dataclasses import dataclass, field

from keras_vit.checkpoints.catalog import imagenet_names
from keras_vit.checkpoints.checks import refuse_unknown, said_by_timm
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.processors import add_timm
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
POOLS = {"token": "token", "avg": "gap", "map": "map", "": None}


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
