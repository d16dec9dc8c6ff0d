"""Tensor names of DETR: those of its authors, and of transformers.

The names of the backbone follow a prefix of their own, `backbone.0.body.` or
`model.backbone.conv_encoder.model.`; the rest of the model stands beside it.
"""

from keras_vit.checkpoints.resnet.names import COUNTER, TORCHVISION_BODY, TRANSFORMERS_BODY
from keras_vit.checkpoints.tables import Names, Row, both, norm

BLOCK = (
    r"(?<=layer\d\.)\d+(?=\.)"  # of the backbone
    r"|(?<=layers\.)\d+(?=\.(?:layer|shortcut|self_attn|multihead_attn|encoder_attn|final_layer)"
    r"|\.(?:linear|norm|fc|mlp))"
)
PANOPTIC = {
    r"(.*\.)?(mask_head|bbox_attention)\..*": "segments, in a panoptic model, which is not read"
}
PARTS = ("query", "key", "value")


def _authors_attention(source, target):
    return (
        Row(f"{source}.in_proj_weight", tuple(f"{target}/{x}/kernel" for x in PARTS), "linear"),
        Row(f"{source}.in_proj_bias", tuple(f"{target}/{x}/bias" for x in PARTS)),
        *both(f"{source}.out_proj", f"{target}/proj"),
    )


_AUTHORS_ENCODER, _AUTHORS_DECODER = (
    f"transformer.{x}.layers.{{i}}" for x in ("encoder", "decoder")
)
_AUTHORS = (
    *both("input_proj", "input_projection", "convolution"),
    Row("backbone.1.row_embed.weight", "positions/rows", "plain"),
    Row("backbone.1.col_embed.weight", "positions/columns", "plain"),
    *_authors_attention(f"{_AUTHORS_ENCODER}.self_attn", "encoder_block{i}/attention"),
    *both(f"{_AUTHORS_ENCODER}.linear1", "encoder_block{i}/mlp/fc1"),
    *both(f"{_AUTHORS_ENCODER}.linear2", "encoder_block{i}/mlp/fc2"),
    *norm(f"{_AUTHORS_ENCODER}.norm1", "encoder_block{i}/norm1"),
    *norm(f"{_AUTHORS_ENCODER}.norm2", "encoder_block{i}/norm2"),
    Row("query_embed.weight", "queries/embeddings", "plain"),
    *_authors_attention(f"{_AUTHORS_DECODER}.self_attn", "decoder_block{i}/self_attention"),
    *_authors_attention(f"{_AUTHORS_DECODER}.multihead_attn", "decoder_block{i}/cross_attention"),
    *both(f"{_AUTHORS_DECODER}.linear1", "decoder_block{i}/mlp/fc1"),
    *both(f"{_AUTHORS_DECODER}.linear2", "decoder_block{i}/mlp/fc2"),
    *norm(f"{_AUTHORS_DECODER}.norm1", "decoder_block{i}/norm1"),
    *norm(f"{_AUTHORS_DECODER}.norm2", "decoder_block{i}/norm2"),
    *norm(f"{_AUTHORS_DECODER}.norm3", "decoder_block{i}/norm3"),
    *norm("transformer.decoder.norm", "decoder_norm"),
    *both("class_embed", "class_head"),
    *(row for i in range(3) for row in both(f"bbox_embed.layers.{i}", f"box_head/fc{i + 1}")),
)


def _attention(source, target, output):
    parts = [(f"{x[0]}_proj", x) for x in PARTS] + [(output, "proj")]
    return tuple(row for theirs, x in parts for row in both(f"{source}.{theirs}", f"{target}/{x}"))


def _transformers(positions, mlp, output):
    """Rows outside of the backbone; files are written with other names than models have."""
    encoder, decoder = (f"model.{x}.layers.{{i}}" for x in ("encoder", "decoder"))
    return (
        *both("model.input_projection", "input_projection", "convolution"),
        Row(f"{positions}.row_embeddings.weight", "positions/rows", "plain"),
        Row(f"{positions}.column_embeddings.weight", "positions/columns", "plain"),
        *_attention(f"{encoder}.self_attn", "encoder_block{i}/attention", output),
        *both(f"{encoder}.{mlp}fc1", "encoder_block{i}/mlp/fc1"),
        *both(f"{encoder}.{mlp}fc2", "encoder_block{i}/mlp/fc2"),
        *norm(f"{encoder}.self_attn_layer_norm", "encoder_block{i}/norm1"),
        *norm(f"{encoder}.final_layer_norm", "encoder_block{i}/norm2"),
        Row("model.query_position_embeddings.weight", "queries/embeddings", "plain"),
        *_attention(f"{decoder}.self_attn", "decoder_block{i}/self_attention", output),
        *_attention(f"{decoder}.encoder_attn", "decoder_block{i}/cross_attention", output),
        *both(f"{decoder}.{mlp}fc1", "decoder_block{i}/mlp/fc1"),
        *both(f"{decoder}.{mlp}fc2", "decoder_block{i}/mlp/fc2"),
        *norm(f"{decoder}.self_attn_layer_norm", "decoder_block{i}/norm1"),
        *norm(f"{decoder}.encoder_attn_layer_norm", "decoder_block{i}/norm2"),
        *norm(f"{decoder}.final_layer_norm", "decoder_block{i}/norm3"),
        *norm("model.decoder.layernorm", "decoder_norm"),
        *both("class_labels_classifier", "class_head"),
        *(
            row
            for i in range(3)
            for row in both(f"bbox_predictor.layers.{i}", f"box_head/fc{i + 1}")
        ),
    )


_FILES = _transformers("model.position_embedding", mlp="", output="out_proj")
_MODELS = _transformers("model.position_embedding", mlp="mlp.", output="o_proj")

AUTHORS = Names(
    name="facebookresearch/detr",
    family="detr",
    prefixes=("backbone.0.body.",),
    rows=(*TORCHVISION_BODY, *_AUTHORS),
    dropped={**COUNTER, **PANOPTIC},
    block=BLOCK,
    needed=("stage0_block{i}/conv1/kernel", "queries/embeddings", "class_head/kernel"),
)
TRANSFORMERS_TIMM = AUTHORS._replace(
    name="transformers detr, timm's backbone",
    prefixes=("model.backbone.conv_encoder.model.",),
    rows=(*TORCHVISION_BODY, *_FILES),
)
TRANSFORMERS = TRANSFORMERS_TIMM._replace(
    name="transformers detr", rows=(*TRANSFORMERS_BODY, *_FILES)
)
# As they are in memory since version 5, where a state dict may have been saved.
MODEL_TIMM = TRANSFORMERS_TIMM._replace(
    name="transformers detr in memory, timm's backbone",
    prefixes=("model.backbone.model.",),
    rows=(*TORCHVISION_BODY, *_MODELS),
)
MODEL = MODEL_TIMM._replace(name="transformers detr in memory", rows=(*TRANSFORMERS_BODY, *_MODELS))

# Before version 5 learned positions had another place.
_EARLIER = tuple(
    row._replace(sources=row.sources.replace("model.", "model.backbone.", 1))
    for row in _FILES
    if row.targets in ("positions/rows", "positions/columns")
)
TABLES = (
    AUTHORS,
    *(x._replace(rows=(*x.rows, *_EARLIER)) for x in (TRANSFORMERS_TIMM, TRANSFORMERS)),
    MODEL_TIMM,
    MODEL,
)
