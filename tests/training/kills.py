"""Runs that are killed after a given step."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras

from training.loop import fit, run
from training.loop.checkpoint import Checkpoint
from training.results.folder import RunFolder

ROOT = Path(__file__).parents[2]


def killing(epoch, step, kill):
    """A `Checkpoint` class that calls `kill` after the checkpoint of a step was written."""

    class Killing(Checkpoint):
        def on_epoch_begin(self, number, logs=None):
            super().on_epoch_begin(number, logs)
            if (number, self.first_step) == (epoch, step):
                kill()

        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            if (self.epoch, self.first_step + batch + 1) == (epoch, step):
                kill()

    return Killing


def prepare(run_dir, overrides=()):
    """Prepares a run like the command, with a loss scale that grows after a few steps."""
    resume = RunFolder(run_dir).state != "free"
    job = run.prepare("small.toml", () if resume else overrides, run_dir, resume=resume)
    if hasattr(job.model.optimizer, "dynamic_growth_steps"):
        job.model.optimizer.dynamic_growth_steps = 3
    return job


def die_here(arguments):
    """Trains until SIGKILL, in a separate process; `arguments` is JSON of a list."""
    overrides, epoch, step = json.loads(arguments)
    fit.Checkpoint = killing(epoch, step, lambda: os.kill(os.getpid(), signal.SIGKILL))
    run.fit(prepare("killed", overrides))


def state(job):
    """All that a run ends with."""
    variables = [*job.model.weights, *job.model.optimizer.variables]
    return [(v.path, keras.ops.convert_to_numpy(v)) for v in variables]


def die(overrides, epoch, step):
    """Trains until then in a process of its own, which SIGKILL ends."""
    program = "import sys; from tests.training import kills; kills.die_here(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps([overrides, epoch, step])],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
