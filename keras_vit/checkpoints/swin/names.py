"""Tensor names of Swin Transformers: timm, transformers, torchvision and the authors' files."""

from keras_vit.checkpoints.swin.keras_hub_names import KERAS_HUB
from keras_vit.checkpoints.tables import OTHER_HEADS, Names, Row, both, fused, norm, numbered

STAGES = range(4)
_BUFFERS = {
    r".*\.(relative_position_index|relative_coords_table)": "computed from the window's size",
    r".*\.attn_mask": "computed from the size of the map",
    r".*\.k_bias": "zeros, which keys have instead of a bias",
}
_MASK_TOKEN = {r"(.*\.)?mask_token": "stands for masked patches in pre-training"}


def _timm_block(s):
    source, target = f"layers.{s}.blocks.{{i}}", f"stage{s}_block{{i}}"
    bias = f"{target}/attention/position_bias"
    return (
        *norm(f"{source}.norm1", f"{target}/norm1"),
        *both(f"{source}.attn.qkv", f"{target}/attention/qkv"),
        *both(f"{source}.attn.proj", f"{target}/attention/proj"),
        Row(f"{source}.attn.relative_position_bias_table", f"{bias}/table", "bias_table"),
        Row(f"{source}.attn.q_bias", f"{target}/attention/query_bias"),
        Row(f"{source}.attn.v_bias", f"{target}/attention/value_bias"),
        Row(f"{source}.attn.logit_scale", f"{target}/attention/logit_scale", "head_scale"),
        *both(f"{source}.attn.cpb_mlp.0", f"{bias}/fc1"),
        Row(f"{source}.attn.cpb_mlp.2.weight", f"{bias}/fc2/kernel", "linear"),
        *norm(f"{source}.norm2", f"{target}/norm2"),
        *both(f"{source}.mlp.fc1", f"{target}/mlp/fc1"),
        *both(f"{source}.mlp.fc2", f"{target}/mlp/fc2"),
    )


def _merging(source, s):
    """Rows of the merging before stage `s`."""
    return (
        *norm(f"{source}.downsample.norm", f"stage{s}_merging/norm"),
        Row(
            f"{source}.downsample.reduction.weight", f"stage{s}_merging/reduction/kernel", "linear"
        ),
    )


_TIMM_ENDS = (
    *both("patch_embed.proj", "patch_embedding/projection", "convolution"),
    *norm("patch_embed.norm", "patch_norm"),
    *norm("norm", "norm"),
)
_TIMM_BLOCKS = tuple(row for s in STAGES for row in _timm_block(s))

TIMM = Names(
    name="timm swin",
    family="swin",
    prefixes=("", "timm_model."),
    rows=(
        *_TIMM_ENDS,
        *_TIMM_BLOCKS,
        *(row for s in STAGES[1:] for row in _merging(f"layers.{s}", s)),
        *both("head.fc", "head/dense"),
    ),
    dropped=_BUFFERS,
    arguments={"convention": "timm"},
)

# The authors' merging belongs to the stage before; timm's older files are so too.
AUTHORS = Names(
    name="Swin-Transformer",
    family="swin",
    rows=(
        *_TIMM_ENDS,
        *_TIMM_BLOCKS,
        *(row for s in STAGES[1:] for row in _merging(f"layers.{s - 1}", s)),
        *both("head", "head/dense"),
    ),
    dropped={**_BUFFERS, **_MASK_TOKEN, **OTHER_HEADS},
)


# torchvision's features are a list: the patch embedding, then a stage and a merging in turn.
_TORCHVISION_ENDS = (
    *both("features.0.0", "patch_embedding/projection", "convolution"),
    *norm("features.0.2", "patch_norm"),
    *norm("norm", "norm"),
    *both("head", "head/dense"),
)


def _torchvision_block(s):
    source, target = f"features.{2 * s + 1}.{{i}}", f"stage{s}_block{{i}}"
    return (
        *norm(f"{source}.norm1", f"{target}/norm1"),
        Row(f"{source}.attn.qkv.weight", f"{target}/attention/qkv/kernel", "linear"),
        *both(f"{source}.attn.proj", f"{target}/attention/proj"),
        *norm(f"{source}.norm2", f"{target}/norm2"),
        *both(f"{source}.mlp.0", f"{target}/mlp/fc1"),
        *both(f"{source}.mlp.3", f"{target}/mlp/fc2"),
    )


def _torchvision_merging(s):
    source = f"features.{2 * s}"
    return (
        *norm(f"{source}.norm", f"stage{s}_merging/norm"),
        Row(f"{source}.reduction.weight", f"stage{s}_merging/reduction/kernel", "linear"),
    )


def _torchvision_positions(s):
    attention, target = f"features.{2 * s + 1}.{{i}}.attn", f"stage{s}_block{{i}}/attention"
    return (
        Row(f"{attention}.qkv.bias", f"{target}/qkv/bias"),
        Row(
            f"{attention}.relative_position_bias_table",
            f"{target}/position_bias/table",
            "bias_table",
        ),
    )


def _torchvision_positions_v2(s):
    """One bias for all three, of which torchvision sets that of the keys to zero in every call."""
    attention, target = f"features.{2 * s + 1}.{{i}}.attn", f"stage{s}_block{{i}}/attention"
    bias = f"{target}/position_bias"
    return (
        Row(
            f"{attention}.qkv.bias",
            (f"{target}/query_bias", f"{target}/value_bias"),
            "bias_without_keys",
        ),
        Row(f"{attention}.logit_scale", f"{target}/logit_scale", "head_scale"),
        *both(f"{attention}.cpb_mlp.0", f"{bias}/fc1"),
        Row(f"{attention}.cpb_mlp.2.weight", f"{bias}/fc2/kernel", "linear"),
    )


