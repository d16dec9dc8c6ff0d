"""Tensor names of the Pyramid Vision Transformer, in transformers and in the authors' files.

Every table is the same few rows for each of four stages. The last stage of the first PVT has a
class token and plain attention, whose projection is one here and several there.
"""

from keras_vit.checkpoints.tables import Names, Row, both, fused, norm, numbered

STAGES = range(4)
LAST = STAGES[-1]


def block_rows(source, target, norms, attention, reduction, mlp):
    """Rows of a block.

    Args:
        source, target: names of the block there and here.
        norms: two names.
        attention: names of the projections: a tuple for the query, one for key and value, and the
            output.
        reduction: names of the convolution and of its normalisation.
        mlp: names of the two linear layers.
    """
    query, key_value, proj = attention
    return (
        *norm(f"{source}.{norms[0]}", f"{target}/norm1"),
        *fused([f"{source}.{x}" for x in query], f"{target}/attention/query"),
        *fused([f"{source}.{x}" for x in key_value], f"{target}/attention/key_value"),
        *both(f"{source}.{proj}", f"{target}/attention/proj"),
        *both(f"{source}.{reduction[0]}", f"{target}/attention/reduce", "convolution"),
        *norm(f"{source}.{reduction[1]}", f"{target}/attention/norm"),
        *norm(f"{source}.{norms[1]}", f"{target}/norm2"),
        *both(f"{source}.{mlp[0]}", f"{target}/mlp/fc1"),
        *both(f"{source}.{mlp[1]}", f"{target}/mlp/fc2"),
    )


def _plain_block(source, target, norms, attention, reduction, mlp):
    """Rows of a block of the last stage of the first PVT."""
    query, key_value, proj = attention
    return (
        *norm(f"{source}.{norms[0]}", f"{target}/norm1"),
        *fused([f"{source}.{x}" for x in (*query, *key_value)], f"{target}/attention/qkv"),
        *both(f"{source}.{proj}", f"{target}/attention/proj"),
        *norm(f"{source}.{norms[1]}", f"{target}/norm2"),
        *both(f"{source}.{mlp[0]}", f"{target}/mlp/fc1"),
        *both(f"{source}.{mlp[1]}", f"{target}/mlp/fc2"),
    )


def _positions(source, stage):
    grid = f"stage{stage}_position_embedding/grid"
    prefix = f"stage{stage}_position_embedding/prefix"
    return Row(source, (prefix, grid) if stage == LAST else grid, "positions")


# What both the authors and timm call the parts of a block
AUTHORS_PARTS = {
    "norms": ("norm1", "norm2"),
    "attention": (("attn.q",), ("attn.kv",), "attn.proj"),
    "reduction": ("attn.sr", "attn.norm"),
    "mlp": ("mlp.fc1", "mlp.fc2"),
}
_HF_V1 = {
    "norms": ("layer_norm_1", "layer_norm_2"),
    "attention": (
        ("attention.self.query",),
        ("attention.self.key", "attention.self.value"),
        "attention.output.dense",
    ),
    "reduction": ("attention.self.sequence_reduction", "attention.self.layer_norm"),
    "mlp": ("mlp.dense1", "mlp.dense2"),
}
_PVT = {
    "family": "pvt",
    "needed": (
        "stage0_patch_embedding/projection/kernel",
        "stage0_block{i}/attention/query/kernel",
        "class_token/tokens",
    ),
    "position_resample": "bilinear",
}
# The authors and timm leave PyTorch's epsilon to the normalisations after convolutions.
TWO_EPSILONS = {"norm_epsilon": 1e-6, "conv_norm_epsilon": 1e-5}
ONE_EPSILON = {"norm_epsilon": 1e-6, "conv_norm_epsilon": 1e-6}


def _v1_rows(*, embedding, projection, embedding_norm, positions, class_token, block, names):
    rows = [Row(class_token, "class_token/tokens", "token")]
    for s in STAGES:
        patches, target = embedding(s), f"stage{s}"
        rows += [
            *both(f"{patches}.{projection}", f"{target}_patch_embedding/projection", "convolution"),
            *norm(f"{patches}.{embedding_norm}", f"{target}_embedding_norm"),
            _positions(positions(s), s),
            *(_plain_block if s == LAST else block_rows)(block(s), f"{target}_block{{i}}", **names),
        ]
    return tuple(rows)


AUTHORS_PVT = Names(
    name="whai362/PVT",
    rows=(
        *_v1_rows(
            embedding=lambda s: f"patch_embed{s + 1}",
            projection="proj",
            embedding_norm="norm",
            positions=lambda s: f"pos_embed{s + 1}",
            class_token="cls_token",
            block=lambda s: f"block{s + 1}.{{i}}",
            names=AUTHORS_PARTS,
        ),
        *norm("norm", "norm"),
        *both("head", "head/dense"),
    ),
    block=r"(?<=block\d\.)\d+(?=\.)",
    arguments=TWO_EPSILONS,
    **_PVT,
)
HF_PVT = Names(
    name="transformers pvt",
    prefixes=("", "pvt."),
    rows=(
        *_v1_rows(
            embedding=lambda s: f"encoder.patch_embeddings.{s}",
            projection="projection",
            embedding_norm="layer_norm",
            positions=lambda s: f"encoder.patch_embeddings.{s}.position_embeddings",
            class_token=f"encoder.patch_embeddings.{LAST}.cls_token",
            block=lambda s: f"encoder.block.{s}.{{i}}",
            names=_HF_V1,
        ),
        *norm("encoder.layer_norm", "norm"),
        *both("classifier", "head/dense"),
    ),
    block=r"(?<=encoder\.block\.\d\.)\d+(?=\.)",
    arguments=ONE_EPSILON,
    **_PVT,
)


def _keras_stage(s):
    block = f"stage{s}_block{{i}}"
    return (
        *numbered(f"stage{s}_patch_embedding/projection", "kernel", "bias"),
        *numbered(f"stage{s}_embedding_norm stage{s}_norm", "gamma", "beta"),
        *numbered(f"stage{s}_position_embedding", "grid", "prefix"),
        *numbered(f"{block}/norm1 {block}/norm2 {block}/attention/norm", "gamma", "beta"),
        *numbered(
            f"{block}/attention/query {block}/attention/key_value {block}/attention/qkv "
            f"{block}/attention/proj {block}/attention/reduce "
            f"{block}/mlp/fc1 {block}/mlp/fc2 {block}/mlp/depthwise",
            "kernel",
            "bias",
        ),
    )


KERAS_PVT = Names(
    name="keras",
    rows=(
        *numbered("class_token", "tokens"),
        *(row for s in range(10) for row in _keras_stage(s)),  # however many there are
        *numbered("norm", "gamma", "beta"),
        *numbered("head/dense", "kernel", "bias"),
    ),
    dropped={r".*/seed_generator/\d+": "the state of a dropout layer's random numbers"},
    block=r"(?<=^stage\d_block)\d+(?=/)",
    **_PVT,
)
TABLES = (AUTHORS_PVT, HF_PVT, KERAS_PVT)
