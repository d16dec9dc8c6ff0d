"""Reads how a source preprocesses images: transformers' image processors and timm's settings.

What their own library would do with a file is done here too, or refused by name. An absent field
has the value that its class gives it; null means false for a flag, and no value otherwise.
"""

from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    INTERPOLATIONS,
    Preprocessor,
    is_number,
)

FILE = "preprocessor_config.json"
RESAMPLING = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # PIL's numbers
LARGEST = 2**14  # pixels a side; a model of more would fill any memory
HALF = [0.5, 0.5, 0.5]
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]

# What every class of transformers assumes.
_COMMON = {
    "do_resize": True,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "do_pad": False,
    "default_to_square": True,  # what a number for a size is: a square, or else the short side
    "crop_size": None,
    "pad_size": None,
    "use_square_size": False,
}
_SQUARE = {"height": 224, "width": 224}
_SHORT_SIDE_AND_CROP = {
    "size": {"shortest_edge": 224},
    "default_to_square": False,
    "do_center_crop": True,
    "crop_size": _SQUARE,
    "resample": 3,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
}
# What each class assumes besides, as transformers 5.24.0 has it (its PIL-backed classes). Version 4
# had 256 pixels and a crop of 224 for BEiT, and resample 2 for PVT and ConvNeXt.
CLASSES = {
    "ViTImageProcessor": {
        "size": _SQUARE,
        "resample": 2,
        "image_mean": HALF,
        "image_std": HALF,
    },
    "DeiTImageProcessor": {
        "size": {"height": 256, "width": 256},
        "do_center_crop": True,
        "crop_size": _SQUARE,
        "resample": 3,
        "image_mean": HALF,
        "image_std": HALF,
    },
    "BeitImageProcessor": {
        "size": _SQUARE,
        "crop_size": _SQUARE,
        "resample": 3,
        "image_mean": HALF,
        "image_std": HALF,
    },
    "SiglipImageProcessor": {
        "size": _SQUARE,
        "default_to_square": False,
        "resample": 3,
        "image_mean": HALF,
        "image_std": HALF,
    },
    "PvtImageProcessor": {
        "size": _SQUARE,
        "resample": 3,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
    },
    "CLIPImageProcessor": _SHORT_SIDE_AND_CROP,
    "BitImageProcessor": _SHORT_SIDE_AND_CROP,
    "ConvNextImageProcessor": {
        "size": {"shortest_edge": 384},
        "default_to_square": False,
        "crop_pct": 224 / 256,
        "resample": 3,
        "image_mean": HALF,
        "image_std": HALF,
    },
}
# The class where a file names none: that of the model, as transformers chooses it.
CLASS_OF_MODEL = {
    "vit": "ViTImageProcessor",
    "vit_mae": "ViTImageProcessor",
    "swin": "ViTImageProcessor",
    "swinv2": "ViTImageProcessor",
    "deit": "DeiTImageProcessor",
    "dinov2": "BitImageProcessor",
    "clip": "CLIPImageProcessor",
    "siglip": "SiglipImageProcessor",
    "pvt": "PvtImageProcessor",
    "pvt_v2": "PvtImageProcessor",
    "resnet": "ConvNextImageProcessor",
}
# What concerns other inputs than RGB pictures, the layout of the output, or the work's order.
_WITHOUT_EFFECT = """
    _valid_processor_keys auto_map data_format device disable_grouping do_convert_rgb
    do_reduce_labels feature_extractor_type image_processor_type image_seq_length input_data_format
    processor_class reduce_labels return_tensors
"""
WITHOUT_EFFECT = frozenset(_WITHOUT_EFFECT.split())


def add_transformers(found, config, model_type):
    """Puts what a `preprocessor_config.json` says into a `Description`.

    Args:
        found: `Description`. What cannot be honoured becomes its `refused`, which counts where the
            caller gives no other preprocessor.
        config: dict, the content of the file, or None.
        model_type: str, of the model's `config.json`.
    """
    if config is None:
        return
    try:
        name, fields = _fields(config, model_type)
        found.preprocessor = _preprocessor(name, fields)
    except ValueError as error:
        found.refused = CheckpointError(
            f"{FILE} (or the image_processor in processor_config.json) cannot be honoured; pass "
            "preprocessor=keras_vit.Preprocessor(...), or None "
            f"for none. {error}"
        )
        return
    known = {*_COMMON, *CLASSES[name], *WITHOUT_EFFECT}
    found.unread += [f"{field} ({FILE})" for field in sorted(set(config) - known)]


def _fields(config, model_type):
    """(class, its fields with its own defaults) of a configuration."""
    if not isinstance(config, dict):
        raise ValueError(f"It must hold an object. Received: {type(config).__name__}")
    said = config.get("image_processor_type") or config.get("feature_extractor_type")
    name = said or CLASS_OF_MODEL.get(model_type)
    name = str(name).removesuffix("Fast").removesuffix("Pil")
    name = name.replace("FeatureExtractor", "ImageProcessor")
    if name not in CLASSES:
        raise ValueError(
            f"Expected: image_processor_type, one of {', '.join(CLASSES)}. "
            f"Received: {said!r} of a model of type {model_type!r}"
        )
    fields = {**_COMMON, **CLASSES[name], **config}
    for key, default in _COMMON.items():
        if isinstance(default, bool):
            fields[key] = False if fields[key] is None else fields[key]
            _require(fields, key, isinstance(fields[key], bool), "true or false")
    return name, fields


