"""A CaiT as timm opens it."""

from keras_vit.checkpoints.cait import names as tables
from keras_vit.checkpoints.cait.read import facts
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.writing import (
    arrays_of,
    one_or_two,
    timm_fields,
    values_of,
    write_json,
    write_safetensors,
)


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
    ratio = config["mlp_dim"] / config["width"]
    arguments = {
        "img_size": size,
        "patch_size": one_or_two(model.patch_size),
        "in_chans": config["num_channels"],
        "embed_dim": config["width"],
        "depth": config["depth"],
        "depth_token_only": config["class_depth"],
        "num_heads": config["num_heads"],
        "mlp_ratio": ratio,
        "mlp_ratio_token_only": ratio,
        "qkv_bias": config["qkv_bias"],
        "init_values": config["layer_scale"],
    }
    fields = timm_fields(
        config, model.preprocessor, "cait_s24_224", "token", config["width"], size, arguments
    )
    write_json(folder / "config.json", fields)
    known = facts({**config, "patch_size": model.patch_size, "position_grid": grid})
    arrays = arrays_of(values_of(model), tables.TIMM_CAIT, known)
    write_safetensors(folder / "model.safetensors", arrays, {"format": "pt"})


def _write_transformers(model, folder):
    raise CheckpointError("transformers has no CaiT; use format='timm'. Received: CaiT")


WRITERS = {"hf": _write_transformers, "timm": _write_timm}
