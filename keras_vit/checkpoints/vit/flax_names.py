"""Tensor names of Vision Transformers in the flax code of vision_transformer and big_vision."""

from keras_vit.checkpoints.tables import POSITIONS, Names, Row


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
            norm1="LayerNorm_0",
            attention="MultiHeadDotProductAttention_0",
            norm2="LayerNorm_1",
            mlp="MlpBlock_0",
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
            norm1="LayerNorm_0",
            attention="MultiHeadDotProductAttention_1",
            norm2="LayerNorm_2",
            mlp="MlpBlock_3",
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
            norm1="LayerNorm_0",
            attention="MultiHeadDotProductAttention_0",
            norm2="LayerNorm_1",
            mlp="MlpBlock_0",
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
