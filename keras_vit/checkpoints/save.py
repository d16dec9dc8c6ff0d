"""Saves a model as a folder that transformers or timm opens: same logits, labels, preprocessing."""

import os
from pathlib import Path

from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.families import classes, family_of, names_of
from keras_vit.checkpoints.pictures.write import warn_of_crops
from keras_vit.layers.activations import PUBLISHED
from keras_vit.layers.validation import check_choice
from keras_vit.scratch import scratch_beside

CONVENTIONS = {"hf": "transformers", "timm": "timm"}  # how each library crops (`Preprocessor`)


def save_pretrained(model, folder, format="hf"):
    """Writes a model for another library, whole or not at all.

    Args:
        model: a model of this library.
        folder: path that does not exist yet.
        format: "authors" for the file of a `SETR` with its authors' names (`model.safetensors`),
            "hf" for `transformers.AutoModel...from_pretrained(folder)`, "timm" for
            `timm.create_model("local-dir:FOLDER", pretrained=True)`, or "keras" for
            `keras_vit.from_pretrained(folder)` and `keras.models.load_model`.

    Returns:
        `Path` of the folder. It warns where the other library would crop some pictures a pixel
        beside the model's own preprocessor.

    Raises:
        ValueError: for an existing folder, or a model that the other library has no class for; it
            says which argument stands in the way.

    Example:
        >>> keras_vit.save_pretrained(model, "my_vit", format="hf")
    """
    family = family_of(model)
    if family is None:
        raise ValueError(
            f"save_pretrained expects a {names_of(classes())}. Received: {type(model).__name__}"
        )
    check_choice(format, "format", (*family.write.WRITERS, "keras"))
    published = getattr(family.write, "ACTIVATIONS", PUBLISHED)
    activation = model.get_config().get("mlp", published[0])
    if format != "keras" and activation not in published:
        raise CheckpointError(
            f"Other libraries' files hold the activations {', '.join(published)}; format='keras' "
            f"keeps all. Received: mlp={activation!r}"
        )
    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"folder must not exist yet: choose another. Received: {folder}")
    try:
        with scratch_beside(folder) as scratch:
            written = scratch / "model"
            written.mkdir()
            if format == "keras":
                model.save(written / "model.keras")
            else:
                family.write.WRITERS[format](model, written)
            os.rename(written, folder)
        if format in CONVENTIONS:
            warn_of_crops(model.preprocessor, CONVENTIONS[format])
    except OSError as error:
        raise ValueError(f"The folder cannot be written: {error}. Received: {folder}") from error
    return folder
