"""Configuration fields of the Pyramid Vision Transformers, both versions, in transformers."""

from keras_vit.checkpoints.configs import (
    DROP_PATH,
    WITHOUT_EFFECT,
    Description,
    add_labels,
    refuse,
)
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.fields import Field, keys_of, read_fields
from keras_vit.checkpoints.pictures.read import add_transformers
from keras_vit.checkpoints.untrusted import brief


def _size(size):
    return (size["height"], size["width"]) if isinstance(size, dict) else size


HF = (
    Field("depths", "depths"),
    Field("hidden_sizes", "widths"),
    Field("num_attention_heads", "num_heads"),
    Field("mlp_ratios", "mlp_ratios", write=lambda ratios: [int(ratio) for ratio in ratios]),
    Field("sequence_reduction_ratios", "reductions", kinds=("pvt",)),
    Field("sr_ratios", "reductions", kinds=("pvt_v2",)),
    Field("patch_sizes", "patch_sizes"),
    Field("strides", "strides"),
    Field("num_channels", "num_channels"),
    Field("image_size", "image_size", read=_size),
    Field("qkv_bias", "qkv_bias"),
    Field("layer_norm_eps", "norm_epsilon"),
    Field("hidden_dropout_prob", "dropout_rate"),
    Field("attention_probs_dropout_prob", "attention_dropout_rate"),
    DROP_PATH,
)
# What PvtConfig and PvtV2Config assume where config.json is silent, and no tensor tells.
DEFAULTS = {"num_attention_heads": (1, 2, 5, 8), "layer_norm_eps": 1e-6, "hidden_act": "gelu"}


def describe(config, processor=None, name=""):
    """Reads the configuration of a first PVT: transformers' `PvtConfig`."""
    found = describe_transformers(config, processor, "pvt", "PvtForImageClassification")
    strides = found.arguments.pop("strides", None)
    if strides is not None and strides != found.arguments.get("patch_sizes", strides):
        raise CheckpointError(
            "The patches of the first PVT do not overlap. Received: "
            f"strides={brief(strides)}, patch_sizes={brief(found.arguments['patch_sizes'])}"
        )
    return found


def describe_transformers(config, processor, kind, head):
    """Reads transformers' configuration of a first or second PVT.

    Args:
        config, processor: as `describe` takes them.
        kind: str, the model_type that it must be of.
        head: str, the class that has a head.
    """
    if not isinstance(config, dict) or config.get("model_type") != kind:
        received = config.get("model_type") if isinstance(config, dict) else type(config).__name__
        raise CheckpointError(
            f"The tensors are those of transformers' {kind!r}, so config.json must be its own. "
            f"Received: model_type={brief(received)}"
        )
    config = {**DEFAULTS, **config}
    refuse(config, "hidden_act", ("gelu",))
    known = {*keys_of(HF), *WITHOUT_EFFECT, "hidden_act", "linear_attention", "num_encoder_blocks"}
    found = Description(read_fields(HF, config), unread=sorted(set(config) - known))
    found.arguments["conv_norm_epsilon"] = found.arguments["norm_epsilon"]
    add_labels(found, config, (config.get("architectures") or [None])[0] == head)
    add_transformers(found, processor, kind)
    return found
