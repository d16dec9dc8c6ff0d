"""The encoder of a task: its configuration, and what of the task's arguments it determines."""

import copy

import keras

from keras_vit.layers.validation import as_pair
from keras_vit.models.base import ImageModel
from keras_vit.models.normalization import mean_and_std
from keras_vit.models.registry import TASKS


def encoder_of(arguments, task):
    """The encoder of a task with these arguments, which are completed by what it determines.

    Args:
        arguments: dict of the task's constructor arguments. `encoder` is a model or its
            configuration; `image_size`, `include_preprocessing` and `preprocessor` are set to those
            of the encoder.
        task: the class of the task.

    Returns:
        `ImageModel`.

    Raises:
        ValueError: if `encoder` is no model of this library, or contradicts other arguments.
    """
    encoder, size = arguments["encoder"], arguments["image_size"]
    pixels, preprocessor = arguments["include_preprocessing"], arguments["preprocessor"]
    if isinstance(encoder, dict):
        encoder = keras.saving.deserialize_keras_object(copy.deepcopy(encoder))
    tasks = (task, *(x.model for x in TASKS.values()))  # which are no encoders themselves
    if not isinstance(encoder, ImageModel) or isinstance(encoder, tasks):
        raise ValueError(
            "encoder must be a model of keras_vit, such as keras_vit.ViTBase(image_size=512), or "
            f"None. Received: {type(encoder).__name__}"
        )
    own = encoder.input.shape[1:3]
    own = None if None in own else tuple(own)
    if size != "auto" and own != (None if size is None else as_pair(size, "image_size")):
        raise ValueError(
            "A given encoder determines image_size: leave it out, or resize the encoder first, "
            f"with keras_vit.resize(encoder, image_size=...). Received: image_size={size}, an "
            f"encoder for {own or 'any size'}"
        )
    if pixels not in (None, encoder.takes_pixels):
        raise ValueError(
            "A given encoder determines include_preprocessing: leave it out. Received: "
            f"include_preprocessing={pixels}, an encoder with {encoder.takes_pixels}"
        )
    if preprocessor is None:
        preprocessor = encoder.preprocessor
    if encoder.takes_pixels and mean_and_std(preprocessor) != mean_and_std(encoder.preprocessor):
        raise ValueError(
            "mean and std are part of this encoder (include_preprocessing=True): leave "
            f"preprocessor out. Expected: {mean_and_std(encoder.preprocessor)}. "
            f"Received: {mean_and_std(preprocessor)}"
        )
    arguments |= {"image_size": own, "preprocessor": preprocessor}
    arguments["include_preprocessing"] = encoder.takes_pixels
    return encoder


def serialized(encoder):
    """The configuration of an encoder, without its head."""
    found = keras.saving.serialize_keras_object(encoder)
    # The task's own lists have the frozen and the changed layers of the encoder too.
    found["config"] |= {"num_classes": None, "class_names": None}
    found["config"] |= {"frozen_layers": (), "adapted_layers": None}
    return found
