"""Writes a CaiT for timm."""

from keras_vit.checkpoints.cait import names as tables
from keras_vit.checkpoints.cait.fields import TIMM
from keras_vit.checkpoints.cait.read import facts
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.fields import write_fields
from keras_vit.checkpoints.writing import arrays_of, values_of, write_timm


def _write_timm(model, folder):
    config = model.get_config()
    for key, value in {"mlp": "gelu", "norm_epsilon": 1e-6, "include_preprocessing": False}.items():
        if config[key] != value:
            raise CheckpointError(
                "timm's Cait cannot be what this model is; format='keras' keeps all. "
                f"Expected: {key}={value!r}. Received: {key}={config[key]!r}"
            )
    grid = model.get_layer("position_embedding").grid_size
    size = [side * patch for side, patch in zip(grid, model.patch_size, strict=True)]
    known = {**config, "patch_size": model.patch_size, "position_grid": grid}
    ratio = config["mlp_dim"] / config["width"]
    write_timm(
        model,
        folder,
        arrays_of(values_of(model), tables.TIMM_CAIT, facts(known)),
        architecture="cait_s24_224",
        arguments=write_fields(TIMM, {**known, "image_size": size, "mlp_ratio": ratio}),
        pool="token",
        features=config["width"],
        image_size=size,
    )


def _write_transformers(model, folder):
    raise CheckpointError("transformers has no CaiT; use format='timm'. Received: CaiT")


WRITERS = {"hf": _write_transformers, "timm": _write_timm}
