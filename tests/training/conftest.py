"""Fixtures: a recipe and a working directory for each test, and a finished run."""

import contextlib
import io
import shutil
from types import SimpleNamespace

import pytest

from tests.training.helpers import write_small
from training.__main__ import main
from training.loop import finish, run


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Path of the small recipe, as a str; the test runs in its folder."""
    monkeypatch.chdir(tmp_path)
    return write_small(tmp_path).name


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory):
    """(folder with the run that `finished` copies, output of the command)."""
    folder, out = tmp_path_factory.mktemp("trained"), io.StringIO()
    recipe = write_small(folder).name
    with contextlib.chdir(folder), contextlib.redirect_stdout(out):
        assert main([recipe, "--run-dir", "run", "--set", "train.epochs=2"]) == 0
    return folder, out.getvalue()


@pytest.fixture
def finished(small, trained_once):
    """Copies a finished run of two epochs to the folder "run"; returns the command's output."""
    folder, said = trained_once
    shutil.copytree(folder / "run", "run")
    return said


@pytest.fixture
def untrained(monkeypatch):
    """Skips training, learning curves and export; runs are still evaluated and reported."""
    monkeypatch.setattr(run, "fit", lambda job: None)
    monkeypatch.setattr(finish.figures, "curves", lambda *_: None)
    exported = SimpleNamespace(max_difference=0.0)
    monkeypatch.setattr(finish.keras_vit, "export", lambda *_, **__: exported)
