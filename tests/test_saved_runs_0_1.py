"""The runs that version 0.1 began are gone on with: tests/golden/make_saved_0_1.py."""

import csv
import io
import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from tests import saved
from tests.helpers import once
from training import evaluate
from training.loop import run

GOLDEN = Path(__file__).parent / "golden/saved_0_1"
BACKEND = keras.backend.backend()
WRITERS = ["tensorflow", "jax", "torch"]
RUNS = ["plain", "average", "float16"]
# A run in float32 ends with the weights of the version that began it, to the bit on the processor
# that it ran on. Another one may add in another order. In 16 bits Adam then moves what has next to
# no gradient, such as a key's bias, by noise: 1.2e-3 where no vector instructions were allowed.
TOLERANCE = {"plain": 1e-5, "average": 1e-5, "float16": 5e-3}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """What this backend wrote; the test runs in that folder, as the runs did."""
    monkeypatch.chdir(tmp_path)
    return saved.Saved(GOLDEN / f"{BACKEND}.zip", tmp_path)


def check_resumed(files, name):
    """The stopped run ends as the one did that was not: every weight, every row of its metrics."""
    job = run.prepare("recipe.toml", run_dir=f"runs/{name}", resume=True)
    assert (job.done["epochs"], job.done["step"]) == (1, 2)
    run.fit(job)
    tolerance = TOLERANCE[name]
    with np.load(files.folder / f"runs/{name}.npz") as expected:
        assert {v.path for v in job.model.weights} == set(expected.files)
        for weight in job.model.weights:
            found = keras.ops.convert_to_numpy(weight)
            np.testing.assert_allclose(
                found, expected[weight.path], rtol=tolerance, atol=tolerance, err_msg=weight.path
            )
    ours, theirs = rows(job.folder.metrics), rows(files.folder / f"runs/{name}.csv")
    assert len(ours) == len(theirs) == 3
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for key, value in other.items():
            assert float(one[key]) == pytest.approx(float(value), rel=tolerance), key


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", RUNS)
def test_a_stopped_run_goes_on(files, name):
    check_resumed(files, name)


def rewrite(path, changes):
    """Changes members of a checkpoint: dict of name to function of the bytes, or None to drop."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            change = changes.get(name, lambda x: x)
            if change is not None:
                file.writestr(name, change(content))


def other_draws(content):
    """The random states of a run that has drawn otherwise."""
    with np.load(io.BytesIO(content)) as arrays:
        changed = {k: v + 1 if k.startswith("seed") else v for k, v in arrays.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **changed)
    return buffer.getvalue()


@once
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("average", {"own_weights.npz": None}),
        ("plain", {"within_epoch.npz": other_draws}),
        ("float16", {"within_epoch.npz": other_draws}),
    ],
)
def test_a_lost_state_is_noticed(files, name, changes):
    """`check_resumed` is no weaker than it says."""
    rewrite(files.folder / f"runs/{name}/model.keras", changes)
    with pytest.raises(AssertionError):
        check_resumed(files, name)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_finished_run_is_evaluated_as_it_was(writer, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved.Saved(GOLDEN / f"{writer}.zip", tmp_path)
    assert evaluate.main(["runs/finished", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = json.loads(Path("runs/finished/result.json").read_text())
    assert found["images"] == expected["test_images"]
    assert found["top1"] == expected["test_accuracy"]
    assert found["loss"] == pytest.approx(expected["test_loss"], rel=1e-4)
    assert found["ece"] == pytest.approx(expected["test_ece"], rel=1e-4)
