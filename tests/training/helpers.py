"""Runs that are stopped, and what they must end with."""

import csv
import signal

import keras
import numpy as np

from training import run
from training.checkpoint import Checkpoint
from training.stopping import Stopped


class AskedToStop(Checkpoint):
    """SIGTERM in the third of five steps of the second epoch."""

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
    """A run that goes on from there is the whole one in the end: weights and metrics."""
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
