"""Normalisation of pixels, by a model's `Preprocessor` or by a layer of its graph."""

import keras
import numpy as np

from keras_vit.preprocessing import Preprocessor


def as_preprocessor(preprocessor):
    """Converts a `Preprocessor`, its serialised configuration or None to a `Preprocessor` or None.

    Raises:
        ValueError: for anything else. Other serialised classes are not deserialised.
    """
    if isinstance(preprocessor, dict) and preprocessor.get("class_name") == "Preprocessor":
        preprocessor = Preprocessor.from_config(preprocessor["config"])
    if preprocessor is not None and not isinstance(preprocessor, Preprocessor):
        raise ValueError(
            f"preprocessor must be a keras_vit.Preprocessor or None. Received: {preprocessor!r}"
        )
    return preprocessor


def mean_and_std(preprocessor):
    """(mean, std) of a `Preprocessor` as tuples; 0.5 and 0.5 for None, which gives -1..1.

    A tuple holds a single number if all channels have the same.
    """
    if preprocessor is None:
        return (0.5,), (0.5,)
    return tuple(x[:1] if len(set(x)) == 1 else x for x in (preprocessor.mean, preprocessor.std))


def pixels_to_input(preprocessor, **kwargs):
    """Returns a layer that normalises pixels 0..255 like `preprocessor`; to -1..1 for None."""
    mean = np.array(preprocessor.mean if preprocessor else (0.5,))
    std = np.array(preprocessor.std if preprocessor else (0.5,))
    scale, offset = 1 / (255 * std), -mean / std
    if len(scale) == 1:
        scale, offset = scale[0], offset[0]
    else:
        scale, offset = scale.tolist(), offset.tolist()
    return keras.layers.Rescaling(scale, offset=offset, **kwargs)
