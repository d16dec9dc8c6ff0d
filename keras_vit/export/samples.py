"""What an export is compared on, and what its model gives for that."""

import io
import os
from pathlib import Path

import keras
import numpy as np

from keras_vit.export.serving import picture_preprocessor
from keras_vit.preprocessing import load_image


def _image_samples(model, samples):
    """The calls to make, a model's outputs for them, and a call of one sample to be timed."""
    x = _noise(model) if samples is None else np.asarray(samples)
    if x.ndim != 4 or len(x) == 0:
        raise ValueError(
            "samples must be images (N, H, W, C) as the model takes them; pictures of any size are "
            f"for inputs='pixels'. Received: shape={x.shape}"
        )
    x = x.astype(model.input.dtype)

    def outputs(model):
        y = model.predict(x, verbose=0)
        return [y, keras.tree.map_structure(lambda y: y[:1], y)]

    return {"0": x, "1": x[:1]}, outputs, lambda: model.predict_on_batch(x[:1])


def _pixel_samples(model, samples):
    pictures = [load_image(x) for x in _pictures(model, samples)]
    pictures.append(pictures[0])  # the last one is timed
    calls = {str(i): picture[None] for i, picture in enumerate(pictures)}

    def outputs(model):
        return [model.image_probabilities([picture]) for picture in pictures]

    return calls, outputs, lambda: _predict(model, pictures[0])


def _jpeg_samples(model, samples):
    files = [_file(x) for x in _pictures(model, samples)]
    calls = {f"file{i}": np.frombuffer(file, "uint8") for i, file in enumerate(files)}

    def outputs(model):
        return [model.image_probabilities([file]) for file in [*files, files[0]]]

    return calls, outputs, lambda: _predict(model, load_image(files[0]))


def _predict(model, picture):
    """A compiled call, as whoever is in a hurry makes it."""
    x = keras.ops.convert_to_numpy(model.picture_preprocessor(picture))
    return model.predict_on_batch(x[None])


SAMPLES = {"images": _image_samples, "pixels": _pixel_samples, "jpeg": _jpeg_samples}


def _noise(model):
    """Eight images of noise in the range that the model takes, of a size that it takes."""
    height, width, channels = model.input.shape[1:]
    if height is None:
        height, width = (8 * patch for patch in model.patch_size)
    noise = np.random.default_rng(0).uniform(-1, 1, (8, height, width, channels))
    raw = any(layer.name == "preprocessing" for layer in model.layers)
    return noise * 127.5 + 127.5 if raw else noise


def _pictures(model, samples):
    """`samples`, or four of noise: larger and smaller than the model's size, upright and not."""
    picture_preprocessor(model)  # or an error that says what is missing
    if samples is None:
        rng = np.random.default_rng(0)
        height, width = model.picture_preprocessor.image_size
        sizes = [
            (height, width),
            (2 * height, 3 * width),
            (3 * height, width),
            (height // 2, width),
        ]
        return [rng.integers(0, 256, (*size, 3)).astype("uint8") for size in sizes]
    if isinstance(samples, (str, bytes)) or len(samples) == 0:
        raise ValueError(f"samples must be a list of pictures. Received: {type(samples)}")
    return list(samples)


def _file(picture):
    """The bytes of a picture's file; a PNG of an array."""
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, (str, os.PathLike)):
        load_image(picture)  # or an error that says what is wrong with it
        return Path(picture).read_bytes()
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(load_image(picture)).save(file, "png")
    return file.getvalue()
