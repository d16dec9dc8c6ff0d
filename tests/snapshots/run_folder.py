"""What a run leaves: the names in its folder, and what is in the files that programs read."""

import contextlib
import csv
import io
import json
import signal
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
from PIL import Image

import keras_vit
from tests.snapshots.keys import keys
from training.__main__ import main
from training.loop import fit
from training.loop.checkpoint import Checkpoint
from training.loop.checkpoint_file import POSITION
from training.loop.stopping import Stopped
from training.results.folder import RunFolder

RECIPE = """
[model]
variant = "VisionTransformer"
num_classes = 10
image_size = 8
num_channels = 1
patch_size = 4
width = 8
depth = 1
num_heads = 2
mlp_dim = 8
dropout_rate = 0.1
[data]
source = "digits"
[optimizer]
learning_rate = 1e-3
[train]
epochs = 1
batch_size = 600
"""
# Of files, one of which is broken; stopped within the third of four epochs.
FILES = ("model.num_channels=3", "model.num_classes=2", "data.source=folder:pictures")
FILES += ("data.max_corrupt=1", "optimizer.ema=0.5")
FILES += ("train.epochs=4", "train.batch_size=4", "train.keep_epochs=2")


class AskedToStop(Checkpoint):
    """SIGTERM in the second step of the third epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 2 and batch == 1:
            self.asked = lambda: Stopped(signal.SIGTERM)
        super().on_train_batch_end(batch, logs)


def export(model, path, samples):
    """Only the folder: what is in it is TensorFlow's, and other tests write and run it."""
    path.mkdir()
    return SimpleNamespace(max_difference=0.0)


def lines():
    """The exit code of a run and what its folder holds: one that ended, stopped, diverged."""
    yield "# The names that `training.results.folder` knows"
    yield from sorted(path.name for name, path in vars(RunFolder("run")).items() if name != "path")
    yield ""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("recipe.toml").write_text(RECIPE)
        write_pictures(Path("pictures"))
        yield "# A run that is finished"
        with mock.patch.object(keras_vit, "export", export):
            yield from of_run("finished")
        yield ""
        yield "# A run of picture files that is stopped by SIGTERM within its third epoch"
        with mock.patch.object(fit, "Checkpoint", AskedToStop):
            yield from of_run("stopped", *FILES)
        yield ""
        yield "# A run that diverges"
        yield from of_run("diverged", "optimizer.learning_rate=1e30")


def write_pictures(folder):
    rng = np.random.default_rng(0)
    for split, number in (("train", 12), ("test", 2)):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 256, (9, 10, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    (folder / "train" / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")


def of_run(name, *overrides):
    settings = [x for override in overrides for x in ("--set", override)]
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        code = main(["recipe.toml", "--run-dir", name, *settings])
    yield f"exit code {code}"
    for path in sorted(Path(name).iterdir()):
        yield path.name + "/" * path.is_dir()
        yield from (f"    {x}" for x in inside(path))


def inside(path):
    """What a program finds in a file."""
    if path.suffix == ".json":
        return keys(json.loads(path.read_text()))
    if path.suffix == ".csv":
        with open(path, newline="") as file:
            return next(csv.reader(file), [])
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return [f"{name}: {arrays[name].dtype.kind}" for name in arrays.files]
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            found = {name: [name] for name in sorted(archive.namelist())}
            said = keys(json.loads(archive.read(POSITION)))
            found[POSITION] += [f"    {key}" for key in said]
            return [x for lines in found.values() for x in lines]
    if path.suffix == ".md":
        return [x for x in path.read_text().splitlines() if x.startswith("## ")]
    return []
