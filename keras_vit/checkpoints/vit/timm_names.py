"""Tensor names of Vision Transformers in timm, and in files that use the same names."""

from keras_vit.checkpoints.tables import OTHER_HEADS, POSITIONS, Names, Row, both, norm

TIMM = Names(
    name="timm",
    prefixes=("", "timm_model."),
    rows=(
        Row("cls_token", "class_token/tokens", "token"),
        Row("dist_token", "distillation_token/tokens", "token"),
        Row("reg_token", "registers/tokens", "token"),
        Row("pos_embed", POSITIONS, "positions"),
        *both("patch_embed.proj", "patch_embedding/projection", "convolution"),
        *norm("norm_pre", "pre_norm"),
        *norm("blocks.{i}.norm1", "block{i}/norm1"),
        *both("blocks.{i}.attn.qkv", "block{i}/attention/qkv"),
        *norm("blocks.{i}.attn.q_norm", "block{i}/attention/query_norm"),
        *norm("blocks.{i}.attn.k_norm", "block{i}/attention/key_norm"),
        *both("blocks.{i}.attn.proj", "block{i}/attention/proj"),
        Row("blocks.{i}.ls1.gamma", "block{i}/layer_scale1/gamma"),
        *norm("blocks.{i}.norm2", "block{i}/norm2"),
        *both("blocks.{i}.mlp.fc1", "block{i}/mlp/fc1"),
        *both("blocks.{i}.mlp.fc2", "block{i}/mlp/fc2"),
        Row("blocks.{i}.ls2.gamma", "block{i}/layer_scale2/gamma"),
        *norm("norm", "norm"),
        Row("attn_pool.latent", "pool/probe", "token"),
        *both("attn_pool.q", "pool/query"),
        *both("attn_pool.kv", "pool/key_value"),
        *both("attn_pool.proj", "pool/proj"),
        *norm("attn_pool.norm", "pool/norm"),
        *both("attn_pool.mlp.fc1", "pool/mlp/fc1"),
        *both("attn_pool.mlp.fc2", "pool/mlp/fc2"),
        *norm("fc_norm", "fc_norm"),
        *both("pre_logits.fc", "pre_logits"),
        *both("head", "head/dense"),
        *both("head_dist", "distillation_head/dense"),
    ),
    dropped={
        **OTHER_HEADS,
        r"mask_token|masked_embed": "stands for masked patches in pre-training",
        r"decoder_.*|decoder\..*": "the decoder of a masked auto-encoder",
    },
    position_resample="timm",
    prefix_positions=None,
)

# The authors' own files of DINOv2, whose mask token and LayerScale no file of timm has together.
_DINOV2_SWIGLU = (
    *both("blocks.{i}.mlp.w12", "block{i}/mlp/fc1"),
    *both("blocks.{i}.mlp.w3", "block{i}/mlp/fc2"),
)
DINOV2 = TIMM._replace(
    name="dinov2",
    rows=(*TIMM.rows, *_DINOV2_SWIGLU),
    position_resample="dinov2",
    prefix_positions=True,
    square=True,
    needed=(*TIMM.needed, "block{i}/layer_scale1/gamma"),
    marks=("mask_token",),
)
# As in transformers' class below, registers come in after the positions were added.
DINOV2_REGISTERS = DINOV2._replace(
    name="dinov2 with registers",
    rows=(
        *(row for row in DINOV2.rows if row.sources not in ("cls_token", "pos_embed", "reg_token")),
        Row("register_tokens", "registers/tokens", "token"),
        Row(("cls_token", "pos_embed"), "class_token/tokens", "class_token_with_position"),
        Row("pos_embed", "position_embedding/grid", "positions_after_class_token"),
    ),
    position_resample="timm",  # antialias=True and no offset, with registers alone
    prefix_positions=False,
    needed=(*DINOV2.needed, "registers/tokens"),
    marks=(),  # the registers' name is mark enough
)

# The authors' own files of DeiT III have other names for LayerScale.
DEIT3 = TIMM._replace(
    name="deit",
    rows=(
        *TIMM.rows,
        Row("blocks.{i}.gamma_1", "block{i}/layer_scale1/gamma"),
        Row("blocks.{i}.gamma_2", "block{i}/layer_scale2/gamma"),
    ),
    prefix_positions=False,
)
