"""Tensor names of Vision Transformers in transformers, where every class has its own."""

from keras_vit.checkpoints.tables import POSITIONS, Names, Row, both, fused, norm

# transformers: vit, vit_mae and dinov2 share the names outside the blocks and of the attention.
_HF_ENDS = (
    *both("embeddings.patch_embeddings.projection", "patch_embedding/projection", "convolution"),
    *norm("layernorm", "norm"),
)
_HF_HEAD = (*both("pooler.dense", "pre_logits"), *both("classifier", "head/dense"))
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

_HF_VIT_BODY = (
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
    rows=(*_HF_VIT_BODY, *_HF_HEAD),
    dropped={
        **_MASK_TOKEN,
        r"decoder\..*": "the decoder of a masked auto-encoder",
        r"decoder_.*": "the decoder of a masked auto-encoder",
    },
    position_resample="hf",
    arguments={"norm_epsilon": 1e-12},
)


def in_memory(there, here):
    """Rows of a block of ViT or ViTMAE as transformers 5 has it in memory, but for its norms.

    Its own files keep the older names; a state dict that was saved by hand has these.
    """
    return (
        *fused([f"{there}.attention.{x}_proj" for x in "qkv"], f"{here}/attention/qkv"),
        *both(f"{there}.attention.o_proj", f"{here}/attention/proj"),
        *both(f"{there}.mlp.fc1", f"{here}/mlp/fc1"),
        *both(f"{there}.mlp.fc2", f"{here}/mlp/fc2"),
    )


IN_MEMORY = (
    *norm("layers.{i}.layernorm_before", "block{i}/norm1"),
    *norm("layers.{i}.layernorm_after", "block{i}/norm2"),
    *in_memory("layers.{i}", "block{i}"),
)
# Both are read, and the older names are written.
HF_VIT_READ = HF_VIT._replace(rows=(*HF_VIT.rows, *IN_MEMORY))

HF_DINOV2 = Names(
    name="transformers dinov2",
    prefixes=("", "dinov2."),
    rows=(*_HF_TOKENS, *_DINOV2_BLOCK, *_HF_ENDS, *_HF_HEAD),
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
        *_HF_HEAD,
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

_DEIT_BODY = (
    Row("embeddings.distillation_token", "distillation_token/tokens", "token"),
    *_HF_VIT_BODY,
)

# transformers: DeiTModel and DeiTForImageClassification, whose head is on the class token alone
HF_DEIT = HF_VIT._replace(
    name="transformers deit",
    prefixes=("", "deit."),
    rows=(*_DEIT_BODY, *_HF_HEAD),
    arguments={**HF_VIT.arguments, "distillation_head": False},
)
# DeiTForImageClassificationWithTeacher
HF_DEIT_DISTILLED = HF_VIT._replace(
    name="transformers deit with teacher",
    prefixes=("deit.",),
    rows=(
        *_DEIT_BODY,
        *both("cls_classifier", "head/dense"),
        *both("distillation_classifier", "distillation_head/dense"),
    ),
)
