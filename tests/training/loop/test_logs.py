"""The packages need not be there: what they would be told is what counts."""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.helpers import once
from training.__main__ import main
from training.loop import fit, logs, run
from training.loop.checkpoint import Checkpoint

# The same on every backend.
pytestmark = once

BOTH = ["log.tensorboard=true", "log.wandb=vits"]


class Service:
    """In place of the module wandb: what was sent, by the id of the run."""

    def __init__(self):
        self.sent, self.begun, self.finished = {}, [], 0

    def init(self, id, **settings):
        self.begun.append({"id": id, **settings})
        rows = self.sent.setdefault(id, [])
        return SimpleNamespace(
            log=rows.append, finish=self.finish, define_metric=lambda *_, **__: 0
        )

    def finish(self):
        self.finished += 1


@pytest.fixture
def service(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "wandb", service := Service())
    return service


@pytest.fixture
def written(monkeypatch):
    """In place of TensorFlow's summaries: (folder, name, step) of every scalar, once on disk."""
    on_disk, waiting, current = [], [], []

    class Writer:
        def __init__(self, folder):
            self.folder = Path(folder).name

        def as_default(self):
            current[:] = [self.folder]
            return self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            current.clear()

        def flush(self):
            on_disk.extend(waiting)
            waiting.clear()

        close = flush

    def scalar(name, value, step):
        if current:  # else TensorFlow writes nothing either
            waiting.append((current[0], name, int(step)))

    module = SimpleNamespace(create_file_writer=Writer, scalar=scalar)
    monkeypatch.setattr(logs.TensorBoard, "summary", module)
    return on_disk


class KilledAtThird(Checkpoint):
    """The third epoch was trained and validated and is lost."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt
        super().on_epoch_end(epoch, logs)


def test_going_on_logs_no_epoch_twice(small, service, written, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(fit, "Checkpoint", KilledAtThird)
        with pytest.raises(KeyboardInterrupt):
            run.fit(run.prepare(small, BOTH, "run"))
    assert service.finished == 0
    kept = [step for part, name, step in written if (part, name) == ("train", "epoch_loss")]
    assert kept == [0, 1]  # on disk though nobody closed it
    job = run.prepare(small, run_dir="run", resume=True)
    run.fit(job)

    for part in ("train", "validation"):
        for name in ("epoch_loss", "epoch_accuracy"):
            assert [s for p, n, s in written if (p, n) == (part, name)] == [0, 1, 2, 3]
    assert {name for _, name, _ in written} == {
        "epoch_loss",
        "epoch_accuracy",
        "epoch_learning_rate",
    }
    [rows] = service.sent.values()  # one run, under one id
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert {"loss", "val_accuracy", "learning_rate"} <= set(rows[0])
    assert service.finished == 1
    first, second = service.begun
    assert first["project"] == "vits" and first["name"] == "run" and first["resume"] == "allow"
    assert first["id"] == second["id"]
    assert json.loads(json.dumps(first["config"]))["train"]["epochs"] == 4


def test_another_run_has_another_id(small, service):
    for folder in ("one", "two"):
        job = run.prepare(small, BOTH[1:], folder)
        logs.callbacks(job.recipe, job.folder)
    assert len(service.sent) == 2


@pytest.mark.parametrize("override, package", [(BOTH[0], "tensorboard"), (BOTH[1], "wandb")])
def test_a_missing_package_is_named_before_anything_starts(
    override, package, small, monkeypatch, capsys
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main([small, "--set", override, "--run-dir", "run"]) == 2
    err = capsys.readouterr().err
    assert f"pip install {package}" in err and "Received: log." in err
    assert not Path("run").exists()


def test_a_service_that_refuses_is_one_line(small, service, monkeypatch, capsys):
    def refuse(**settings):
        raise RuntimeError("api_key not configured")

    monkeypatch.setattr(service, "init", refuse)
    assert main([small, "--set", BOTH[1], "--run-dir", "run"]) == 1
    assert "api_key not configured" in capsys.readouterr().err


def test_nothing_is_logged_unasked(small):
    job = run.prepare(small, run_dir="run")
    assert logs.callbacks(job.recipe, job.folder) == []
