"""The backbone of a DETR: given, built by name, or rebuilt from a configuration."""

import copy

import keras

from keras_vit.layers.validation import as_pair
from keras_vit.models.base import ImageModel
from keras_vit.models.normalization import mean_and_std
from keras_vit.models.registry import TASKS, variants
from keras_vit.preprocessing import Preprocessor

DEFAULT = "ResNet50"
SIZES = (800, 1333)  # pixels: of the shorter side, and the most of the longer


def backbone_of(arguments):
    """The backbone of a model with these arguments, which are completed by what it determines."""
    backbone, size = arguments["backbone"], arguments["image_size"]
    pixels, preprocessor = arguments["include_preprocessing"], arguments["preprocessor"]
    dilation = arguments["dilation"]
    if backbone is None or isinstance(backbone, str):
        backbone = _built(backbone or DEFAULT, arguments)
    elif isinstance(backbone, dict):
        backbone = keras.saving.deserialize_keras_object(copy.deepcopy(backbone))
    if not isinstance(backbone, ImageModel) or isinstance(
        backbone, tuple(x.model for x in TASKS.values())
    ):
        raise ValueError(
            "backbone must be a model of keras_vit, such as keras_vit.ResNet50(), the name of a "
            f"variant, or None. Received: {type(backbone).__name__}"
        )
    own = backbone.input.shape[1:3]
    own = None if None in own else tuple(own)
    if size != "auto" and own != (None if size is None else as_pair(size, "image_size")):
        raise ValueError(
            "A given backbone determines image_size: leave it out, or resize the backbone first, "
            f"with keras_vit.resize(backbone, image_size=...). Received: image_size={size}, a "
            f"backbone for {own or 'any size'}"
        )
    if pixels not in (None, backbone.takes_pixels):
        raise ValueError(
            "A given backbone determines include_preprocessing: leave it out. Received: "
            f"include_preprocessing={pixels}, a backbone with {backbone.takes_pixels}"
        )
    dilated = bool(backbone.get_config().get("dilation", False))
    if dilation not in (None, dilated):
        raise ValueError(
            "A given backbone determines dilation, and only a ResNet has it: leave it out. "
            f"Received: dilation={dilation}, a backbone with {dilated}"
        )
    if preprocessor is None:
        preprocessor = fitting(backbone.preprocessor, backbone.takes_pixels)
    elif backbone.takes_pixels and mean_and_std(preprocessor) != mean_and_std(
        backbone.preprocessor
    ):
        raise ValueError(
            "mean and std are part of this backbone (include_preprocessing=True): they must be the "
            f"same. Expected: {mean_and_std(backbone.preprocessor)}. "
            f"Received: {mean_and_std(preprocessor)}"
        )
    arguments |= {"image_size": own, "preprocessor": preprocessor, "dilation": dilated}
    arguments["include_preprocessing"] = backbone.takes_pixels
    return backbone


def _built(name, arguments):
    """A variant by its name, for images of any size unless `image_size` says another."""
    known = variants()
    if name not in known:
        raise ValueError(
            "backbone must be the name of a variant, such as 'ResNet50' or 'SwinTiny' "
            f"(keras_vit.list_models()), or a model. Received: backbone={name!r}"
        )
    size, dilation = arguments["image_size"], arguments["dilation"]
    preprocessor = arguments["preprocessor"]
    if preprocessor is None and arguments["include_preprocessing"]:
        preprocessor = fitting(None)
    return known[name].variants[name](
        num_classes=None,
        image_size=None if size == "auto" else size,
        include_preprocessing=bool(arguments["include_preprocessing"]),
        preprocessor=preprocessor,
        dtype=arguments["dtype"],
        **({} if dilation is None else {"dilation": dilation}),
    )


def fitting(preprocessor, takes_pixels=False):
    """A `Preprocessor` with resize="fit" and the mean and std of another, or ImageNet's."""
    if preprocessor is not None and preprocessor.resize == "fit":
        return preprocessor
    known = {}
    if preprocessor is not None:
        known = {"mean": preprocessor.mean, "std": preprocessor.std}
    elif takes_pixels:  # what a model without a preprocessor normalises with
        known = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    return Preprocessor(SIZES, "fit", 1.0, "bilinear", **known)


def serialized(backbone):
    """The configuration of a backbone, without its head."""
    found = _unshared(keras.saving.serialize_keras_object(backbone))
    # The model's own lists have the frozen and the changed layers of the backbone too.
    found["config"] |= {"num_classes": None, "class_names": None}
    found["config"] |= {"frozen_layers": (), "adapted_layers": None}
    return found


def _unshared(config):
    """A configuration without the numbers by which Keras finds shared objects within one file.

    It has them if it is made while a file is loaded, and a second file would have other objects.
    """
    if isinstance(config, dict):
        return {k: _unshared(v) for k, v in config.items() if k != "shared_object_id"}
    return [_unshared(x) for x in config] if isinstance(config, list) else config
