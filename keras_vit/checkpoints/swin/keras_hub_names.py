"""Tensor names of the Swin Transformers of keras-hub, as its presets number their weights."""

from keras_vit.checkpoints.tables import Names, Row
from keras_vit.checkpoints.vit.keras_hub_names import BACKBONE_TWICE, norm, pair

STAGES = range(4)


def _block(s):
    source, target = f"stage_{s}/blocks/swin_transformer_block_{{i}}", f"stage{s}_block{{i}}"
    return (
        *norm(f"{source}/norm1", f"{target}/norm1"),
        *pair(f"{source}/attn/qkv", f"{target}/attention/qkv"),
        *pair(f"{source}/attn/proj", f"{target}/attention/proj"),
        Row(f"{source}/attn/0", f"{target}/attention/position_bias/table", "bias_table"),
        *norm(f"{source}/norm2", f"{target}/norm2"),
        *pair(f"{source}/mlp/fc1", f"{target}/mlp/fc1"),
        *pair(f"{source}/mlp/fc2", f"{target}/mlp/fc2"),
    )


def _merging(s):
    """The merging belongs to the stage before."""
    source, target = f"stage_{s - 1}/downsample", f"stage{s}_merging"
    return (
        *norm(f"{source}/norm", f"{target}/norm"),
        Row(f"{source}/reduction/0", f"{target}/reduction/kernel", "plain"),
    )


KERAS_HUB = Names(
    name="keras-hub swin",
    family="swin",
    rows=(
        *pair("patch_embedding/proj", "patch_embedding/projection", "patches"),
        *norm("patch_embedding/norm", "patch_norm"),
        *(row for s in STAGES for row in _block(s)),
        *(row for s in STAGES[1:] for row in _merging(s)),
        *norm("norm", "norm"),
        *pair("predictions", "head/dense"),
    ),
    dropped=BACKBONE_TWICE,
    block=r"(?<=swin_transformer_block_)\d+(?=/)",
)
