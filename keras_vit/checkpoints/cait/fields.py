"""Configuration fields of CaiT in timm."""

import re

from keras_vit.checkpoints.configs import TIMM_ENCODER, describe_timm, refuse
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.fields import Field, held_against_tensors, seen_in_tensors
from keras_vit.checkpoints.untrusted import brief

TIMM = (
    *TIMM_ENCODER,
    Field("qkv_bias", "qkv_bias"),
    held_against_tensors("reg_tokens", "num_registers"),
    seen_in_tensors("init_values", "layer_scale"),
    seen_in_tensors("mlp_ratio", "mlp_ratio"),
    # of the class token's blocks
    seen_in_tensors("depth_token_only", "class_depth"),
    seen_in_tensors("mlp_ratio_token_only", "mlp_ratio"),
)


def describe(config, processor=None, name=""):
    """Reads timm's configuration of a CaiT, as `vit.fields.describe` does those of others."""
    architecture = config.get("architecture") if isinstance(config, dict) else None
    if not re.fullmatch(r"cait_[a-z]+\d+_\d+", str(architecture)):
        raise CheckpointError(
            "The tensors are those of a CaiT, so config.json must be of one of timm's cait_*. "
            f"Received: architecture={brief(architecture)}"
        )
    found = describe_timm(config, name, {}, TIMM)
    pooling = found.arguments.pop("pooling", None) or "token"
    refuse({"global_pool": pooling}, "global_pool", ("token",))
    return found
