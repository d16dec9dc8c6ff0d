"""Tensor names of hybrids of CNN and Vision Transformer, in timm and in the authors' files.

The transformer's names are those of the Vision Transformer; here are those of the CNN before it.
"""

from keras_vit.checkpoints.tables import Row, norm, numbered
from keras_vit.checkpoints.vit import names as tables

STAGES = range(4)
UNITS = range(36)  # of a stage, as many as ResNet-152 has in its longest
_HYBRID = {
    "family": "hybrid",
    "prefix_positions": True,
    "needed": (
        "stem_conv/kernel",
        "patch_embedding/projection/kernel",
        "block{i}/attention/qkv/kernel",
    ),
}


def _timm_block(source, target):
    parts = [(f"conv{n}", f"norm{n}", f"conv{n}", f"norm{n}") for n in (1, 2, 3)]
    parts.append(("downsample.conv", "downsample.norm", "conv_proj", "norm_proj"))
    return tuple(
        row
        for conv, normalisation, our_conv, our_norm in parts
        for row in (
            Row(f"{source}.{conv}.weight", f"{target}/{our_conv}/kernel", "kernel"),
            *norm(f"{source}.{normalisation}", f"{target}/{our_norm}"),
        )
    )


def _timm_stem(source):
    return (
        Row(f"{source}.conv.weight", "stem_conv/kernel", "kernel"),
        *norm(f"{source}.norm", "stem_norm"),
    )


TIMM_HYBRID = tables.TIMM._replace(
    name="timm hybrid",
    rows=(
        *tables.TIMM.rows,
        *_timm_stem("patch_embed.backbone.stem"),
        *(
            row
            for s in STAGES
            for row in _timm_block(
                f"patch_embed.backbone.stages.{s}.blocks.{{i}}", f"stage{s}_block{{i}}"
            )
        ),
    ),
    arguments={"convention": "timm"},
    **_HYBRID,
)
# Without stages the stem is all there is, and timm gives it no name of its own.
TIMM_ROOT = tables.TIMM._replace(
    name="timm hybrid",
    rows=(*tables.TIMM.rows, *_timm_stem("patch_embed.backbone")),
    arguments={"convention": "timm"},
    **_HYBRID,
)


def _flax_group_norm(source, target):
    """Rows of a group normalisation, whose weights may be (1, 1, 1, C)."""
    return (
        Row(f"{source}/scale", f"{target}/gamma", "flat"),
        Row(f"{source}/bias", f"{target}/beta", "flat"),
    )


def _flax_unit(source, target):
    return tuple(
        row
        for part in ("1", "2", "3", "_proj")
        for row in (
            Row(f"{source}/conv{part}/kernel", f"{target}/conv{part}/kernel", "plain"),
            *_flax_group_norm(f"{source}/gn{part}", f"{target}/norm{part}"),
        )
    )


_FLAX_STEM = (
    Row("conv_root/kernel", "stem_conv/kernel", "plain"),
    *_flax_group_norm("gn_root", "stem_norm"),
    *(
        row
        for s in STAGES
        for i in UNITS  # counted from 1 there
        for row in _flax_unit(f"block{s + 1}/unit{i + 1}", f"stage{s}_block{i:02d}")
    ),
)
VISION_TRANSFORMER_HYBRIDS = tuple(
    table._replace(
        name="vision_transformer hybrid",
        rows=(*table.rows, *_FLAX_STEM),
        arguments={**table.arguments, "convention": "authors"},
        **_HYBRID,
    )
    for table in (tables.VISION_TRANSFORMER, tables.VISION_TRANSFORMER_PUBLISHED)
)

KERAS_HYBRID = tables.KERAS._replace(
    rows=(
        *tables.KERAS.rows,
        *numbered("stem_conv", "kernel"),
        *numbered("stem_norm", "gamma", "beta"),
        *(
            row
            for s in range(10)  # however many there are
            for part in ("1", "2", "3", "_proj")
            for row in (
                *numbered(f"stage{s}_block{{i}}/conv{part}", "kernel"),
                *numbered(f"stage{s}_block{{i}}/norm{part}", "gamma", "beta"),
            )
        ),
    ),
    **_HYBRID,
)

TABLES = (TIMM_HYBRID, TIMM_ROOT, *VISION_TRANSFORMER_HYBRIDS, KERAS_HYBRID)
