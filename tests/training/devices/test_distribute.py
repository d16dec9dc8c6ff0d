"""Many devices and processes give what one device gives, and end together."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.helpers import backends, once
from tests.training import scenes
from tests.training.helpers import WITHOUT_EXPORT
from training.devices import distribute, jax
from training.devices.process_group import ProcessGroup
from training.loop import run
from training.loop.checkpoint_file import position

ROOT = Path(__file__).parents[3]
BACKEND = keras.backend.backend()
PLAN = [
    *("model.dropout_rate=0.0", "model.attention_dropout_rate=0.0", "model.drop_path_rate=0.0"),
    *("optimizer.ema=0.9", "optimizer.layer_decay=0.8", "optimizer.clip_norm=0.1"),
    "train.epochs=2",
]
# TensorFlow's devices of a CPU are a matter of the program.
FOUR = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
"""
only_jax = pytest.mark.skipif(BACKEND != "jax", reason="only JAX splits a model")


def start(
    small, run_dir, overrides=PLAN, count=1, program=("-m", "training"), more=(), **variables
):
    """The command of a run, in `count` processes."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    words = [word for override in overrides for word in ("--set", override)]
    return [
        subprocess.Popen(
            [sys.executable, *program, small, "--run-dir", run_dir, *words, *more],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "RANK": str(rank),
                "WORLD_SIZE": str(count),
                "MASTER_ADDR": "localhost",
                "MASTER_PORT": str(port),
                **variables,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def finish(started):
    for process in started:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err


def losses(run_dir):
    with open(Path(run_dir, "metrics.csv"), newline="") as file:
        return [(float(row["loss"]), float(row["val_loss"])) for row in csv.DictReader(file)]


def check(small, run_dir, epochs=2, other_mean=None):
    """A run has the losses of one device, and its checkpoint is a model like any other.

    An epoch that was interrupted has the mean of its rest instead.
    """
    alone = run.prepare(small, [*PLAN, f"train.epochs={epochs}"], "alone")
    run.fit(alone)
    found, expected = losses(run_dir), losses("alone")
    assert len(found) == len(expected) == epochs
    for epoch, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        skipped = int(epoch == other_mean)
        np.testing.assert_allclose(ours[skipped:], theirs[skipped:], rtol=1e-4)
    model = keras.models.load_model(Path(run_dir, "model.keras"))
    for weight, one in zip(model.weights, alone.model.weights, strict=True):
        if weight.name != "seed_generator_state":
            a, b = keras.ops.convert_to_numpy(weight), keras.ops.convert_to_numpy(one)
            np.testing.assert_allclose(a, b, atol=2e-3, err_msg=weight.path)
    assert position(Path(run_dir, "model.keras"))["epochs"] == epochs


# By default one way with each backend, since it takes half a minute: several devices of one process
# with TensorFlow and JAX, where a split model takes all that a copied one does; PyTorch has no
# other devices than processes, of which `test_processes` starts two.
@pytest.mark.parametrize(
    "strategy",
    [pytest.param("data", marks=backends("tensorflow")), pytest.param("model", marks=only_jax)],
)
def test_four_devices(small, strategy):
    overrides, program = [*PLAN, f"distribute.strategy={strategy}"], ("-c", WITHOUT_EXPORT)
    if BACKEND == "tensorflow":
        finish(start(small, "four", overrides, program=("-c", FOUR + WITHOUT_EXPORT)))
    elif BACKEND == "jax":
        finish(start(small, "four", overrides, program=program, JAX_NUM_CPU_DEVICES="4"))
    else:
        finish(start(small, "four", overrides, count=4, program=program))
    check(small, "four")


@pytest.mark.parametrize(
    "strategy",
    [
        pytest.param("auto", marks=once),
        # Their checkpoints take all of them.
        pytest.param("model", marks=[only_jax, pytest.mark.slow]),
    ],
)
def test_processes(small, strategy):
    overrides = [*PLAN, f"distribute.strategy={strategy}"]
    finish(start(small, "together", overrides, count=2, program=("-c", WITHOUT_EXPORT)))
    check(small, "together")


@pytest.mark.slow
@pytest.mark.skipif(BACKEND == "torch", reason="its processes normalise their own parts")
def test_a_segmentation_on_two_devices(tmp_path, monkeypatch):
    """Its loss, its counts and the statistics of its batch normalisation are of the whole batch."""
    monkeypatch.chdir(tmp_path)
    source = scenes.write_folder(tmp_path / "scenes")
    text = scenes.RECIPE.format(source=source).replace("dropout_rate = 0.1", "")
    Path("two.toml").write_text(text)
    program, devices = WITHOUT_EXPORT, {"JAX_NUM_CPU_DEVICES": "2"}
    if BACKEND == "tensorflow":
        program, devices = FOUR.replace("* 4", "* 2") + WITHOUT_EXPORT, {}
    finish(start("two.toml", "two", [], program=("-c", program), **devices))
    alone = run.prepare("two.toml", ["distribute.strategy=none"], "alone")
    run.fit(alone)
    np.testing.assert_allclose(losses("two"), losses("alone"), rtol=2e-3)
    model = keras.models.load_model("two/model.keras")
    for weight, one in zip(model.weights, alone.model.weights, strict=True):
        if weight.name not in ("seed_generator_state", "moving_variance"):
            # The moving variance is unbiased by the pixels of a device, which are few here.
            a, b = keras.ops.convert_to_numpy(weight), keras.ops.convert_to_numpy(one)
            np.testing.assert_allclose(a, b, atol=2e-3, err_msg=weight.path)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["data", pytest.param("model", marks=only_jax)])
def test_processes_go_on_within_an_epoch(small, strategy):
    overrides = [*PLAN, "train.epochs=4", "train.checkpoint_steps=1"]
    overrides.append(f"distribute.strategy={strategy}")
    started = start(small, "run", overrides, count=2)
    deadline = time.monotonic() + 120
    while not position("run/model.keras").get("step") and time.monotonic() < deadline:
        time.sleep(0.01)
    started[1].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=60)[1] for process in started]
    assert [process.returncode for process in started] == [143, 143], said
    done = position("run/model.keras")
    assert done["step"], "it was stopped between two epochs; nothing is shown"
    finish(start(small, "run", [], count=2, more=["--resume"]))
    check(small, "run", epochs=4, other_mean=done["epochs"])


@pytest.mark.skipif(BACKEND != "jax", reason="with JAX alone a process saves a copy")
def test_the_copy_that_is_saved_has_the_state_of_a_loss_scale(small):
    for override in ("train.skip_nan=1", "train.precision=mixed_float16"):
        model = run.prepare(small, [override, "model.depth=1"], override).model
        model.optimizer.build(model.trainable_variables)
        model.optimizer.dynamic_scale.assign(64.0)
        copy = jax.copy_on_host(model, wanted=True)
        assert len(copy.optimizer.variables) == len(model.optimizer.variables)
        assert float(copy.optimizer.dynamic_scale) == 64.0


# `training.devices.process_group` notices that another one is gone, on every backend alike; by
# default with one whose runtime watches the others too.
@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGKILL, marks=backends("tensorflow")),
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_processes_end_together(small, how):
    """One dies, and the others say so; one is asked to stop, and all stop with a checkpoint."""
    started = start(small, "run", [*PLAN, "train.epochs=5000"], count=2)
    deadline = time.monotonic() + 120
    while not Path("run/model.keras").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(ValueError, match=f"in use by process {started[0].pid} on "):
        run.prepare(small, [], "run", resume=True)
    started[1].send_signal(how)
    said = [process.communicate(timeout=60)[1] for process in started]
    codes = [process.returncode for process in started]
    done = position("run/model.keras")
    if how == signal.SIGKILL:
        assert codes == [1, -9], said
        expected = "error: process 1 of 2 has ended; run/model.keras keeps"
    else:
        assert codes == [143, 143], said
        expected = "error: stopped; run/model.keras keeps"
    assert sum(line.startswith(expected) for line in said[0].splitlines()) == 1, said[0]
    assert "Traceback" not in said[0]
    # One device goes on from there.
    job = run.prepare(small, [f"train.epochs={done['epochs'] + 1}"], "run", resume=True)
    run.fit(job)
    assert len(losses("run")) == done["epochs"] + 1
    assert np.isfinite(losses("run")).all()


def test_what_cannot_be_distributed_says_so(small, monkeypatch):
    for strategy in ("data", "model"):
        wrong = "KERAS_BACKEND=jax" if strategy == "model" and BACKEND != "jax" else "one device"
        with pytest.raises(ValueError, match=wrong):
            run.prepare(small, [f"distribute.strategy={strategy}"], "run")
    with pytest.raises(ValueError, match="is for one process.*WORLD_SIZE=2"):
        distribute.start("none", ProcessGroup(0, 2))
    plan = run.prepare(small, [], "run").recipe
    with pytest.raises(ValueError, match="multiple of the number of devices, 3.*batch_size=256"):
        distribute.Devices("data", count=3).check(plan)


@pytest.mark.parametrize(
    "environment",
    [
        {"WORLD_SIZE": "2"},
        {"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
        {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "http"},
    ],
)
def test_half_an_environment_is_refused(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT"):
        ProcessGroup.from_environment()
