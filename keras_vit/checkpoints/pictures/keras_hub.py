"""Reads the image converter of a keras-hub preset: `image_converter.json`."""

from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.untrusted import brief
from keras_vit.preprocessing import Preprocessor, is_number

FILE = "image_converter.json"
# What the class has where the file is silent.
DEFAULTS = {
    "image_size": None,
    "scale": None,
    "offset": None,
    "crop_to_aspect_ratio": True,
    "pad_to_aspect_ratio": False,
    "interpolation": "bilinear",
    "antialias": False,
    "norm_mean": None,  # of keras-hub before 0.22: subtracted after the offset
    "norm_std": None,  # and then divided by
}
# Names, precision, and what concerns boxes or the layout of the output.
_WITHOUT_EFFECT = {"name", "trainable", "dtype", "bounding_box_format", "data_format"}


def add_converter(found, converter):
    """Puts what an image converter says into a `Description`.

    Args:
        found: `Description`. What cannot be honoured becomes its `refused`, which counts where the
            caller gives no other preprocessor.
        converter: dict, the content of the file, or None.
    """
    if converter is None:
        return
    try:
        found.preprocessor = _preprocessor(converter.get("config"))
    except ValueError as error:
        found.refused = CheckpointError(
            f"{FILE} cannot be honoured; pass preprocessor=keras_vit.Preprocessor(...), or None "
            f"for none. {error}"
        )


def _preprocessor(config):
    if not isinstance(config, dict):
        raise ValueError(f"It must hold an object. Received: config={brief(config)}")
    unknown = sorted(set(config) - set(DEFAULTS) - _WITHOUT_EFFECT)
    if unknown:
        raise ValueError(f"Expected: {', '.join(DEFAULTS)}. Received: {brief(unknown)}")
    fields = {**DEFAULTS, **config}
    size, interpolation = fields["image_size"], fields["interpolation"]
    is_size = isinstance(size, list) and len(size) == 2
    is_size = is_size and all(type(x) is int and x > 0 for x in size)
    _require(fields, "image_size", is_size, "two numbers of pixels")
    for key in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"):
        _require(fields, key, isinstance(fields[key], bool), "true or false")
    _require(fields, "pad_to_aspect_ratio", not fields["pad_to_aspect_ratio"], "false")
    # Without antialiasing Keras's bicubic kernel is another one on every backend.
    known = ("bilinear", "bicubic") if fields["antialias"] else ("bilinear",)
    expected = f"one of {', '.join(known)} with antialias={fields['antialias']}"
    _require(fields, "interpolation", interpolation in known, expected)
    mean, std = _normalisation(fields)
    return Preprocessor(
        tuple(size),
        resize="short_side" if fields["crop_to_aspect_ratio"] else "squash",
        crop_fraction=1.0,
        interpolation=interpolation,
        mean=mean,
        std=std,
        convention="keras",
        antialias=fields["antialias"],
    )


def _normalisation(fields):
    """(mean, std) of values 0..1 that do what all of these do to pixels 0..255."""
    values = {}
    neutrals = {"scale": 1.0, "offset": 0.0, "norm_mean": 0.0, "norm_std": 1.0}
    for key, neutral in neutrals.items():
        value = neutral if fields[key] is None else fields[key]
        value = value if isinstance(value, list) else [value]
        _require(fields, key, value and all(map(is_number, value)), "numbers")
        values[key] = value
    channels = max(3, *map(len, values.values()))
    for key, value in values.items():
        values[key] = value * channels if len(value) == 1 else value
        _require(fields, key, len(values[key]) == channels, f"one number, or {channels}")
        _require(fields, key, neutrals[key] == 0 or min(values[key]) > 0, "numbers above 0")
    mean, std = [], []
    for scale, offset, norm_mean, norm_std in zip(*values.values(), strict=True):
        # (x scale + offset - norm_mean) / norm_std, rounded so that 0.485 stays 0.485
        mean.append(float(f"{(norm_mean - offset) / (255 * scale):.14g}"))
        std.append(float(f"{norm_std / (255 * scale):.14g}"))
    return mean, std


def _require(fields, key, holds, expected):
    if not holds:
        raise ValueError(f"Expected: {key}, {expected}. Received: {key}={brief(fields[key])}")
