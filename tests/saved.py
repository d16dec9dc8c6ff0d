"""What is asked of a saved model: by the script that wrote it and by the tests that load it."""

import json
import zipfile

import keras
import numpy as np

from tests.helpers import run


def outputs(model, pixels, normalized):
    """The logits of the upper left part of some pictures, float32.

    Args:
        model: `keras.Model` on images; one of any size is given 32 x 16 pixels.
        pixels: uint8 (B, 32, 32, 3).
        normalized: bool, whether the model takes images in -1..1, not pixels.
    """
    height, width, channels = model.input.shape[1:]
    x = pixels[:, : height or 32, : width or 16, :channels].astype("float32")
    return np.asarray(run(model, x / 127.5 - 1 if normalized else x), "float32")


def batch():
    """16 x 16 images and one-hot labels of 3 classes, which every step trains on."""
    rng = np.random.default_rng(5)
    images = rng.uniform(-1, 1, (6, 16, 16, 3)).astype("float32")
    return images, np.eye(3, dtype="float32")[rng.integers(0, 3, 6)]


def next_losses(model, steps=3):
    """The losses of the next steps of training, each before its update."""
    # To compile takes longer than these steps do. A file from JAX asks for it on PyTorch too.
    model.jit_compile = keras.backend.backend() == "jax"
    model.run_eagerly = keras.backend.backend() == "tensorflow"
    images, labels = batch()
    losses = []
    for _ in range(steps):
        model.reset_metrics()
        losses.append(float(model.train_on_batch(images, labels)))
    return losses


def scalars(model):
    """The numbers among an optimizer's variables: its iterations, a loss scale and its counter."""
    return {v.path: float(v) for v in model.optimizer.variables if v.shape == ()}


def facts(model):
    """What a model of the library says of itself beside its numbers, as JSON has it."""
    preprocessor = model.preprocessor
    config = preprocessor and {k: v for k, v in preprocessor.get_config().items() if k != "name"}
    found = {
        "class": type(model).__name__,
        "class_names": model.class_names,
        "preprocessor": config,
        "dtype": model.get_config()["dtype"]["config"]["name"],
        "frozen": [v.path for v in model.weights if not v.trainable and "seed" not in v.path],
    }
    return json.loads(json.dumps(found))  # which has no tuples


class Saved:
    """What a version saved on one backend, unpacked.

    Attributes:
        folder: `Path` of the files.
        expected: dict, what was measured when they were written.
        pixels: uint8 (2, 32, 32, 3), the pictures of `outputs`.
    """

    def __init__(self, archive, folder):
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
        self.folder = folder
        self.expected = json.loads((folder / "expected.json").read_text())
        self.pixels = np.load(folder / "pixels.npy")
