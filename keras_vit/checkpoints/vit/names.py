"""How timm, transformers, big_vision and vision_transformer name a Vision Transformer's tensors."""

from keras_vit.checkpoints.tables import Names, Row, both, fused, norm, numbered

POSITIONS = ("position_embedding/prefix", "position_embedding/grid")

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
        r"mask_token": "stands for masked patches in pre-training",
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
)

# transformers: vit, vit_mae and dinov2 share the names outside the blocks and of the attention.
_HF_ENDS = (
    *both("embeddings.patch_embeddings.projection", "patch_embedding/projection", "convolution"),
    *norm("layernorm", "norm"),
)
HF_HEAD = (*both("pooler.dense", "pre_logits"), *both("classifier", "head/dense"))
_HF_TOKENS = (
    Row("embeddings.cls_token", "class_token/tokens", "token"),
    Row("embeddings.position_embeddings", POSITIONS, "positions"),
)
_HF_ATTENTION = (
    *fused(
        [f"encoder.layer.{{i}}.attention.attention.{x}" for x in ("query", "key", "value")],
        "block{i}/attention/qkv",
    ),
    *both("encoder.layer.{i}.attention.output.dense", "block{i}/attention/proj"),
)
_DINOV2_BLOCK = (
    *norm("encoder.layer.{i}.norm1", "block{i}/norm1"),
    *_HF_ATTENTION,
    Row("encoder.layer.{i}.layer_scale1.lambda1", "block{i}/layer_scale1/gamma"),
    *norm("encoder.layer.{i}.norm2", "block{i}/norm2"),
    *both("encoder.layer.{i}.mlp.fc1", "block{i}/mlp/fc1"),
    *both("encoder.layer.{i}.mlp.fc2", "block{i}/mlp/fc2"),
    *both("encoder.layer.{i}.mlp.weights_in", "block{i}/mlp/fc1"),  # SwiGLU
    *both("encoder.layer.{i}.mlp.weights_out", "block{i}/mlp/fc2"),
    Row("encoder.layer.{i}.layer_scale2.lambda1", "block{i}/layer_scale2/gamma"),
)
_MASK_TOKEN = {r"embeddings\.mask_token": "stands for masked patches in pre-training"}

HF_VIT_BODY = (
    *_HF_TOKENS,
    *norm("encoder.layer.{i}.layernorm_before", "block{i}/norm1"),
    *_HF_ATTENTION,
    *norm("encoder.layer.{i}.layernorm_after", "block{i}/norm2"),
    *both("encoder.layer.{i}.intermediate.dense", "block{i}/mlp/fc1"),
    *both("encoder.layer.{i}.output.dense", "block{i}/mlp/fc2"),
    *_HF_ENDS,
)

HF_VIT = Names(
    name="transformers vit",
    prefixes=("", "vit."),
    rows=(*HF_VIT_BODY, *HF_HEAD),
    dropped={
        **_MASK_TOKEN,
        r"decoder\..*": "the decoder of a masked auto-encoder",
        r"decoder_.*": "the decoder of a masked auto-encoder",
    },
    position_resample="hf",
    arguments={"norm_epsilon": 1e-12},
)

HF_DINOV2 = Names(
    name="transformers dinov2",
    prefixes=("", "dinov2."),
    rows=(*_HF_TOKENS, *_DINOV2_BLOCK, *_HF_ENDS, *HF_HEAD),
    dropped=_MASK_TOKEN,
    position_resample="hf",
)

HF_DINOV2_REGISTERS = Names(
    name="transformers dinov2_with_registers",
    prefixes=("", "dinov2_with_registers."),
    rows=(
        Row("embeddings.register_tokens", "registers/tokens", "token"),
        # The registers come between class token and patches after the positions were added, so
        # the class token's own position becomes part of the token.
        Row(
            ("embeddings.cls_token", "embeddings.position_embeddings"),
            "class_token/tokens",
            "class_token_with_position",
        ),
        Row(
            "embeddings.position_embeddings",
            "position_embedding/grid",
            "positions_after_class_token",
        ),
        *_DINOV2_BLOCK,
        *_HF_ENDS,
        *HF_HEAD,
    ),
    dropped=_MASK_TOKEN,
    position_resample="timm",  # transformers: antialias=True, in this class alone
    prefix_positions=False,
)

