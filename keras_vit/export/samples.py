"""The samples on which an export is compared, and the model's outputs for them."""

import io
import os
from pathlib import Path

import keras
import numpy as np

from keras_vit.export.objects import objects
from keras_vit.export.serving import finds_objects, picture_preprocessor, slides
from keras_vit.preprocessing import load_image

DEFAULT_SAMPLES = 16
FEW = 8  # with fewer samples the spread of the outputs cannot be estimated
SMALL = (16, 24)  # pixels, a sixth of the sides of pictures for detectors
GRIDS = (1, 2, 3, 5, 8, 14, 28, None)  # cells per side; None for one cell per pixel


def _image_samples(model, samples):
    """The inputs of all calls, a function that gives a model's outputs, and a call to time.

    Returns:
        (dict of call to array, function from a model to the list of its outputs, function that
        calls the model on one sample).
    """
    x = _noise(model) if samples is None else np.asarray(samples)
    if x.ndim != 4 or len(x) == 0:
        raise ValueError(
            "samples must be an array of images (N, H, W, C) for the model; for pictures of any "
            f"size use inputs='pixels'. Received: shape={x.shape}"
        )
    if len(x) < FEW:
        noise = _noise(model, x.shape[1:3])
        x = np.concatenate([x, noise]) if noise.shape[1:] == x.shape[1:] else x
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


def _segmented_samples(model, samples):
    if samples is None:
        height, width = model._plan("slide", None, None, (1,), False, 1).window
        sizes = [(height, width), (height // 2, width), (height * 3 // 2, width * 2), (height, 9)]
        samples = noise_pictures((sizes * 2)[:FEW])
    pictures = [load_image(x) for x in samples]
    pictures.append(pictures[0])  # the last one is timed
    calls = {str(i): picture[None] for i, picture in enumerate(pictures)}

    def outputs(model):
        return [found.reshape(-1) for found in model.segment(pictures)]

    return calls, outputs, lambda: model.segment(pictures[:1])


def _detected_samples(model, samples):
    if samples is None:
        height, width = (6 * side for side in SMALL)
        samples = noise_pictures([(height, width), (width, height), (height, height)] * 3)[:FEW]
    pictures = [load_image(x) for x in samples]
    pictures.append(pictures[0])  # the last one is timed
    calls = {str(i): picture[None] for i, picture in enumerate(pictures)}

    def outputs(model):
        found = []
        for picture in pictures:
            padded = model.preprocess_images([picture])
            y = model.predict_on_batch(padded)
            boxes, labels, scores = objects(y["logits"], y["boxes"], picture.shape[:2])
            arrays = {"boxes": boxes, "labels": labels, "scores": scores}
            found.append({name: keras.ops.convert_to_numpy(x) for name, x in arrays.items()})
        return found

    return calls, outputs, lambda: model.detect(pictures[:1])


def samples_of(model, inputs, samples):
    """What to compare on: calls, outputs of the model and a call to time, as `_image_samples`."""
    if finds_objects(model, inputs):
        return _detected_samples(model, samples)
    make = _segmented_samples if slides(model, inputs) else SAMPLES[inputs]
    return make(model, samples)


def _jpeg_samples(model, samples):
    pictures = _pictures(model, samples)
    files = [_file(x, ("jpeg", "png")[i % 2]) for i, x in enumerate(pictures)]
    calls = {f"file{i}": np.frombuffer(file, "uint8") for i, file in enumerate(files)}

    def outputs(model):
        return [model.image_probabilities([file]) for file in [*files, files[0]]]

    return calls, outputs, lambda: _predict(model, load_image(files[0]))


def _predict(model, picture):
    """A compiled call of the model on one picture, the fastest way to run it."""
    x = keras.ops.convert_to_numpy(model.picture_preprocessor(picture))
    return model.predict_on_batch(x[None])


SAMPLES = {"images": _image_samples, "pixels": _pixel_samples, "jpeg": _jpeg_samples}


def _noise(model, size=None):
    """Images of noise, of a size and in a range that the model takes: array (N, H, W, C)."""
    height, width, channels = model.input.shape[1:]
    if height is None:
        height, width = size or (8 * patch for patch in model.patch_size)
    pictures = np.stack(noise_pictures([(height, width)] * DEFAULT_SAMPLES, channels))
    raw = any(layer.name == "preprocessing" for layer in model.layers)
    return pictures if raw else pictures / 127.5 - 1


def _pictures(model, samples):
    """The samples, extended by noise of various sizes if they are few: a list of pictures."""
    picture_preprocessor(model)  # raises if the model cannot take pictures
    if isinstance(samples, (str, bytes)) or (samples is not None and len(samples) == 0):
        raise ValueError(f"samples must be a list of pictures. Received: {type(samples)}")
    samples = [] if samples is None else list(samples)
    if len(samples) < FEW:
        height, width = model.picture_preprocessor.image_size
        sizes = [
            (height, width),
            (2 * height, 3 * width),
            (3 * height, width),
            (height // 2, width),
        ]
        # In the second half the sizes are combined with other grids.
        samples += noise_pictures([sizes[(i + i // 8) % 4] for i in range(DEFAULT_SAMPLES)])
    return samples


def noise_pictures(sizes, channels=3, seed=0):
    """Generates pictures of noise on which a model's outputs differ more than on white noise.

    Each picture is noise on a grid of 1, 2, ... cells or of single pixels, smooth or in blocks,
    with a random colour and contrast. Over 16 of these, the logits of a real ViT-Ti/16 have a
    standard deviation of 1.3; over 16 pictures of white noise 0.3, over 25 photographs 2.4.

    Args:
        sizes: list of (H, W), the size of each picture in pixels.
        channels: int, C.
        seed: int, random seed.

    Returns:
        list of uint8 arrays (H, W, C).
    """
    from PIL import Image

    rng, found = np.random.default_rng(seed), []
    for i, size in enumerate(sizes):
        cells = GRIDS[i % len(GRIDS)]
        grid = [side if cells is None else min(cells, side) for side in size]
        kernel = (Image.Resampling.BICUBIC, Image.Resampling.NEAREST)[i // len(GRIDS) % 2]
        noise = rng.uniform(-1, 1, (channels, *grid)).astype("float32")
        planes = [np.asarray(Image.fromarray(x).resize(size[::-1], kernel)) for x in noise]
        colour, contrast = rng.uniform(0, 255, channels), rng.uniform(30, 255)
        pixels = colour + contrast * np.stack(planes, axis=-1)
        found.append(np.clip(np.round(pixels), 0, 255).astype("uint8"))
    return found


def _file(picture, kind):
    """The bytes of a picture file; an array or PIL image is encoded as `kind`."""
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, (str, os.PathLike)):
        load_image(picture)  # raises if the file is broken
        return Path(picture).read_bytes()
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(load_image(picture)).save(file, kind, quality=95)
    return file.getvalue()
