"""Shipping a model: write it, run what was written in its own runtime, compare, then say done."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from keras_vit.layers.validation import check_choice

# Each runs in a process of its own. The second must not even be able to import Keras.
WRITE_FROM_TENSORFLOW = """
import sys, keras, keras_vit
model = keras.models.load_model(sys.argv[1], compile=False)
model.export(sys.argv[2], format="tf_saved_model", verbose=False)
"""
RUN_WITH_PLAIN_TENSORFLOW = """
import sys
sys.modules["keras"] = None
import numpy as np, tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
(name,) = serve.structured_input_signature[1]
(outputs,) = serve(**{name: tf.constant(np.load(sys.argv[2]))}).values()
np.save(sys.argv[3], outputs.numpy())
"""


class ExportReport(NamedTuple):
    """What was written, and how far it is from the model; prints as one line.

    Attributes:
        path: where the export lies.
        format: "saved_model".
        max_difference: largest absolute difference of any output on the samples.
        top1_agreement: share of samples whose largest output is the same one.
        size_bytes: size of the export on disk.
    """

    path: Path
    format: str
    max_difference: float
    top1_agreement: float
    size_bytes: int

    def __str__(self):
        return (
            f"{self.format} at {self.path}: {self.size_bytes / 2**20:.1f} MiB, reloaded and run; "
            f"largest difference {self.max_difference:.2e}, "
            f"top-1 agreement {100 * self.top1_agreement:.1f} %"
        )


def export(model, path, format="saved_model", samples=None, tolerance=None):
    """Exports a model, runs the result without Keras and compares, from any backend.

    TensorFlow writes the SavedModel. From JAX or PyTorch the weights go over to it in a process of
    its own, so classes that are not part of Keras or this library cannot follow there. The batch
    size stays free, and so does the image size of a model built with `image_size=None`.

    Args:
        model: `keras.Model` on images.
        path: str or path of a folder that does not exist yet.
        format: "saved_model".
        samples: array (B, H, W, C) to compare on; by default eight images of noise.
        tolerance: float, largest difference allowed, relative to the largest output where that is
            above 1; by default 1e-4, or 0.05 for a model that computes in 16 bits.

    Returns:
        `ExportReport`.

    Raises:
        ValueError: for another format, an existing path, missing TensorFlow, or outputs outside the
            tolerance; nothing that looks finished is left at `path` then.

    Example:
        >>> print(keras_vit.export(model, "saved_model", samples=images))
    """
    check_choice(format, "format", ("saved_model",))
    path = Path(path)
    if path.exists():
        raise ValueError(f"path must not exist yet: choose another or remove it. Received: {path}")
    if importlib.util.find_spec("tensorflow") is None:
        raise ValueError(
            "The format 'saved_model' needs TensorFlow, whatever the backend is: "
            "pip install 'keras_vit[tensorflow]'. Received: no module named tensorflow"
        )
    samples = _noise(model) if samples is None else np.asarray(samples)
    expected = np.asarray(model.predict(samples, verbose=0), "float32")

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
        written = Path(scratch) / "saved_model"
        _write_saved_model(model, written, Path(scratch))
        actual = _run_saved_model(written, samples.astype(model.input.dtype), Path(scratch))

        difference = float(np.max(np.abs(expected - actual)))
        if tolerance is None:
            tolerance = 1e-4 if model.compute_dtype == "float32" else 0.05
        limit = tolerance * max(1.0, float(np.max(np.abs(expected))))
        if not difference <= limit:  # NaN is no agreement either
            raise ValueError(
                "The exported model does not give the model's outputs; nothing was kept. "
                f"Expected: a largest difference of {limit:.2e}. Received: {difference:.2e}"
            )
        shutil.move(written, path)
    same = expected.argmax(-1) == actual.argmax(-1)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return ExportReport(path, format, difference, float(same.mean()), size)


def _noise(model):
    """Eight images of noise in the range that the model takes, of a size that it takes."""
    height, width, channels = model.input.shape[1:]
    if height is None:
        height, width = (8 * patch for patch in model.patch_size)
    noise = np.random.default_rng(0).uniform(-1, 1, (8, height, width, channels))
    raw = any(layer.name == "preprocessing" for layer in model.layers)
    return (noise * 127.5 + 127.5 if raw else noise).astype("float32")


def _write_saved_model(model, written, scratch):
    if keras.backend.backend() == "tensorflow":
        model.export(written, format="tf_saved_model", verbose=False)
        return
    model.save(scratch / "model.keras")
    _python(WRITE_FROM_TENSORFLOW, scratch / "model.keras", written, backend="tensorflow")


def _run_saved_model(written, samples, scratch):
    np.save(scratch / "samples.npy", samples)
    _python(RUN_WITH_PLAIN_TENSORFLOW, written, scratch / "samples.npy", scratch / "outputs.npy")
    return np.load(scratch / "outputs.npy").astype("float32")


def _python(code, *arguments, backend=None):
    """Runs `code` in a Python of its own with the same modules; raises with its last words."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if backend is not None:
        environment["KERAS_BACKEND"] = backend
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(
            "TensorFlow could not write or run the export; nothing was kept. It said: "
            + done.stderr.strip()[-2000:]
        )
