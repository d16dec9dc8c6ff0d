"""Tensor names of CaiT: its authors and timm use the same."""

from keras_vit.checkpoints.tables import Names, Row, both, fused, norm, numbered

_CAIT = {
    "family": "cait",
    "needed": (
        "patch_embedding/projection/kernel",
        "block{i}/attention/logits_projection/kernel",
        "class_block{i}/attention/query/kernel",
    ),
}


def _block(source, target):
    """What both kinds of blocks have, but for the projections before the attention."""
    return (
        *norm(f"{source}.norm1", f"{target}/norm1"),
        *both(f"{source}.attn.proj", f"{target}/attention/proj"),
        Row(f"{source}.gamma_1", f"{target}/layer_scale1/gamma"),
        *norm(f"{source}.norm2", f"{target}/norm2"),
        *both(f"{source}.mlp.fc1", f"{target}/mlp/fc1"),
        *both(f"{source}.mlp.fc2", f"{target}/mlp/fc2"),
        Row(f"{source}.gamma_2", f"{target}/layer_scale2/gamma"),
    )


_TOKEN_ONLY = "blocks_token_only.{i}"

TIMM_CAIT = Names(
    name="timm cait",
    prefixes=("", "module.", "timm_model."),  # the authors saved a distributed model
    rows=(
        *both("patch_embed.proj", "patch_embedding/projection", "convolution"),
        Row("pos_embed", "position_embedding/grid", "positions"),
        *_block("blocks.{i}", "block{i}"),
        *both("blocks.{i}.attn.qkv", "block{i}/attention/qkv"),
        *both("blocks.{i}.attn.proj_l", "block{i}/attention/logits_projection"),
        *both("blocks.{i}.attn.proj_w", "block{i}/attention/weights_projection"),
        Row("cls_token", "class_token/tokens", "token"),
        *_block(_TOKEN_ONLY, "class_block{i}"),
        *both(f"{_TOKEN_ONLY}.attn.q", "class_block{i}/attention/query"),
        *fused(
            [f"{_TOKEN_ONLY}.attn.k", f"{_TOKEN_ONLY}.attn.v"],
            "class_block{i}/attention/key_value",
        ),
        *norm("norm", "norm"),
        *both("head", "head/dense"),
    ),
    prefix_positions=False,
    arguments={"norm_epsilon": 1e-6},
    block=r"(?<=blocks\.)\d+(?=\.)|(?<=blocks_token_only\.)\d+(?=\.)",
    **_CAIT,
)

KERAS_CAIT = Names(
    name="keras",
    rows=(
        *numbered("class_token", "tokens"),
        *numbered("position_embedding", "grid"),
        *numbered("patch_embedding/projection head/dense", "kernel", "bias"),
        *numbered("norm", "gamma", "beta"),
        *(
            row
            for block in ("block{i}", "class_block{i}")
            for row in (
                *numbered(f"{block}/norm1 {block}/norm2", "gamma", "beta"),
                *numbered(f"{block}/layer_scale1 {block}/layer_scale2", "gamma"),
                *numbered(
                    f"{block}/attention/qkv {block}/attention/query {block}/attention/key_value "
                    f"{block}/attention/logits_projection {block}/attention/weights_projection "
                    f"{block}/attention/proj {block}/mlp/fc1 {block}/mlp/fc2",
                    "kernel",
                    "bias",
                ),
            )
        ),
    ),
    dropped={r".*/seed_generator/\d+": "the state of a dropout layer's random numbers"},
    block=r"(?<=^block)\d+(?=/)|(?<=^class_block)\d+(?=/)",
    **_CAIT,
)

TABLES = (TIMM_CAIT, KERAS_CAIT)
