"""Preprocessing and class names for a source that has none, borrowed from the catalogue."""

import difflib
from pathlib import Path

from keras_vit.checkpoints.adapt import preprocessor_for_channels
from keras_vit.checkpoints.catalog import catalog, imagenet_names, nearest
from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.pictures.read import preprocessor_of_timm
from keras_vit.layers.validation import as_pair

IMAGENET = 1000


def entry_like(name):
    """The catalogue's `Entry` of a name; an unknown name is an error that lists similar ones."""
    found = catalog().get(str(name).removeprefix("hf://").removeprefix("timm/"))
    if found is None:
        raise CheckpointError(
            "like must be a name of the catalogue (keras_vit.list_checkpoints()), such as "
            f"{', '.join(nearest(str(name)))}. Received: like={name!r}"
        )
    return found


def borrowed(entry, arguments):
    """The preprocessing and class names that a model takes from an entry of the catalogue.

    Args:
        entry: `Entry`.
        arguments: dict, the model's, whose image size and channels the preprocessing follows.

    Returns:
        dict: `preprocessor`, and `class_names` where there are none and both the entry's head and
        the model's have the classes of ImageNet-1k.
    """
    size = as_pair(arguments.get("image_size") or entry.image_size, "image_size")
    preprocessor = preprocessor_of_timm(
        {
            "input_size": (3, *size),
            "crop_mode": "center" if entry.resize == "short_side" else entry.resize,
            "crop_pct": entry.crop_fraction,
            "interpolation": entry.interpolation,
            "mean": entry.mean,
            "std": entry.std,
        }
    )
    channels = arguments.get("num_channels", 3)
    if channels != len(preprocessor.mean):
        preprocessor = preprocessor_for_channels(preprocessor, channels)
    found, classes = {"preprocessor": preprocessor}, arguments.get("num_classes")
    if arguments.get("class_names") is None and entry.num_classes == classes == IMAGENET:
        found["class_names"] = list(imagenet_names())
    return found


def without_preprocessing(name, normalises):
    """The warning for a source without preprocessing, with the ways to give it.

    Args:
        name: str, the source.
        normalises: bool, whether the model normalises pixels by itself.
    """
    near = difflib.get_close_matches(Path(name).stem, catalog(), 1, 0.6)
    done = (
        "so the model makes -1..1 of pixels 0..255, which may not be what it was trained on"
        if normalises
        else "so the model takes images that are normalised as in its training"
    )
    return (
        f"{name} says nothing of preprocessing, {done}. Give it with "
        "preprocessor=keras_vit.Preprocessor(...), None for none, or with like= and a name of "
        f"keras_vit.list_checkpoints(){f', such as {near[0]!r}' if near else ''}."
    )
