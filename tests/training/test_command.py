import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.helpers import backends, once
from training.__main__ import main

ROOT = Path(__file__).parents[2]
QUICK = ["--set", "train.epochs=2", "--run-dir", "run"]


def lines(captured):
    return captured.strip().splitlines()


@pytest.fixture
def refused(small, capsys):
    """Runs a command that must fail as a mistake of the user; returns its message."""

    def run(*arguments):
        assert main([*arguments]) == 2
        out, err = capsys.readouterr()
        assert len(lines(err)) == 1 and err.startswith("error: ") and "Received: " in err
        return err

    return run


@backends("tensorflow")
def test_a_run_from_start_to_end(small, finished, capsys):
    epochs = [line.split()[1] for line in lines(finished) if line.startswith("epoch ")]
    assert epochs == ["1/2", "2/2"]
    assert "val" in finished and "images/s" in finished and "left" in finished
    assert "largest difference" in finished
    run = Path("run")
    assert {path.name for path in run.iterdir()} == {
        "recipe.toml",
        "data.json",
        "metrics.csv",
        "curves.png",
        "predictions.png",
        "confusion.png",
        "worst.png",
        "report.md",
        "model.keras",
        "best.keras",
        "saved_model",
        "result.json",
    }
    result = json.loads((run / "result.json").read_text())
    assert result["backend"] == keras.backend.backend()
    assert result["test_images"] == 359
    assert result["export_max_difference"] < 1e-4

    from training import data
    from training.recipe.schema import DataTable

    test = data.load(DataTable("digits"), 10).test
    logits = keras.models.load_model(run / "model.keras").predict(
        test.images.astype("float32"), verbose=0
    )
    assert np.mean(logits.argmax(-1) == test.labels) == pytest.approx(result["test_accuracy"])
    for picture in ("curves.png", "predictions.png", "confusion.png", "worst.png"):
        assert (run / picture).read_bytes()[:4] == b"\x89PNG"

    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert main([small, *QUICK]) == 2
    assert "a run that is finished" in capsys.readouterr().err
    assert main([small, "--run-dir", "run", "--resume"]) == 0
    assert f"Test accuracy {100 * result['test_accuracy']:.2f} %" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_mistakes_are_one_line_and_leave_nothing_behind(refused):
    np.savez("labels.npz", **arrays(labels=[0, 1, 2, 10] * 10))
    np.savez("nan.npz", **arrays(pixel=np.nan))
    Path("file").write_text("")
    for arguments, message in (
        (["small.toml", "--set", "train.epoch=2"], "did you mean 'train.epochs'"),
        (["small.toml", "--set", "data.source=npz:labels.npz"], "10 at index 3"),
        (["small.toml", "--set", "data.source=npz:nan.npz"], "finite"),
        (["small.toml", "--set", "model.patch_size=3"], "multiple of patch_size"),
        (["small.toml", "--set", "model.num_heads=3"], "multiple of num_heads"),
        (["small.toml", "--set", "model.num_channels=3"], "that of the data, 1"),
        (["small.toml", "--set", "model.pooling=mean"], "pooling must be one of"),
        (["small.toml", "--set", "optimizer.warmup_steps=1000"], "warmup_steps"),
        (["small.toml", "--set", "train.batch_size=5000"], "batch_size"),
        (["small.toml", "--run-dir", "file/below"], "must be writable"),
        (["small.toml", "--resume"], "no run to resume"),
        (["digit"], "did you mean 'digits'"),
    ):
        assert message in refused(*arguments)
    assert not Path("runs").exists()


def arrays(labels=(0, 1, 2, 3) * 10, pixel=0.0):
    images = np.zeros((40, 8, 8, 1), "float32")
    images[5, 5, 5] = pixel
    labels = np.array(labels)
    return dict(train_images=images, train_labels=labels, test_images=images, test_labels=labels)


@once
def test_the_module_runs_and_exits_with_its_code(small):
    done = subprocess.run(
        [sys.executable, "-m", "training", "digit"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and len(lines(done.stderr)) == 1