def _torchvision(name, positions):
    return Names(
        name=f"torchvision {name}",
        family="swin",
        rows=(
            *_TORCHVISION_ENDS,
            *(row for s in STAGES for row in _torchvision_block(s)),
            *(row for s in STAGES for row in positions(s)),
            *(row for s in STAGES[1:] for row in _torchvision_merging(s)),
        ),
        dropped=_BUFFERS,
        arguments={"convention": "torchvision"},
        block=r"(?<=^features\.[1357]\.)\d+(?=\.)",
    )


TORCHVISION = _torchvision("swin", _torchvision_positions)
TORCHVISION_V2 = _torchvision("swin_v2", _torchvision_positions_v2)


def _hf_block(s):
    source, target = f"encoder.layers.{s}.blocks.{{i}}", f"stage{s}_block{{i}}"
    attention, bias = f"{source}.attention.self", f"{target}/attention/position_bias"
    return (
        *norm(f"{source}.layernorm_before", f"{target}/norm1"),
        *both(f"{source}.attention.output.dense", f"{target}/attention/proj"),
        *norm(f"{source}.layernorm_after", f"{target}/norm2"),
        *both(f"{source}.intermediate.dense", f"{target}/mlp/fc1"),
        *both(f"{source}.output.dense", f"{target}/mlp/fc2"),
        # version 1
        Row(f"{attention}.relative_position_bias_table", f"{bias}/table", "bias_table"),
        # version 2
        Row(f"{attention}.logit_scale", f"{target}/attention/logit_scale", "head_scale"),
        *both(f"{attention}.continuous_position_bias_mlp.0", f"{bias}/fc1"),
        Row(f"{attention}.continuous_position_bias_mlp.2.weight", f"{bias}/fc2/kernel", "linear"),
    )


def _hf(name, prefix, biases):
    return Names(
        name=f"transformers {name}",
        family="swin",
        prefixes=("", prefix),
        rows=(
            *both(
                "embeddings.patch_embeddings.projection",
                "patch_embedding/projection",
                "convolution",
            ),
            *norm("embeddings.norm", "patch_norm"),
            *(row for s in STAGES for row in _hf_block(s)),
            *(row for s in STAGES for row in biases(s)),
            *(row for s in STAGES[1:] for row in _merging(f"encoder.layers.{s - 1}", s)),
            *norm("layernorm", "norm"),
            *both("classifier", "head/dense"),
        ),
        dropped={**_BUFFERS, **_MASK_TOKEN, r"decoder\..*": "the decoder of masked pre-training"},
    )


def _hf_projections(s):
    source = f"encoder.layers.{s}.blocks.{{i}}.attention.self"
    return fused(
        [f"{source}.{x}" for x in ("query", "key", "value")], f"stage{s}_block{{i}}/attention/qkv"
    )


def _hf_projections_v2(s):
    """Keys have no bias, so those of queries and values stay apart."""
    source = f"encoder.layers.{s}.blocks.{{i}}.attention.self"
    target = f"stage{s}_block{{i}}/attention"
    kernel, _ = _hf_projections(s)
    return (
        kernel,
        Row(f"{source}.query.bias", f"{target}/query_bias"),
        Row(f"{source}.value.bias", f"{target}/value_bias"),
    )


HF_SWIN = _hf("swin", "swin.", _hf_projections)
HF_SWINV2 = _hf("swinv2", "swinv2.", _hf_projections_v2)


def _keras_block(s):
    block = f"stage{s}_block{{i}}"
    attention = f"{block}/attention"
    return (
        *numbered(f"{block}/norm1 {block}/norm2", "gamma", "beta"),
        *numbered(f"{attention}/qkv {attention}/proj", "kernel", "bias"),
        *numbered(f"{block}/mlp/fc1 {block}/mlp/fc2", "kernel", "bias"),
        *numbered(attention, "logit_scale", "query_bias", "value_bias"),
        *numbered(f"{attention}/position_bias", "table"),
        *numbered(f"{attention}/position_bias/fc1", "kernel", "bias"),
        *numbered(f"{attention}/position_bias/fc2", "kernel"),
    )


KERAS = Names(
    name="keras",
    family="swin",
    rows=(
        *numbered("patch_embedding/projection head/dense", "kernel", "bias"),
        *numbered("patch_norm norm", "gamma", "beta"),
        *(row for s in STAGES for row in _keras_block(s)),
        *(row for s in STAGES[1:] for row in numbered(f"stage{s}_merging/norm", "gamma", "beta")),
        *(row for s in STAGES[1:] for row in numbered(f"stage{s}_merging/reduction", "kernel")),
    ),
    dropped={r".*/seed_generator/\d+": "the state of a dropout layer's random numbers"},
)

# Version 2 first: it knows all names of version 1 but the bias of the keys.
NEEDED = ("patch_embedding/projection/kernel", "stage0_block{i}/attention/qkv/kernel")
_TABLES = (KERAS, TIMM, AUTHORS, HF_SWINV2, HF_SWIN, TORCHVISION_V2, TORCHVISION, KERAS_HUB)
TABLES = tuple(x._replace(needed=NEEDED) for x in _TABLES)
