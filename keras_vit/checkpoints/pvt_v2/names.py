"""Tensor names of the Pyramid Vision Transformer v2, in timm, transformers and the authors' files.

Its blocks have the names of the first one's; the depthwise convolution in their MLPs is its own.
"""

from keras_vit.checkpoints.pvt.names import (
    AUTHORS_PARTS,
    KERAS_PVT,
    ONE_EPSILON,
    STAGES,
    TWO_EPSILONS,
    block_rows,
)
from keras_vit.checkpoints.tables import Names, Row, both, norm

_HF_V2 = {
    "norms": ("layer_norm_1", "layer_norm_2"),
    "attention": (
        ("attention.query",),
        ("attention.key", "attention.value"),
        "attention.proj",
    ),
    "reduction": ("attention.spatial_reduction", "attention.layer_norm"),
    "mlp": ("mlp.dense1", "mlp.dense2"),
}
_PVT_V2 = {
    "family": "pvt_v2",
    "needed": (
        "stage0_patch_embedding/projection/kernel",
        "stage0_block{i}/mlp/depthwise/kernel",
    ),
}


def _depthwise(source, target):
    return (
        Row(f"{source}.weight", f"{target}/mlp/depthwise/kernel", "depthwise"),
        Row(f"{source}.bias", f"{target}/mlp/depthwise/bias"),
    )


def _v2_rows(*, embedding, embedding_norm, block, depthwise, stage_norm, names):
    rows = []
    for s in STAGES:
        patches, target = embedding(s), f"stage{s}"
        rows += [
            Row(f"{patches}.proj.weight", f"{target}_patch_embedding/projection/kernel", "kernel"),
            Row(f"{patches}.proj.bias", f"{target}_patch_embedding/projection/bias"),
            *norm(f"{patches}.{embedding_norm}", f"{target}_embedding_norm"),
            *block_rows(block(s), f"{target}_block{{i}}", **names),
            *_depthwise(f"{block(s)}.{depthwise}", f"{target}_block{{i}}"),
            *norm(stage_norm(s), f"{target}_norm"),
        ]
    return tuple(rows)


AUTHORS_PVT_V2 = Names(
    name="whai362/PVT v2",
    rows=(
        *_v2_rows(
            embedding=lambda s: f"patch_embed{s + 1}",
            embedding_norm="norm",
            block=lambda s: f"block{s + 1}.{{i}}",
            depthwise="mlp.dwconv.dwconv",
            stage_norm=lambda s: f"norm{s + 1}",
            names=AUTHORS_PARTS,
        ),
        *both("head", "head/dense"),
    ),
    block=r"(?<=block\d\.)\d+(?=\.)",
    arguments=TWO_EPSILONS,
    **_PVT_V2,
)
TIMM_PVT_V2 = Names(
    name="timm pvt_v2",
    prefixes=("", "timm_model."),
    rows=(
        *_v2_rows(
            embedding=lambda s: f"stages.{s}.downsample" if s else "patch_embed",
            embedding_norm="norm",
            block=lambda s: f"stages.{s}.blocks.{{i}}",
            depthwise="mlp.dwconv",
            stage_norm=lambda s: f"stages.{s}.norm",
            names=AUTHORS_PARTS,
        ),
        *both("head", "head/dense"),
    ),
    block=r"(?<=blocks\.)\d+(?=\.)",
    arguments=TWO_EPSILONS,
    **_PVT_V2,
)
HF_PVT_V2 = Names(
    name="transformers pvt_v2",
    prefixes=("", "pvt_v2."),
    rows=(
        *_v2_rows(
            embedding=lambda s: f"encoder.layers.{s}.patch_embedding",
            embedding_norm="layer_norm",
            block=lambda s: f"encoder.layers.{s}.blocks.{{i}}",
            depthwise="mlp.dwconv.dwconv",
            stage_norm=lambda s: f"encoder.layers.{s}.layer_norm",
            names=_HF_V2,
        ),
        *both("classifier", "head/dense"),
    ),
    block=r"(?<=blocks\.)\d+(?=\.)",
    arguments=ONE_EPSILON,
    **_PVT_V2,
)

# The tables of our own files tell the two families apart by what a file must have.
KERAS_PVT_V2 = KERAS_PVT._replace(**_PVT_V2)

TABLES = (AUTHORS_PVT_V2, TIMM_PVT_V2, HF_PVT_V2, KERAS_PVT_V2)