# transformers: CLIP, SigLIP and SigLIP 2 share the blocks.
_CLIP_BLOCK = (
    *norm("encoder.layers.{i}.layer_norm1", "block{i}/norm1"),
    *fused(
        [f"encoder.layers.{{i}}.self_attn.{x}_proj" for x in "qkv"],
        "block{i}/attention/qkv",
    ),
    *both("encoder.layers.{i}.self_attn.out_proj", "block{i}/attention/proj"),
    *norm("encoder.layers.{i}.layer_norm2", "block{i}/norm2"),
    *both("encoder.layers.{i}.mlp.fc1", "block{i}/mlp/fc1"),
    *both("encoder.layers.{i}.mlp.fc2", "block{i}/mlp/fc2"),
)
_TEXT = {
    r"text_model\..*|text_projection\..*": "the text tower",
    r"logit_scale|logit_bias": "scales the similarity of image and text",
    r"(vision_model\.)?embeddings\.position_ids": "counts from 0; not a weight",
}

HF_CLIP = Names(
    name="transformers clip",
    prefixes=("", "vision_model."),
    rows=(
        Row("embeddings.class_embedding", "class_token/tokens", "single_token"),
        Row("embeddings.position_embedding.weight", POSITIONS, "position_table"),
        *both("embeddings.patch_embedding", "patch_embedding/projection", "convolution"),
        *norm("pre_layrnorm", "pre_norm"),
        *_CLIP_BLOCK,
        *norm("post_layernorm", "norm"),
        *both("classifier", "head/dense"),
    ),
    dropped={
        **_TEXT,
        r"visual_projection\..*": "projects image features to the space shared with text",
    },
    position_resample="hf",
)

HF_SIGLIP = Names(
    name="transformers siglip",
    prefixes=("", "vision_model."),
    rows=(
        Row("embeddings.position_embedding.weight", POSITIONS, "position_table"),
        *both("embeddings.patch_embedding", "patch_embedding/projection", "convolution"),
        *_CLIP_BLOCK,
        *norm("post_layernorm", "norm"),
        Row("head.probe", "pool/probe", "token"),
        Row(
            "head.attention.in_proj_weight",
            ("pool/query/kernel", "pool/key_value/kernel"),
            "linear",
        ),
        Row("head.attention.in_proj_bias", ("pool/query/bias", "pool/key_value/bias")),
        *both("head.attention.out_proj", "pool/proj"),
        *norm("head.layernorm", "pool/norm"),
        *both("head.mlp.fc1", "pool/mlp/fc1"),
        *both("head.mlp.fc2", "pool/mlp/fc2"),
        *both("classifier", "head/dense"),
    ),
    dropped=_TEXT,
    position_resample="hf",
)


def _flax_dense(source, target, layout="plain"):
    return (
        Row(f"{source}/kernel", f"{target}/kernel", layout),
        Row(f"{source}/bias", f"{target}/bias"),
    )


def _flax_norm(source, target):
    return Row(f"{source}/scale", f"{target}/gamma"), Row(f"{source}/bias", f"{target}/beta")


def _flax_attention(source, target, *fusions):
    """Rows of flax's attention, whose projections keep the heads as an axis of their own."""
    rows = [*_flax_dense(f"{source}/out", f"{target}/proj", "heads_in")]
    for parts, fused_name in fusions:
        kernels = tuple(f"{source}/{part}/kernel" for part in parts)
        biases = tuple(f"{source}/{part}/bias" for part in parts)
        rows.append(Row(kernels, f"{target}/{fused_name}/kernel", "heads_out"))
        rows.append(Row(biases, f"{target}/{fused_name}/bias", "heads_bias"))
    return rows


def _flax_block(source, norm1, attention, norm2, mlp):
    """Rows of a block; the modules' numbers differ between the two code bases."""
    return (
        *_flax_norm(f"{source}/{norm1}", "block{i}/norm1"),
        *_flax_attention(
            f"{source}/{attention}", "block{i}/attention", (("query", "key", "value"), "qkv")
        ),
        *_flax_norm(f"{source}/{norm2}", "block{i}/norm2"),
        *_flax_dense(f"{source}/{mlp}/Dense_0", "block{i}/mlp/fc1"),
        *_flax_dense(f"{source}/{mlp}/Dense_1", "block{i}/mlp/fc2"),
    )