def _preprocessor(name, fields):
    _require(fields, "do_resize", fields["do_resize"], "true: a Preprocessor gives one size")
    _require(fields, "use_square_size", not fields["use_square_size"], "false")
    number = fields["resample"]
    _require(fields, "resample", _is_int(number) and number in RESAMPLING, f"one of {RESAMPLING}")
    resize, to = _size(fields)
    crop = _sides(fields, "crop_size") if fields["do_center_crop"] else None
    if name == "ConvNextImageProcessor":
        resize, to, crop = _convnext(fields, resize, to, crop)
    _require(fields, "size", resize == "squash" or crop, "with do_center_crop, or height and width")
    crop = crop or to
    fits = all(part <= side for part, side in zip(crop, to, strict=True))
    _require(fields, "crop_size", fits, f"at most the size {to}: a Preprocessor pads nothing")
    if fields["do_pad"] and fields["pad_size"] is not None:
        _require(fields, "pad_size", _sides(fields, "pad_size") == crop, f"the output's {crop}")
    shares = tuple(part / side for part, side in zip(crop, to, strict=True))
    mean, std = _normalisation(fields)
    return Preprocessor(
        crop,
        resize=resize,
        crop_fraction=shares[0] if shares[0] == shares[1] else shares,
        interpolation=RESAMPLING[number],
        mean=mean,
        std=std,
        convention="transformers",
    )


def _size(fields):
    """(resize, (h, w)); where the short side is given, both are it."""
    size = fields["size"]
    if _is_int(size) and not fields["default_to_square"]:
        size = {"shortest_edge": size}
    if isinstance(size, dict) and set(size) == {"shortest_edge"}:
        side = size["shortest_edge"]
        return "short_side", _sides({"size": [side, side]}, "size")
    return "squash", _sides(fields, "size")


def _sides(fields, key):
    """(height, width) of a field that holds one number, two, or an object of both."""
    value = fields[key]
    if isinstance(value, dict) and set(value) == {"height", "width"}:
        pair = (value["height"], value["width"])
    else:
        pair = (value, value) if _is_int(value) else value
    expected = f"whole numbers 1..{LARGEST} for height and width"
    two = isinstance(pair, (list, tuple)) and len(pair) == 2
    _require(fields, key, two and all(_is_int(x) and 0 < x <= LARGEST for x in pair), expected)
    return tuple(pair)


def _convnext(fields, resize, to, crop):
    """Below 384 pixels a crop of `crop_pct`, from there on all is squashed."""
    _require(fields, "size", resize == "short_side", "shortest_edge")
    _require(fields, "do_center_crop", crop in (None, to), "false")
    if to[0] >= 384:
        return "squash", to, None
    share = fields["crop_pct"]
    _require(fields, "crop_pct", is_number(share) and 0 < share <= 1, "a number in (0, 1]")
    return "short_side", (int(to[0] / share),) * 2, to


def _normalisation(fields):
    """(mean, std) of values 0..1 that do what rescaling and normalising do to pixels 0..255."""
    scale = fields["rescale_factor"] if fields["do_rescale"] else 1
    _require(fields, "rescale_factor", is_number(scale) and scale > 0, "a number above 0")
    scale = 1 if abs(scale * 255 - 1) <= 1e-6 else scale * 255  # so that 0.485 stays 0.485
    if not fields["do_normalize"]:
        return [0.0] * 3, [1 / scale] * 3
    mean, std = (fields[key] for key in ("image_mean", "image_std"))
    channels = next((len(x) for x in (mean, std) if isinstance(x, (list, tuple))), 3)
    found = []
    for key, values in (("image_mean", mean), ("image_std", std)):
        values = list(values) if isinstance(values, (list, tuple)) else [values] * channels
        _require(fields, key, all(map(is_number, values)), "numbers")
        found.append([x / scale for x in values])
    return found


def _is_int(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _require(fields, key, holds, expected):
    if not holds:
        raise ValueError(f"Expected: {key}, {expected}. Received: {key}={fields[key]!r:.200}")


def add_timm(found, pretrained):
    """Puts what timm's `pretrained_cfg` says of pictures into a `Description`, if it does.

    Args:
        found: `Description`; as in `add_transformers`.
        pretrained: dict. `test_input_size` and `test_crop_pct` are left alone, as timm itself does
            unless it is asked for them.
    """
    said = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
    if all(pretrained.get(key) is None for key in said):
        return
    try:
        found.preprocessor = preprocessor_of_timm(pretrained)
    except ValueError as error:
        found.refused = CheckpointError(
            "The pretrained_cfg in config.json cannot be honoured; pass "
            f"preprocessor=keras_vit.Preprocessor(...), or None for none. {error}"
        )


def preprocessor_of_timm(pretrained):
    fields = {
        "crop_mode": pretrained.get("crop_mode") or "center",
        "interpolation": pretrained.get("interpolation") or "bicubic",
        "input_size": pretrained.get("input_size") or (3, 224, 224),
        "crop_pct": pretrained.get("crop_pct") or 0.875,
        "mean": pretrained.get("mean") or IMAGENET_MEAN,
        "std": pretrained.get("std") or IMAGENET_STD,
    }
    modes = {"center": "short_side", "squash": "squash"}
    for key, choices in (("crop_mode", modes), ("interpolation", INTERPOLATIONS)):
        known = isinstance(fields[key], str) and fields[key] in choices
        _require(fields, key, known, f"one of {', '.join(choices)}")
    size = fields["input_size"]
    known = isinstance(size, (list, tuple)) and len(size) == 3
    _require(fields, "input_size", known, "channels, height and width")
    return Preprocessor(
        _sides({"input_size": size[1:]}, "input_size"),
        resize=modes[fields["crop_mode"]],
        crop_fraction=fields["crop_pct"],
        interpolation=fields["interpolation"],
        mean=fields["mean"],
        std=fields["std"],
        convention="timm",
    )
