"""Preprocessing and names of classes for a source that says nothing of them."""

import difflib
from pathlib import Path

from keras_vit.checkpoints.catalog import catalog, imagenet_names, nearest
from keras_vit.checkpoints.files import CheckpointError
from keras_vit.checkpoints.processors import preprocessor_of_timm

IMAGENET = 1000


def entry_like(name):
    """The catalogue's `Entry` of a name; for any other an error with what is near."""
    found = catalog().get(str(name).removeprefix("hf://").removeprefix("timm/"))
    if found is None:
        raise CheckpointError(
            "like must be a name of the catalogue (keras_vit.list_checkpoints()), such as "
            f"{', '.join(nearest(str(name)))}. Received: like={name!r}"
        )
    return found


def preprocessor_like(entry, image_size):
    """The `Preprocessor` of a catalogue's entry, for the image size of the model at hand."""
    return preprocessor_of_timm(
        {
            "input_size": (3, *(image_size or (entry.image_size,) * 2)),
            "crop_mode": "center" if entry.resize == "short_side" else entry.resize,
            "crop_pct": entry.crop_fraction,
            "interpolation": entry.interpolation,
            "mean": entry.mean,
            "std": entry.std,
        }
    )


def class_names_like(entry, num_classes):
    """The names of ImageNet-1k where the entry's head and the model's are both of its classes."""
    if entry.num_classes == num_classes == IMAGENET:
        return list(imagenet_names())
    return None


def without_preprocessing(name, normalises):
    """What to say of a source that has no preprocessing, and how to give it.

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
        "preprocessor=keras_vit.Preprocessor(...), or with like= and a name of "
        f"keras_vit.list_checkpoints(){f', such as {near[0]!r}' if near else ''}."
    )
