"""Writes a Pyramid Vision Transformer v2 for transformers or timm."""

from keras_vit.checkpoints.fields import write_fields
from keras_vit.checkpoints.pvt.write import (
    arrays,
    config_and_class,
    fields_of,
    image_size,
    refuse,
)
from keras_vit.checkpoints.pvt_v2 import names as tables
from keras_vit.checkpoints.pvt_v2.fields import TIMM
from keras_vit.checkpoints.writing import write_timm, write_transformers


def _write_transformers(model, folder):
    config, name = config_and_class(model, "PvtV2")
    linear = config["pool_size"] is not None
    if linear:
        refuse(config, name, pool_size=7)
    fields = fields_of("pvt_v2", name, {**config, "image_size": image_size(model)})
    fields["linear_attention"] = linear
    write_transformers(model, folder, fields, arrays(model, tables.HF_PVT_V2))


def _write_timm(model, folder):
    config, name = model.get_config(), "timm's pvt_v2"
    refuse(config, name, include_preprocessing=False, norm_epsilon=1e-6, conv_norm_epsilon=1e-5)
    refuse(config, name, patch_sizes=(7, 3, 3, 3), strides=(4, 2, 2, 2))
    linear = config["pool_size"] is not None
    if linear:
        refuse(config, name, pool_size=7)
    write_timm(
        model,
        folder,
        arrays(model, tables.TIMM_PVT_V2),
        architecture="pvt_v2_b2_li" if linear else "pvt_v2_b2",
        arguments=write_fields(TIMM, config),
        pool="avg",
        features=config["widths"][-1],
        image_size=image_size(model),
    )


WRITERS = {"hf": _write_transformers, "timm": _write_timm}
