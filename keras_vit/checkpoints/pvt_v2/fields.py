"""Configuration fields of the Pyramid Vision Transformer v2 in timm.

transformers says it as of the first one (`pvt.fields`).
"""

import re

from keras_vit.checkpoints.configs import (
    refuse,
    refuse_unknown,
    timm_arguments,
    timm_description,
    timm_parts,
)
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.fields import Field, keys_of, seen_in_tensors
from keras_vit.checkpoints.pvt.fields import DEFAULTS, describe_transformers
from keras_vit.checkpoints.untrusted import brief

TIMM = (  # of model_args
    Field("depths", "depths"),
    Field("embed_dims", "widths"),
    Field("num_heads", "num_heads"),
    Field("in_chans", "num_channels"),
    Field("mlp_ratios", "mlp_ratios"),
    Field("qkv_bias", "qkv_bias"),
    seen_in_tensors("sr_ratios", "reductions"),
    seen_in_tensors("linear", "pool_size", write=lambda size: size is not None),
)
# what acts in training alone, or must agree with the field outside of them
_TIMM_WITHOUT_EFFECT = (
    "attn_drop_rate",
    "drop_path_rate",
    "drop_rate",
    "num_classes",
    "proj_drop_rate",
)


def describe(config, processor=None, name=""):
    """Reads the configuration of a PVT v2: transformers' `PvtV2Config` or timm's."""
    if "architecture" in config:
        return _describe_timm(config, name)
    found = describe_transformers(config, processor, "pvt_v2", "PvtV2ForImageClassification")
    if config.get("linear_attention"):
        found.arguments.update(
            pool_size=7, reductions=(1,) * len(config.get("depths", (1, 1, 1, 1)))
        )
    return found


def _describe_timm(config, name):
    architecture = config["architecture"]
    if not re.fullmatch(r"pvt_v2_b\d(_li)?", architecture):
        raise CheckpointError(
            "The tensors are those of a PVT v2, so config.json must be of one of timm's pvt_v2_*. "
            f"Received: architecture={brief(architecture)}"
        )
    model_args, pretrained = timm_parts(config)
    pool = model_args.pop("global_pool", config.get("global_pool") or "avg")
    refuse({"global_pool": pool}, "global_pool", ("avg",))
    refuse_unknown(model_args, {*keys_of(TIMM), *_TIMM_WITHOUT_EFFECT})
    arguments = {"num_heads": DEFAULTS["num_attention_heads"]}
    arguments |= timm_arguments(TIMM, model_args, config, pretrained)
    return timm_description(arguments, config, pretrained, name)
