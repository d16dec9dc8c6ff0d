"""Measurements of a saved model, for the script that saved it and the tests that load it."""

import json
import zipfile

import keras
import numpy as np

from tests.helpers import run


def outputs(model, pixels, normalized):
    """The logits for the upper left part of some pictures, float32.

    Args:
        model: `keras.Model` on images; a model for any size is given 32 x 16 pixels.
        pixels: uint8 (B, 32, 32, 3).
        normalized: bool, whether the model takes images in -1..1 instead of pixels.
    """
    height, width, channels = model.input.shape[1:]
    x = pixels[:, : height or 32, : width or 16, :channels].astype("float32")
    return np.asarray(run(model, x / 127.5 - 1 if normalized else x), "float32")


def batch():
    """The images (16 x 16) and one-hot labels (3 classes) of every training step."""
    rng = np.random.default_rng(5)
    images = rng.uniform(-1, 1, (6, 16, 16, 3)).astype("float32")
    return images, np.eye(3, dtype="float32")[rng.integers(0, 3, 6)]


def next_losses(model, steps=3):
    """The losses of the next training steps, each before its update."""
    # Compilation takes longer than these steps. A file from JAX has it on for PyTorch too.
    model.jit_compile = keras.backend.backend() == "jax"
    model.run_eagerly = keras.backend.backend() == "tensorflow"
    images, labels = batch()
    losses = []
    for _ in range(steps):
        model.reset_metrics()
        losses.append(float(model.train_on_batch(images, labels)))
    return losses


def scalars(model):
    """The scalar variables of an optimizer: its iterations, the loss scale and its counter."""
    return {v.path: float(v) for v in model.optimizer.variables if v.shape == ()}


def facts(model):
    """The properties of a model of the library besides its outputs, as JSON values."""
    preprocessor = model.preprocessor
    config = preprocessor and {k: v for k, v in preprocessor.get_config().items() if k != "name"}
    found = {
        "class": type(model).__name__,
        "class_names": model.class_names,
        "preprocessor": config,
        "dtype": model.get_config()["dtype"]["config"]["name"],
        "frozen": [v.path for v in model.weights if not v.trainable and "seed" not in v.path],
    }
    return json.loads(json.dumps(found))  # turns tuples into lists


class Saved:
    """The unpacked files that a version saved on one backend.

    Attributes:
        folder: `Path` of the files.
        expected: dict of the measurements when they were saved.
        pixels: uint8 (2, 32, 32, 3), the pictures for `outputs`.
    """

    def __init__(self, archive, folder):
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
        self.folder = folder
        self.expected = json.loads((folder / "expected.json").read_text())
        self.pixels = np.load(folder / "pixels.npy")
