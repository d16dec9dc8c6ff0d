"""Writes a Pyramid Vision Transformer for transformers; the second version shares its helpers."""

from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.fields import write_fields
from keras_vit.checkpoints.pvt import names as tables
from keras_vit.checkpoints.pvt.fields import HF
from keras_vit.checkpoints.pvt.read import facts
from keras_vit.checkpoints.writing import arrays_of, values_of, write_transformers


def _write_transformers(model, folder):
    config, name = config_and_class(model, "Pvt")
    height, width = image_size(model)
    refuse(config, name, patch_sizes=(4, 2, 2, 2))
    refuse({"image_size": (height, width)}, name, image_size=(height, height))
    said = {**config, "image_size": height, "strides": config["patch_sizes"]}
    fields = {**fields_of("pvt", name, said), "num_labels": config["num_classes"] or 0}
    write_transformers(model, folder, fields, arrays(model, tables.HF_PVT))


def _write_timm(model, folder):
    raise CheckpointError(
        "timm has no first PVT; use format='hf'. Received: PyramidVisionTransformer"
    )


def config_and_class(model, name):
    """A model's configuration and the class of transformers, which starts with `name`, for it."""
    config = model.get_config()
    name += "Model" if config["num_classes"] is None else "ForImageClassification"
    refuse(config, name, include_preprocessing=False, conv_norm_epsilon=config["norm_epsilon"])
    refuse({"stages": len(config["depths"])}, name, stages=4)
    ratios = list(config["mlp_ratios"])
    refuse({"mlp_ratios": ratios}, name, mlp_ratios=[int(ratio) for ratio in ratios])
    return config, name


def fields_of(kind, name, said):
    """Fields of transformers' `config.json` for the arguments `said`."""
    return {
        "model_type": kind,
        "architectures": [name],
        "num_encoder_blocks": len(said["depths"]),
        "hidden_act": "gelu",
        **write_fields(HF, said, kind),
    }


def refuse(config, name, **wanted):
    """Raises if the model has another value for one of the `wanted` arguments."""
    for key, value in wanted.items():
        if config[key] != value:
            raise CheckpointError(
                f"{name} cannot be what this model is; format='keras' keeps all. "
                f"Expected: {key}={value!r}. Received: {key}={config[key]!r}"
            )


def arrays(model, table):
    """The model's weights under the names and in the layouts of a table: {name: array}."""
    return arrays_of(values_of(model), table, facts({**model.get_config(), **_grid(model)}))


def image_size(model):
    """(H, W) in pixels: of the model, or where it takes any size of its positions, or 224."""
    height, width = model.input.shape[1:3]
    if height is not None:
        return height, width
    patch = model.get_config()["patch_sizes"][0]
    grid = _grid(model).get("position_grid")
    return tuple(side * patch for side in grid) if grid else (224, 224)


def _grid(model):
    """The grid of the first stage's positions, or None without any."""
    layers = [x for x in model.layers if x.name == "stage0_position_embedding"]
    return {"position_grid": layers[0].grid_size} if layers else {}


WRITERS = {"hf": _write_transformers, "timm": _write_timm}
