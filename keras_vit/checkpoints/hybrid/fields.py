"""Configuration fields of hybrids of CNN and Vision Transformer in timm."""

import re

from keras_vit.checkpoints.configs import TIMM_ENCODER, describe_timm, refuse
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.fields import held_against_tensors, seen_in_tensors
from keras_vit.checkpoints.untrusted import brief

TIMM = (
    *TIMM_ENCODER,
    seen_in_tensors("mlp_ratio", "mlp_ratio"),
    held_against_tensors("qkv_bias", "qkv_bias"),
    held_against_tensors("reg_tokens", "num_registers"),
)


def describe(config, processor=None, name=""):
    """Reads timm's configuration of a hybrid, as `vit.fields.describe` does those of others."""
    architecture = config.get("architecture") if isinstance(config, dict) else None
    if not re.fullmatch(r"vit_[a-z]+_r\d*_s\d+(_p\d+)?_\d+", str(architecture)):
        raise CheckpointError(
            "The tensors are those of a hybrid, so config.json must be of one of timm's vit_*_r*. "
            f"Received: architecture={brief(architecture)}"
        )
    found = describe_timm(config, name, {}, TIMM)
    found.arguments.pop("patch_size", None)  # of places of the CNN's map
    pooling = found.arguments.pop("pooling", None) or "token"
    refuse({"global_pool": pooling}, "global_pool", ("token",))
    return found
