"""Runs that die at a counted step."""

import json
import os
import signal

from training.loop import fit, run
from training.loop.checkpoint import Checkpoint
from training.results.folder import RunFolder


def killing(epoch, step, kill):
    """A `Checkpoint` that calls `kill` after that step, whose checkpoint is there."""

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
    """The run as the command makes it, but that its loss scale grows within so few steps."""
    resume = RunFolder(run_dir).state != "free"
    job = run.prepare("small.toml", () if resume else overrides, run_dir, resume=resume)
    if hasattr(job.model.optimizer, "dynamic_growth_steps"):
        job.model.optimizer.dynamic_growth_steps = 3
    return job


def die_here(arguments):
    """By SIGKILL, in a process of its own; `arguments` are JSON."""
    overrides, epoch, step = json.loads(arguments)
    fit.Checkpoint = killing(epoch, step, lambda: os.kill(os.getpid(), signal.SIGKILL))
    run.fit(prepare("killed", overrides))
