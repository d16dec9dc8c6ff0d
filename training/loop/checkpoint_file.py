"""The additional members of a checkpoint, beside those of Keras's model file."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np

# Members of the checkpoint's archive, so that everything is written atomically.
POSITION = "training.json"
OWN_WEIGHTS = "own_weights.npz"
WITHIN_EPOCH = "within_epoch.npz"
VARIABLES = "variables.json"


def position(path):
    """The position of the run: `epochs`, `step`, `best` accuracy; {} if there is no file."""
    if not Path(path).exists():
        return {}
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(POSITION))


def describe(path):
    """A description of a checkpoint, for messages."""
    found = position(path)
    if not found:
        return "nothing was kept"
    epochs, step = found["epochs"], found["step"]
    parts = [f"{epochs} epoch{'s' if epochs > 1 else ''}"] if epochs else []
    parts += [f"{step} step{'s' if step > 1 else ''} of epoch {epochs + 1}"] if step else []
    return f"{path} keeps {' and '.join(parts)}"


def read_arrays(path, member):
    """The arrays in a member of the archive, by name; {} if there is no such member."""
    with zipfile.ZipFile(path) as archive:
        if member not in archive.namelist():
            return {}
        with np.load(io.BytesIO(archive.read(member)), allow_pickle=False) as arrays:
            return dict(arrays)


def variables_of(model):
    """[name, shape] of all weights, then of the optimizer's state."""
    weights = [(v.path, v.shape) for v in model.weights if v.name != "seed_generator_state"]
    state = [(f"optimizer/{v.name}", v.shape) for v in model.optimizer.variables]
    return [[name, list(shape)] for name, shape in weights + state]
