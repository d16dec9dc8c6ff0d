"""A Pyramid Vision Transformer as transformers or timm open it."""

from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.pvt import names as tables
from keras_vit.checkpoints.pvt.read import facts
from keras_vit.checkpoints.pvt_v2 import names as tables_v2
from keras_vit.checkpoints.writing import (
    arrays_of,
    labels_for_transformers,
    processor_for_transformers,
    timm_fields,
    values_of,
    write_json,
    write_safetensors,
)
from keras_vit.models.pvt import PyramidVisionTransformer


def _write_transformers(model, folder):
    config, first = model.get_config(), isinstance(model, PyramidVisionTransformer)
    kind, name = ("pvt", "Pvt") if first else ("pvt_v2", "PvtV2")
    headless = config["num_classes"] is None
    name += "Model" if headless else "ForImageClassification"
    _refuse(config, name, include_preprocessing=False, conv_norm_epsilon=config["norm_epsilon"])
    _refuse({"stages": len(config["depths"])}, name, stages=4)
    whole = [int(ratio) for ratio in config["mlp_ratios"]]
    _refuse({"mlp_ratios": list(config["mlp_ratios"])}, name, mlp_ratios=whole)
    height, width = _image_size(model)
    fields = {
        "model_type": kind,
        "architectures": [name],
        "num_encoder_blocks": len(config["depths"]),
        "depths": list(config["depths"]),
        "hidden_sizes": list(config["widths"]),
        "num_attention_heads": list(config["num_heads"]),
        "mlp_ratios": whole,
        "patch_sizes": list(config["patch_sizes"]),
        "num_channels": config["num_channels"],
        "qkv_bias": config["qkv_bias"],
        "layer_norm_eps": config["norm_epsilon"],
        "hidden_act": "gelu",
        "hidden_dropout_prob": config["dropout_rate"],
        "attention_probs_dropout_prob": config["attention_dropout_rate"],
        "drop_path_rate": config["drop_path_rate"],
        "dtype": "float32",
        **labels_for_transformers(config),
    }
    if first:
        _refuse(config, name, patch_sizes=(4, 2, 2, 2))
        _refuse({"image_size": (height, width)}, name, image_size=(height, height))
        fields.update(
            image_size=height,
            strides=list(config["patch_sizes"]),
            sequence_reduction_ratios=list(config["reductions"]),
            num_labels=config["num_classes"] or 0,
        )
    else:
        if config["pool_size"] is not None:
            _refuse(config, name, pool_size=7)
        fields.update(
            image_size=[height, width],
            strides=list(config["strides"]),
            sr_ratios=list(config["reductions"]),
            linear_attention=config["pool_size"] is not None,
        )
    table = tables.HF_PVT if first else tables_v2.HF_PVT_V2
    arrays = {
        key if headless or key.startswith("classifier") else f"{kind}.{key}": array
        for key, array in _arrays(model, table).items()
    }
    write_json(folder / "config.json", fields)
    if model.preprocessor is not None:
        processor = processor_for_transformers(model.preprocessor)
        write_json(folder / "preprocessor_config.json", processor)
    write_safetensors(folder / "model.safetensors", arrays, {"format": "pt"})


def _write_timm(model, folder):
    config = model.get_config()
    if isinstance(model, PyramidVisionTransformer):
        raise CheckpointError(
            "timm has no first PVT; use format='hf'. Received: PyramidVisionTransformer"
        )
    name = "timm's pvt_v2"
    _refuse(config, name, include_preprocessing=False, norm_epsilon=1e-6, conv_norm_epsilon=1e-5)
    _refuse(config, name, patch_sizes=(7, 3, 3, 3), strides=(4, 2, 2, 2))
    linear = config["pool_size"] is not None
    if linear:
        _refuse(config, name, pool_size=7)
    arguments = {
        "depths": list(config["depths"]),
        "embed_dims": list(config["widths"]),
        "num_heads": list(config["num_heads"]),
        "sr_ratios": list(config["reductions"]),
        "mlp_ratios": list(config["mlp_ratios"]),
        "in_chans": config["num_channels"],
        "qkv_bias": config["qkv_bias"],
        "linear": linear,
    }
    architecture = "pvt_v2_b2_li" if linear else "pvt_v2_b2"
    width, size = config["widths"][-1], _image_size(model)
    fields = timm_fields(config, model.preprocessor, architecture, "avg", width, size, arguments)
    write_json(folder / "config.json", fields)
    arrays = _arrays(model, tables_v2.TIMM_PVT_V2)
    write_safetensors(folder / "model.safetensors", arrays, {"format": "pt"})


def _refuse(config, name, **wanted):
    """Raises for the first of the `wanted` arguments that the model has otherwise."""
    for key, value in wanted.items():
        if config[key] != value:
            raise CheckpointError(
                f"{name} cannot be what this model is; format='keras' keeps all. "
                f"Expected: {key}={value!r}. Received: {key}={config[key]!r}"
            )


def _arrays(model, table):
    return arrays_of(values_of(model), table, facts({**model.get_config(), **_grid(model)}))


def _grid(model):
    """The grid of the first stage's positions, where there are any."""
    layers = [x for x in model.layers if x.name == "stage0_position_embedding"]
    return {"position_grid": layers[0].grid_size} if layers else {}


def _image_size(model):
    """(H, W) in pixels: of the model, or where it takes any size of its positions, or 224."""
    height, width = model.input.shape[1:3]
    if height is not None:
        return height, width
    patch = model.get_config()["patch_sizes"][0]
    grid = _grid(model).get("position_grid")
    return tuple(side * patch for side in grid) if grid else (224, 224)


WRITERS = {"hf": _write_transformers, "timm": _write_timm}
