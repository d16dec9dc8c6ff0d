"""Runs of the recipe `finetune` at its smoke size, which may be killed."""

import contextlib
import io
import os
import signal

from tests.training.kills import killing
from training.loop import fit, run
from training.results.folder import RunFolder

SMOKE = ["train.checkpoint_steps=1", "optimizer.ema=0.5"]


def prepare_smoke(run_dir):
    resume = RunFolder(run_dir).state == "unfinished"
    overrides = [] if resume else SMOKE
    with contextlib.redirect_stdout(io.StringIO()):
        return run.prepare("finetune", overrides, run_dir, resume=resume, smoke=True)


def die(run_dir, epoch, step, kill=None):
    """Trains the smoke form until then."""
    fit.Checkpoint = killing(epoch, step, kill or (lambda: os.kill(os.getpid(), signal.SIGKILL)))
    run.fit(prepare_smoke(run_dir))
