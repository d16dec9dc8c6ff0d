"""After training: evaluation on the test images, figures, export and result."""

import importlib
import os
import platform
import shutil

import keras
import numpy as np

import keras_vit
from keras_vit.hardware import hardware
from keras_vit.terminal import printable

from .. import data, tasks
from ..devices.hardware import peak_memory
from ..recipe.optimizers import updates
from ..results import figures, report


def finish(job, train_seconds, made=None):
    """Evaluates on the test images, draws the figures, exports the model and writes the result.

    Args:
        job: `training.loop.run.Job`.
        train_seconds: float, duration of the training.
        made: int, number of updates; by default the optimizer's.

    Returns:
        dict, the contents of `result.json`, which is written last.
    """
    host_memory, device_memory = peak_memory()  # first, so that it is that of training
    model, folder, task = job.model, job.folder, tasks.of(job.recipe)
    batch_size = job.recipe.train.batch_size
    steps = data.steps_per_epoch(job.splits.train, batch_size)
    tested = task.test(job)

    figures.curves(folder.metrics, folder.curves, task.metric, task.title)
    if folder.saved_model.exists():
        shutil.rmtree(folder.saved_model)  # of an earlier, interrupted call
    shipped = task.shipped(model)
    exported = keras_vit.export(shipped, folder.saved_model, samples=tested.samples)
    print(printable(exported))
    backend = keras.backend.backend()
    result = {
        **tested.result,
        "epochs": job.recipe.train.epochs,
        "steps": steps * job.recipe.train.epochs,
        "updates": updates(model) if made is None else made,
        "parameters": model.count_params(),
        "train_seconds": round(train_seconds, 1),
        "trained_from_epoch": job.done["epochs"],
        **job.speed.summary(steps * batch_size),
        "peak_memory_bytes": host_memory,
        "peak_device_memory_bytes": device_memory,
        "export_max_difference": float(exported.max_difference),
        "backend": backend,
        "cpu_count": os.cpu_count(),
        "hardware": hardware(),
        "versions": {
            "python": platform.python_version(),
            "keras_vit": keras_vit.__version__,
            "keras": keras.__version__,
            backend: importlib.import_module(backend).__version__,
            "numpy": np.__version__,
        },
    }
    report.write(job, result, tested)
    folder.write_result(result)
    return result
