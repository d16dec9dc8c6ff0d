"""Writes an export, in a separate process if the format needs another backend.

python -m keras_vit.export.write JOB.json
"""

import importlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np

from keras_vit.export.formats import FORMATS
from keras_vit.export.serving import with_precision, without_heads_for_training


def write(model_file, path, format, inputs, precision):
    """Writes the model in a `.keras` file to `path`, on the backend of the format.

    Args:
        model_file: `Path` of the `.keras` file; calibration data is in calibration.npz beside it.
        path: `Path` of the export.
        format, inputs, precision: arguments of `keras_vit.export`.

    Raises:
        ValueError: if writing fails, with the end of the error message.
    """
    job = {
        "model_file": str(model_file),
        "path": str(path),
        "format": format,
        "inputs": inputs,
        "precision": precision,
    }
    backend = FORMATS[format].backend
    if keras.backend.backend() == backend:
        try:
            write_here(**job)
        except Exception as error:
            raise ValueError(
                f"The model could not be written as {format}; nothing was kept. "
                f"{type(error).__name__}: {str(error).strip()[-2000:]}"
            ) from error
        return
    file = Path(model_file).with_name("job.json")
    file.write_text(json.dumps({"modules": _modules(model_file), "job": job}))
    python("-m", "keras_vit.export.write", file, backend=backend, doing=f"write {format}")


def _modules(model_file):
    """Names of the modules that register the classes in a `.keras` file.

    Classes in `__main__` are left out, because another process cannot import them.
    """
    with zipfile.ZipFile(model_file) as file:
        config = file.read("config.json").decode()
    classes = keras.saving.get_custom_objects().items()
    used = {x.__module__ for name, x in classes if json.dumps(name) in config}
    return sorted(used - {"__main__"})


def write_here(model_file, path, format, inputs, precision):
    """Writes the model as `write` does, in this process."""
    from keras_vit.export import tensorflow_formats, torch_formats

    writers = {
        "saved_model": tensorflow_formats.write_saved_model,
        "litert": tensorflow_formats.write_litert,
        "openvino": tensorflow_formats.write_openvino,
        "torch": torch_formats.write_torch,
        "onnx": torch_formats.write_onnx,
    }
    calibration = None
    if precision == "int8_static":
        calibration = list(np.load(Path(model_file).with_name("calibration.npz")).values())
    with keras.device("cpu"):
        model = without_heads_for_training(keras.models.load_model(model_file, compile=False))
        if precision is not None:
            # The tools of the format start from float32.
            own = precision in FORMATS[format].own
            model = with_precision(model, "float32" if own else precision)
        writers[format](model, Path(path), inputs, precision, calibration)


def python(*arguments, doing, backend=None):
    """Runs this Python interpreter with `arguments` and the same `sys.path`.

    Args:
        arguments: command line arguments.
        doing: str, what the process does, for the error message.
        backend: str, the Keras backend of the process; by default the current one.

    Raises:
        ValueError: if the process fails, with the end of its error message.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    environment["CUDA_VISIBLE_DEVICES"] = ""  # the model may fill the GPU
    if backend is not None:
        environment["KERAS_BACKEND"] = backend
    command = [sys.executable, "-W", "ignore", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(
            f"A process that should {doing} failed; nothing was kept. Its error: "
            + done.stderr.rpartition(LAST_WORDS)[2].strip()[-2000:]
        )


LAST_WORDS = "keras_vit.export: "  # what comes before may be warnings

if __name__ == "__main__":
    try:
        read = json.loads(Path(sys.argv[1]).read_text())
        for module in read["modules"]:
            importlib.import_module(module)
        write_here(**read["job"])
    except Exception as error:
        name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        sys.exit(f"{LAST_WORDS}{name}{error}")
