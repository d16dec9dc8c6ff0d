"""Writes a ResNet for transformers or timm."""

from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.fields import write_fields
from keras_vit.checkpoints.resnet import names as tables
from keras_vit.checkpoints.resnet.fields import DEFAULTS, HF, TIMM
from keras_vit.checkpoints.resnet.read import facts
from keras_vit.checkpoints.writing import arrays_of, values_of, write_timm, write_transformers
from keras_vit.layers.resnet_block import EXPANSION


def _write_transformers(model, folder):
    config = model.get_config()
    name = "ResNet" + ("Model" if config["num_classes"] is None else "ForImageClassification")
    _refuse(config, name, include_preprocessing=False, dilation=False)
    fields = {
        "model_type": "resnet",
        "architectures": [name],
        **DEFAULTS,
        **write_fields(HF, config),
    }
    write_transformers(model, folder, fields, _arrays(model, config, tables.TRANSFORMERS))


def _write_timm(model, folder):
    config = model.get_config()
    basic = config["block"] == "basic"
    _refuse(config, "timm's ResNet", include_preprocessing=False, stem_width=64)
    _refuse({"stages": len(config["depths"])}, "timm's ResNet", stages=4)
    expansion = 1 if basic else EXPANSION
    channels = [width // expansion for width in config["widths"]]
    size = model.input.shape[1:3]
    write_timm(
        model,
        folder,
        _arrays(model, config, tables.TORCHVISION),
        architecture="resnet18" if basic else "resnet50",
        arguments=write_fields(TIMM, {**config, "channels": channels}),
        pool="avg",
        features=config["widths"][-1],
        image_size=(224, 224) if None in size else size,
        classifier="fc",
        first_conv="conv1",
    )


def _arrays(model, config, table):
    return arrays_of(values_of(model), table, facts(config))


def _refuse(config, name, **wanted):
    """Raises if the model has another value for one of the `wanted` arguments."""
    for key, value in wanted.items():
        if config[key] != value:
            raise CheckpointError(
                f"{name} cannot be what this model is; format='keras' keeps all. "
                f"Expected: {key}={value!r}. Received: {key}={config[key]!r}"
            )


WRITERS = {"hf": _write_transformers, "timm": _write_timm}
