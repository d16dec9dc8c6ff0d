"""What tensors and configurations say of a Pyramid Vision Transformer v2."""

import re

from keras_vit.checkpoints.checks import refuse_unknown, said_by_timm
from keras_vit.checkpoints.configs import Description, refuse, timm_class_names
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.processors import add_timm
from keras_vit.checkpoints.pvt import read as pvt
from keras_vit.checkpoints.untrusted import brief

# The rest is as in the first PVT, whose functions know both tables of tensors' names.
SAID_TWICE, ARITHMETIC, DESCRIBED, ASKED = (
    pvt.SAID_TWICE,
    pvt.ARITHMETIC,
    pvt.DESCRIBED,
    pvt.ASKED,
)
FIRST_CONVOLUTION, EFFECTS = pvt.FIRST_CONVOLUTION, pvt.EFFECTS
infer, complete, facts = pvt.infer, pvt.complete, pvt.facts


def describe(config, processor=None, name=""):
    """Reads the configuration of a PVT v2: transformers' `PvtV2Config` or timm's."""
    if "architecture" in config:
        return _describe_timm(config, name)
    found = pvt.describe_transformers(config, processor, "pvt_v2", "PvtV2ForImageClassification")
    if config.get("linear_attention"):
        found.arguments.update(
            pool_size=7, reductions=(1,) * len(config.get("depths", (1, 1, 1, 1)))
        )
    return found


# timm's model_args whose effect the tensors show, or that only act in training.
_SEEN_IN_TENSORS = """
    attn_drop_rate depths drop_path_rate drop_rate embed_dims in_chans linear mlp_ratios
    num_classes proj_drop_rate qkv_bias sr_ratios
"""
SEEN_IN_TENSORS = frozenset(_SEEN_IN_TENSORS.split())
# Those of them that must agree with the tensors: our argument
TIMM_FIELDS = {
    "depths": "depths",
    "embed_dims": "widths",
    "in_chans": "num_channels",
    "mlp_ratios": "mlp_ratios",
    "qkv_bias": "qkv_bias",
}


def _describe_timm(config, name):
    architecture = config["architecture"]
    if not re.fullmatch(r"pvt_v2_b\d(_li)?", architecture):
        raise CheckpointError(
            "The tensors are those of a PVT v2, so config.json must be of one of timm's pvt_v2_*. "
            f"Received: architecture={brief(architecture)}"
        )
    model_args = dict(config.get("model_args") or {})
    pretrained = {**config, **(config.get("pretrained_cfg") or {})}
    arguments = {
        "num_heads": tuple(model_args.pop("num_heads", pvt.DEFAULTS["num_attention_heads"]))
    }
    pool = model_args.pop("global_pool", config.get("global_pool") or "avg")
    refuse({"global_pool": pool}, "global_pool", ("avg",))
    refuse_unknown(model_args, SEEN_IN_TENSORS)
    arguments.update(said_by_timm(TIMM_FIELDS, model_args, config))
    arguments["image_size"] = tuple(pretrained.get("input_size") or ())[1:] or None
    result = Description(arguments, architecture=architecture)
    add_timm(result, pretrained)
    result.class_names = timm_class_names(config, pretrained, name)
    return result