_FLAX_ENDS = (
    Row("cls", "class_token/tokens", "token"),
    *_flax_dense("embedding", "patch_embedding/projection", "patches"),
    *_flax_norm("Transformer/encoder_norm", "norm"),
    *_flax_dense("pre_logits", "pre_logits"),
    *_flax_dense("head", "head/dense"),
)
# flax's GELU is the tanh approximation unless told otherwise, and nobody told it.
_FLAX = {"mlp": "gelu_tanh", "norm_epsilon": 1e-6}

VISION_TRANSFORMER = Names(
    name="vision_transformer",
    rows=(
        Row("Transformer/posembed_input/pos_embedding", POSITIONS, "positions"),
        *_flax_block(
            "Transformer/encoderblock_{i}",
            "LayerNorm_0",
            "MultiHeadDotProductAttention_0",
            "LayerNorm_1",
            "MlpBlock_0",
        ),
        *_FLAX_ENDS,
    ),
    position_resample="flax",
    arguments=_FLAX,
)
# Published files, whose flax numbered all modules of a block together.
VISION_TRANSFORMER_PUBLISHED = VISION_TRANSFORMER._replace(
    rows=(
        Row("Transformer/posembed_input/pos_embedding", POSITIONS, "positions"),
        *_flax_block(
            "Transformer/encoderblock_{i}",
            "LayerNorm_0",
            "MultiHeadDotProductAttention_1",
            "LayerNorm_2",
            "MlpBlock_3",
        ),
        *_FLAX_ENDS,
    )
)

BIG_VISION = Names(
    name="big_vision",
    prefixes=("params/", "params/img/", "", "img/"),
    rows=(
        Row("pos_embedding", "position_embedding/grid", "positions"),
        *_flax_block(
            "Transformer/encoderblock_{i}",
            "LayerNorm_0",
            "MultiHeadDotProductAttention_0",
            "LayerNorm_1",
            "MlpBlock_0",
        ),
        *_FLAX_ENDS,
        Row("MAPHead_0/probe", "pool/probe", "token"),
        *_flax_attention(
            "MAPHead_0/MultiHeadDotProductAttention_0",
            "pool",
            (("query",), "query"),
            (("key", "value"), "key_value"),
        ),
        *_flax_norm("MAPHead_0/LayerNorm_0", "pool/norm"),
        *_flax_dense("MAPHead_0/MlpBlock_0/Dense_0", "pool/mlp/fc1"),
        *_flax_dense("MAPHead_0/MlpBlock_0/Dense_1", "pool/mlp/fc2"),
    ),
    dropped={
        r"(params/)?txt/.*": "the text tower",
        r"(params/)?[tb]": "scale the similarity of image and text",
        r"opt/.*": "the optimizer's state",
    },
    position_resample="flax",
    prefix_positions=False,
    arguments={**_FLAX, "position_embedding": "sincos"},  # where none are learned
)

KERAS = Names(
    name="keras",
    rows=(
        *numbered("class_token distillation_token registers", "tokens"),
        *numbered("position_embedding", "grid", "prefix"),
        *numbered("pre_norm norm fc_norm pool/norm block{i}/norm1 block{i}/norm2", "gamma", "beta"),
        *numbered("block{i}/attention/query_norm block{i}/attention/key_norm", "gamma", "beta"),
        *numbered("block{i}/layer_scale1 block{i}/layer_scale2", "gamma"),
        *numbered("patch_embedding/projection pre_logits", "kernel", "bias"),
        *numbered("head/dense distillation_head/dense", "kernel", "bias"),
        *numbered("block{i}/attention/qkv block{i}/attention/proj", "kernel", "bias"),
        *numbered("block{i}/mlp/fc1 block{i}/mlp/fc2 pool/mlp/fc1 pool/mlp/fc2", "kernel", "bias"),
        *numbered("pool", "probe"),
        *numbered("pool/query pool/key_value pool/proj", "kernel", "bias"),
    ),
    dropped={r".*/seed_generator/\d+": "the state of a dropout layer's random numbers"},
)

TABLES = (
    KERAS,
    DINOV2,
    DINOV2_REGISTERS,
    TIMM,
    HF_VIT,
    HF_DINOV2,
    HF_DINOV2_REGISTERS,
    HF_CLIP,
    HF_SIGLIP,
    VISION_TRANSFORMER,
    VISION_TRANSFORMER_PUBLISHED,
    BIG_VISION,
)
