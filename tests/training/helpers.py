"""A recipe that trains in seconds, and checks of stopped and resumed runs."""

import csv
import signal

import keras
import numpy as np

from training import data, recipe
from training.loop import run
from training.loop.checkpoint import Checkpoint
from training.loop.stopping import Stopped

SMALL = """
[model]
variant = "VisionTransformer"
num_classes = 10
image_size = 8
num_channels = 1
patch_size = 4
width = 16
depth = 2
num_heads = 2
mlp_dim = 32
dropout_rate = 0.1
attention_dropout_rate = 0.1
drop_path_rate = 0.2

[data]
source = "digits"

[augment]
rotate = 10
translate = 0.1

[optimizer]
learning_rate = 3e-3
weight_decay = 0.1
warmup_steps = 3
clip_norm = 1.0

[train]
epochs = 4
batch_size = 256
label_smoothing = 0.1
"""

# The command without the export at its end, which starts two processes more: for `python -c`.
WITHOUT_EXPORT = """
import sys
from types import SimpleNamespace
import keras_vit
keras_vit.export = lambda *_, **__: SimpleNamespace(max_difference=0.0)
from training.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def write_small(folder):
    """Path of the small recipe in a folder."""
    path = folder / "small.toml"
    path.write_text(SMALL)
    return path


def plan(
    split, num_classes, batch_size, transform, seed, epochs, mix=None, repeats=1, first_step=0
):
    """A `Plan` for the examples of a split."""
    tables = {
        "model": {"variant": "VisionTransformer", "num_classes": num_classes},
        "data": {"source": "digits"},
        "augment": {"repeats": repeats},
        "optimizer": {"learning_rate": 1e-3},
        "train": {"epochs": epochs.stop, "batch_size": batch_size, "seed": seed},
    }
    steps = data.steps_per_epoch(split, batch_size)
    found = recipe.of_tables(tables)
    example = data.classified(transform, num_classes)
    return data.Plan(found, steps, epochs, example, mix, first_step)


class AskedToStop(Checkpoint):
    """A `Checkpoint` that receives SIGTERM in the third of five steps of the second epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 1 and batch == 2:
            self.asked = lambda: Stopped(signal.SIGTERM)
        super().on_train_batch_end(batch, logs)


def weights(job):
    return [keras.ops.convert_to_numpy(weight) for weight in job.model.weights]


def rows(job):
    with open(job.folder.metrics, newline="") as file:
        return list(csv.DictReader(file))


def check_resumed(whole, run_dir, done):
    """Resumes a run and asserts that it ends with the weights and metrics of `whole`.

    Args:
        whole: `Job` of an uninterrupted run.
        run_dir: folder of the stopped run.
        done: dict, the expected position of the stopped run.
    """
    keras.utils.set_random_seed(99)
    resumed = run.prepare("small.toml", run_dir=run_dir, resume=True)
    assert {key: resumed.done[key] for key in done} == done
    run.fit(resumed)
    for one, other in zip(weights(whole), weights(resumed), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
    assert [row["epoch"] for row in rows(resumed)] == ["1", "2", "3", "4"]
    for one, other in zip(rows(whole), rows(resumed), strict=True):
        for key, value in one.items():
            np.testing.assert_allclose(float(other[key]), float(value), rtol=1e-5, atol=1e-6)
