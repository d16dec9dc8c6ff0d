"""A run that is killed again and again ends like one that never was, to the last bit."""

import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.helpers import backends
from tests.training.helpers import WITHOUT_EXPORT, write_small
from training.loop import run
from training.results.folder import RunFolder

ROOT = Path(__file__).parents[3]
PLAN = ["train.epochs=12", "train.checkpoint_steps=3", "optimizer.ema=0.9"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that was not killed."""
    path = tmp_path_factory.mktemp("whole")
    run.fit(run.prepare(str(write_small(path)), PLAN, path / "run"))
    return path / "run"


def start(small, run_dir, program=("-m", "training"), **arguments):
    """The command as a user gives it again after a kill: --resume where there is a run."""
    state = RunFolder(run_dir).state
    again = [word for override in PLAN for word in ("--set", override)]
    if state != "free":
        again = ["--resume"]
    return subprocess.Popen(
        [sys.executable, *program, small, "--run-dir", run_dir, *again],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **arguments,
    )


def finish(small, run_dir, **arguments):
    process = start(small, run_dir, **arguments)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


def wait_for(condition, process):
    while process.poll() is None and not condition():
        time.sleep(0.001)


def kill(small, run_dir, moment, rng):
    """Starts the command and kills it while it imports, trains, writes or finishes.

    Returns:
        Whether it was still alive then.
    """
    process, folder = start(small, run_dir), RunFolder(run_dir)
    before = folder.metrics.stat().st_size if folder.metrics.exists() else 0
    if moment == "importing":
        time.sleep(rng.uniform(0.5, 4.0))
    else:
        wait_for(
            lambda: folder.metrics.exists() and folder.metrics.stat().st_size > before, process
        )
    if moment == "writing":
        scratch = folder.checkpoint.with_name(f".writing-{folder.checkpoint.name}")
        wait_for(scratch.exists, process)
        time.sleep(rng.uniform(0, 0.02))
    elif moment == "training":
        time.sleep(rng.uniform(0, 0.5))
    elif moment == "finishing":
        wait_for(folder.predictions.exists, process)
        time.sleep(rng.uniform(0, 3.0))
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return alive


def weights(run_dir):
    model = keras.models.load_model(RunFolder(run_dir).checkpoint)
    arrays = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    return arrays + [keras.ops.convert_to_numpy(x) for x in model.optimizer.variables]


def check(small, whole, moments, **arguments):
    rng = random.Random(0)
    alive = [kill(small, "killed", moment, rng) for moment in moments]
    assert sum(alive) > len(moments) // 2  # else little was tried
    finish(small, "killed", **arguments)
    for one, other in zip(weights(whole), weights("killed"), strict=True):
        np.testing.assert_array_equal(one, other)
    texts = [RunFolder(x).metrics.read_text() for x in (whole, "killed")]
    assert texts[0] == texts[1]
    left = {path.name for path in Path("killed").iterdir() if "writing" in path.name}
    assert not left


@backends("tensorflow")
def test_killed_while_writing(small, whole):
    check(small, whole, ["writing"], program=("-c", WITHOUT_EXPORT))


@pytest.mark.slow
def test_killed_at_ten_moments(small, whole):
    moments = ["importing", "writing", "training", "writing", "training"]
    check(small, whole, [*moments, *moments[1:], "finishing"])


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_loses_nothing(small, whole):
    """No file may grow beyond what a checkpoint takes, so the first one cannot be written."""
    limit = 50_000

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = start(small, "full", preexec_fn=full)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 1 and "go on with --resume" in err, err
    assert not RunFolder("full").checkpoint.exists()
    finish(small, "full")
    for one, other in zip(weights(whole), weights("full"), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_sigterm_keeps_the_step_and_says_how_to_go_on(small, whole):
    process, folder = start(small, "run"), RunFolder("run")
    wait_for(folder.checkpoint.exists, process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    said = r"error: stopped; run/model.keras keeps .*; go on with --resume. Received: SIGTERM"
    assert re.fullmatch(said, err.strip()), err
    finish(small, "run")
    for one, other in zip(weights(whole), weights("run"), strict=True):
        np.testing.assert_array_equal(one, other)
