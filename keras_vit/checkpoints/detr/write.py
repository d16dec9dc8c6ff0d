"""Writes a DETR on a ResNet for transformers, or with the names of its authors."""

import json

from keras_vit.checkpoints.detr import names
from keras_vit.checkpoints.detr.fields import ACTIVATIONS as ACTIVATIONS
from keras_vit.checkpoints.detr.fields import HF, PAIRS
from keras_vit.checkpoints.detr.read import arguments_of, facts
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.fields import write_fields
from keras_vit.checkpoints.pictures.read import RESAMPLING
from keras_vit.checkpoints.resnet.fields import DEFAULTS as OF_RESNET
from keras_vit.checkpoints.writing import arrays_of, values_of, write_safetensors
from keras_vit.models.resnet import RESNET

_BODY = ("conv1.", "bn1.", "layer", "embedder.", "encoder.stages.")  # names of the backbone's


def _write_transformers(model, folder):
    arguments = arguments_of(model)
    timm = arguments["dilation"]  # transformers dilates timm's ResNets alone
    wanted = {"include_preprocessing": False, "num_channels": 3}
    _refuse(arguments, "transformers' DETR", wanted)
    backbone = _sizes(arguments)
    if timm and backbone not in _TIMM:
        raise CheckpointError(
            "transformers' DETR dilates ResNets that timm has a name for; format='keras' keeps "
            f"any. Expected: {', '.join(_TIMM.values())}. Received: {backbone}"
        )
    table = names.TRANSFORMERS_TIMM if timm else names.TRANSFORMERS
    labels = arguments["class_names"] or [f"LABEL_{i}" for i in range(arguments["num_classes"])]
    fields = {
        "model_type": "detr",
        "architectures": ["DetrForObjectDetection"],
        **write_fields(HF, arguments),
        **_backbone(arguments, _TIMM[backbone] if timm else None),
        "auxiliary_loss": False,  # of which transformers would normalise once too often
        "id2label": {str(i): name for i, name in enumerate(labels)},
        "label2id": {name: i for i, name in enumerate(labels)},
        "dtype": "float32",
    }
    for argument, keys in PAIRS.items():
        value = arguments[argument]
        pair = value if isinstance(value, (list, tuple)) else (value, value)
        fields |= dict(zip(keys, pair, strict=True))
    _write_json(folder / "config.json", fields)
    if model.preprocessor is not None:
        _write_json(folder / "preprocessor_config.json", _processor(model.preprocessor))
    _write_tensors(model, folder, table, arguments)


def _sizes(arguments):
    """What makes a ResNet: block, depths, widths, width of the stem."""
    pair = tuple(arguments["depths"]), tuple(arguments["widths"])
    return (arguments["block"], *pair, arguments["stem_width"])


_TIMM = {
    _sizes({"block": "bottleneck", "stem_width": 64, **row}): variant.lower()
    for variant, row in RESNET.rows.items()
}


def _backbone(arguments, timm):
    """The fields of the backbone, of timm's name or None."""
    if timm:
        return {"use_timm_backbone": True, "backbone": timm, "backbone_config": None}
    stages = len(arguments["depths"])
    return {
        "use_timm_backbone": False,
        "backbone_config": {
            "model_type": "resnet",
            **OF_RESNET,
            "depths": list(arguments["depths"]),
            "hidden_sizes": list(arguments["widths"]),
            "embedding_size": arguments["stem_width"],
            "layer_type": arguments["block"],
            "num_channels": arguments["num_channels"],
            "out_features": [f"stage{stages}"],
        },
    }


def _processor(preprocessor):
    if preprocessor.resize != "fit":
        raise CheckpointError(
            "transformers' DETR resizes pictures to fit; format='keras' keeps all. "
            f"Expected: resize='fit'. Received: resize={preprocessor.resize!r}"
        )
    short, long = preprocessor.image_size
    return {
        "image_processor_type": "DetrImageProcessor",
        "format": "coco_detection",
        "size": {"shortest_edge": short, "longest_edge": long},
        "resample": {v: k for k, v in RESAMPLING.items()}[preprocessor.interpolation],
        "image_mean": list(preprocessor.mean),
        "image_std": list(preprocessor.std),
        "do_pad": True,
    }


def _write_authors(model, folder):
    arguments = arguments_of(model)
    _refuse(arguments, "The authors' DETR", {"include_preprocessing": False, "mlp": "relu"})
    _write_tensors(model, folder, names.AUTHORS, arguments)


def _write_tensors(model, folder, table, arguments):
    arrays = arrays_of(values_of(model), table, facts(arguments))
    (prefix,) = table.prefixes
    arrays = {prefix + x if x.startswith(_BODY) else x: array for x, array in arrays.items()}
    write_safetensors(folder / "model.safetensors", arrays, {"format": "pt"})


def _write_json(path, fields):
    path.write_text(json.dumps(fields, indent=2) + "\n", "utf-8")


def _refuse(arguments, name, wanted):
    for key, value in wanted.items():
        received = arguments[key]
        received = tuple(received) if isinstance(received, list) else received
        if received != value:
            raise CheckpointError(
                f"{name} cannot be what this model is; format='keras' keeps all. "
                f"Expected: {key}={value!r}. Received: {key}={received!r}"
            )


WRITERS = {"hf": _write_transformers, "authors": _write_authors}
