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

from .. import data
from ..augment.transform import evaluation_transform
from ..devices.hardware import peak_memory
from ..recipe.optimizers import updates
from ..results import figures, report
from ..results.metrics import chance, log_softmax, measure


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
    model, folder, test = job.model, job.folder, job.splits.test
    classes, names = model.output.shape[-1], job.splits.class_names
    batch_size = job.recipe.train.batch_size
    steps = data.steps_per_epoch(job.splits.train, batch_size)
    transform = evaluation_transform(job.recipe.data, model.input.shape[1:])
    batches = data.evaluation_dataset(test, classes, 256, transform)
    logits = model.predict(batches, verbose=0).astype("float32")  # (N, K)
    found = measure(logits, test.labels)
    images = data.pictures(test, transform)
    probabilities = np.exp(log_softmax(logits))
    predicted = probabilities.argmax(-1)

    figures.curves(folder.metrics, folder.curves)
    of_images = model, images, test.labels, probabilities
    figures.predictions(*of_images, folder.predictions, names)
    figures.worst(*of_images, folder.worst, names)
    if classes <= report.MATRIX:
        figures.confusion(test.labels, predicted, classes, folder.confusion, names)
    if folder.saved_model.exists():
        shutil.rmtree(folder.saved_model)  # of an earlier, interrupted call
    exported = keras_vit.export(model, folder.saved_model, samples=images[:32].astype("float32"))
    print(printable(exported))
    backend = keras.backend.backend()
    result = {
        "test_accuracy": found.top1,
        "test_top5": found.top5,
        "test_loss": found.loss,
        "test_ece": found.ece,
        "test_images": found.images,
        "test_chance": chance(test.labels),
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
    report.write(job, result, test.labels, predicted)
    folder.write_result(result)
    return result
