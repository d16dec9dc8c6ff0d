"""Tensor names of MAE: those of its authors, and of transformers.

transformers 5 has other names in memory than in its files, and calls the blocks of the decoder
`decoder_encoder` in the files that it saves, where files of the hub have `decoder_layers`. All
these are read; the names of the hub are written.
"""

from keras_vit.checkpoints.tables import Names, Row, both, fused, norm
from keras_vit.checkpoints.vit.timm_names import TIMM
from keras_vit.checkpoints.vit.transformers_names import HF_VIT, IN_MEMORY, in_memory

NO_HEAD = ("head", "distillation_head", "pre_logits", "pool", "fc_norm")  # layers of classifiers
POSITIONS = ("decoder_position_embedding/prefix", "decoder_position_embedding/grid")
# What every MAE's file has; the decoder's blocks to their end, or it is no whole one.
NEEDED = (
    "patch_embedding/projection/kernel",
    "block{i}/attention/qkv/kernel",
    "decoder_block{i}/attention/qkv/kernel",
    "decoder_block{i}/mlp/fc2/kernel",
    "decoder_prediction/kernel",
)


def _of_encoder(rows):
    """The rows that are not of a head."""
    return tuple(row for row in rows if str(row.targets).partition("/")[0] not in NO_HEAD)


def _ends(prefix):
    """Rows of the decoder outside of its blocks."""
    return (
        *both(f"{prefix}decoder_embed", "decoder_embedding"),
        Row(f"{prefix}mask_token", "mask_token/token", "token"),
        Row(f"{prefix}decoder_pos_embed", POSITIONS, "positions"),
        *norm(f"{prefix}decoder_norm", "decoder_norm"),
        *both(f"{prefix}decoder_pred", "decoder_prediction"),
    )


def _in_files(there, here):
    """Rows of a block as transformers' files name them."""
    parts = [f"{there}.attention.attention.{x}" for x in ("query", "key", "value")]
    return (
        *norm(f"{there}.layernorm_before", f"{here}/norm1"),
        *fused(parts, f"{here}/attention/qkv"),
        *both(f"{there}.attention.output.dense", f"{here}/attention/proj"),
        *norm(f"{there}.layernorm_after", f"{here}/norm2"),
        *both(f"{there}.intermediate.dense", f"{here}/mlp/fc1"),
        *both(f"{there}.output.dense", f"{here}/mlp/fc2"),
    )


AUTHORS = Names(
    name="mae",
    rows=(
        *_of_encoder(TIMM.rows),
        *_ends(""),
        *norm("decoder_blocks.{i}.norm1", "decoder_block{i}/norm1"),
        *both("decoder_blocks.{i}.attn.qkv", "decoder_block{i}/attention/qkv"),
        *both("decoder_blocks.{i}.attn.proj", "decoder_block{i}/attention/proj"),
        *norm("decoder_blocks.{i}.norm2", "decoder_block{i}/norm2"),
        *both("decoder_blocks.{i}.mlp.fc1", "decoder_block{i}/mlp/fc1"),
        *both("decoder_blocks.{i}.mlp.fc2", "decoder_block{i}/mlp/fc2"),
    ),
    position_resample="timm",
    arguments={"norm_epsilon": 1e-6},
    family="mae",
    needed=NEEDED,
)

# As in the files of the hub. The decoder stands outside of the prefix.
HF_WRITTEN = Names(
    name="transformers vit_mae",
    prefixes=("vit.",),
    rows=(
        *_of_encoder(HF_VIT.rows),
        *_ends("decoder."),
        *_in_files("decoder.decoder_layers.{i}", "decoder_block{i}"),
    ),
    position_resample="hf",
    arguments={"norm_epsilon": 1e-12},
    family="mae",
    needed=NEEDED,
)
HF = HF_WRITTEN._replace(
    rows=(
        *HF_WRITTEN.rows,
        *_in_files("decoder.decoder_encoder.layer.{i}", "decoder_block{i}"),
        *IN_MEMORY,
        *in_memory("decoder.decoder_layers.{i}", "decoder_block{i}"),
    ),
)

TABLES = (AUTHORS, HF)
