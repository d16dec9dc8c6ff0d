"""Callbacks that make a run safe: nothing lost, nothing silently wrong, the same on resume."""

import json
import os
import shutil
import zipfile
from contextlib import nullcontext
from pathlib import Path

import keras
import numpy as np

from training.averages import averaged, keeps_average
from training.lora import has_lora

# Members of the checkpoint's archive, so that all is written as one.
POSITION = "training.json"
OWN_WEIGHTS = "own_weights.npz"


class Diverged(ArithmeticError):
    """The loss is no number any more; the message says when."""


class ReseedEveryEpoch(keras.callbacks.Callback):
    """Makes dropout and drop path a function of (seed, epoch).

    Keras does not keep the states of seed generators in `.keras` files. With this a run that starts
    again at an epoch draws what it would have drawn.

    Args:
        seed: int.
    """

    def __init__(self, seed):
        super().__init__()
        self.seed = seed
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if batch > 0:
            return  # only now, because starting to read data draws from PyTorch's generator too
        if keras.backend.backend() == "torch":
            import torch

            torch.manual_seed(self._draw(0))  # what dropout draws from there
        states = [v for v in self.model.variables if v.name == "seed_generator_state"]
        for i, state in enumerate(states, start=1):
            state.assign(np.array([self._draw(i), 0]).astype(state.dtype))

    def _draw(self, i):
        return int(np.random.SeedSequence([self.seed, self.epoch, i]).generate_state(1)[0] >> 1)


class StopOnNaN(keras.callbacks.Callback):
    """Raises `Diverged` at the first step after which the mean loss is NaN or infinite.

    Args:
        checkpoint: `Path` of the file that the message names.
    """

    def __init__(self, checkpoint):
        super().__init__()
        self.checkpoint = checkpoint
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        loss = float(logs["loss"])
        if not np.isfinite(loss):
            rate = float(self.model.optimizer.learning_rate)
            kept = f"{self.checkpoint} holds the epoch before" if self.epoch else "nothing was kept"
            raise Diverged(
                f"The loss must stay finite; {kept}. Lower optimizer.learning_rate or set "
                f"optimizer.clip_norm. Received: loss={loss} in epoch {self.epoch + 1}, step "
                f"{batch + 1}, at a learning rate of {rate:.2e}"
            )


class Checkpoint(keras.callbacks.Callback):
    """Writes model, optimizer and position after every epoch, whole or not at all.

    Where the optimizer keeps an average of the weights, that is the model in the file, and where
    low-rank updates are trained, these are added to the matrices. What training goes on with then
    lies beside it.

    Args:
        path: `Path` ending in .keras. `keras.models.load_model(path)` reads it like any other.
        best_path: `Path` of a copy from the epoch with the highest validation accuracy.
    """

    def __init__(self, path, best_path):
        super().__init__()
        self.path, self.best_path = path, best_path
        self.best = position(path).get("best", -1.0)  # of the epochs before, in a resumed run

    def on_epoch_end(self, epoch, logs=None):
        self._check_finite(epoch)
        # In a name that ends in .keras too, or Keras refuses it.
        scratch = self.path.with_name(f".writing-{self.path.name}")
        best_scratch = self.best_path.with_name(f".writing-{self.best_path.name}")
        accuracy = float((logs or {}).get("val_accuracy", -1.0))
        is_best = accuracy > self.best
        self.best = max(accuracy, self.best)
        try:
            self._write(scratch, epoch)
            if is_best:  # first, so that no checkpoint speaks of a best one that is not there
                shutil.copyfile(scratch, best_scratch)
                replace(best_scratch, self.best_path)
            replace(scratch, self.path)
        except OSError:  # no space left: do not take what there is
            scratch.unlink(missing_ok=True)
            best_scratch.unlink(missing_ok=True)
            raise

    def _write(self, scratch, epoch):
        own_weights = own(self.model)
        with averaged(self.model) if keeps_average(self.model) else nullcontext():
            self.model.save(scratch)
        with zipfile.ZipFile(scratch, "a") as archive:
            archive.writestr(POSITION, json.dumps({"epochs": epoch + 1, "best": self.best}))
            if own_weights:
                with archive.open(OWN_WEIGHTS, "w", force_zip64=True) as file:
                    np.savez(file, **own_weights)

    def _check_finite(self, epoch):
        """The loss of an epoch's last step does not tell what its update did to the weights."""
        for variable in self.model.trainable_variables:
            if not np.isfinite(keras.ops.convert_to_numpy(variable).astype("float32")).all():
                kept = f"{self.path} holds the epoch before" if epoch else "nothing was kept"
                rate = float(self.model.optimizer.learning_rate)
                raise Diverged(
                    f"The weights must stay finite; {kept}. Lower optimizer.learning_rate or set "
                    f"optimizer.clip_norm. Received: {variable.path} at the end of epoch "
                    f"{epoch + 1}, at a learning rate of {rate:.2e}"
                )


def own(model):
    """The weights that training goes on with, by path, where a saved model has others; else {}."""
    if has_lora(model):
        weights = [x for x in model.weights if "seed_generator" not in x.path]
    else:
        weights = model.trainable_variables if keeps_average(model) else []
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in weights}


def restore(model, path):
    """Puts a `Checkpoint` into a compiled model and its optimizer.

    Args:
        model: `keras.Model` compiled as the one that was saved.
        path: `Path` of the checkpoint.

    Returns:
        int, how many epochs the checkpoint has seen.
    """
    model.optimizer.build(model.trainable_variables)
    model.load_weights(path)
    with zipfile.ZipFile(path) as archive:
        if OWN_WEIGHTS in archive.namelist():
            with archive.open(OWN_WEIGHTS) as file, np.load(file, allow_pickle=False) as arrays:
                weights = {weight.path: weight for weight in model.weights}
                for name in arrays:
                    weights[name].assign(arrays[name])
    return position(path)["epochs"]


def position(path):
    """What a checkpoint says of the run: `epochs` behind it, `best` accuracy; {} without a file."""
    if not Path(path).exists():
        return {}
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(POSITION))


def replace(scratch, path):
    """Moves a complete file into place so that a crash leaves the old or the new one."""
    with open(scratch, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(scratch, path)
    folder = os.open(Path(path).parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Metrics(keras.callbacks.CSVLogger):
    """`metrics.csv` with a row an epoch, counted from 1; going on adds no epoch twice.

    Args:
        path: `Path` of the file.
        first_epoch: int, epochs that a resumed run has behind it.
    """

    def __init__(self, path, first_epoch=0):
        super().__init__(str(path), append=first_epoch > 0)
        if path.exists():
            # An epoch may have been logged and then lost before its checkpoint was written.
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = "".join(lines[: 1 + first_epoch])
            scratch = path.with_name(f".writing-{path.name}")
            scratch.write_text(kept, encoding="utf-8")
            replace(scratch, path)

    def on_epoch_end(self, epoch, logs=None):
        rate = float(self.model.optimizer.learning_rate)
        super().on_epoch_end(epoch + 1, {**(logs or {}), "learning_rate": rate})
