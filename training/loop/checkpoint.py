"""Checkpoints: all that a run needs to go on as if nothing had happened, in one file."""

import functools
import io
import json
import os
import shutil
import warnings
import zipfile
from contextlib import contextmanager, nullcontext
from pathlib import Path

import h5py
import keras
import numpy as np

from keras_vit.models.adapted import merged
from training.devices.distribute import Devices
from training.files import replace
from training.loop.averages import averaged, keeps_average
from training.loop.distill import trained
from training.loop.stopping import StopRequest
from training.lora import has_lora

# Members of the checkpoint's archive, so that all is written as one.
POSITION = "training.json"
OWN_WEIGHTS = "own_weights.npz"
WITHIN_EPOCH = "within_epoch.npz"
VARIABLES = "variables.json"


class Diverged(ArithmeticError):
    """The loss is no number any more; the message says when."""


class Checkpoint(keras.callbacks.Callback):
    """Writes model, optimizer and position after every epoch, whole or not at all.

    Where the optimizer keeps an average of the weights, that is the model in the file, and where
    low-rank updates are trained, these are added to the matrices, and it is not compiled. What
    training goes on with then lies beside it, and within an epoch also the random states and the
    sums of the metrics. Of a `Distiller` the model is the student.

    Args:
        path: `Path` ending in .keras. `keras.models.load_model(path)` reads it like any other.
        best_path: `Path` of a copy from the epoch with the highest validation accuracy.
        plan: `Plan` of the call of `fit`, which also says whether checkpoints are written within
            an epoch and how many epochs keep a file of their own, epoch-0007.keras; None for one
            checkpoint an epoch.
        devices: `Devices` that the model is trained on. Of several devices the sums of the metrics
            are not kept: the means of an epoch that is gone on with are those of its rest.
        stop: `StopRequest` that may end the run, with a checkpoint, after a step or between epochs.
        skipped: function that returns how many steps of the run have been left out.
    """

    def __init__(
        self,
        path,
        best_path,
        plan=None,
        devices=None,
        stop=None,
        skipped=lambda: 0,
    ):
        super().__init__()
        self.path, self.best_path = path, best_path
        self.every = plan.recipe.train.checkpoint_steps if plan else 0
        self.keep = plan.recipe.train.keep_epochs if plan else 1
        self.steps, self.first_step = (plan.steps_per_epoch, plan.first_step) if plan else (0, 0)
        self.devices, self.skipped = devices or Devices(), skipped
        self.asked = functools.partial(self.devices.asked, stop or StopRequest())
        self.epoch = 0
        self.best = position(path).get("best", -1.0)  # of the epochs before, in a resumed run

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if asked := self.asked():
            raise asked  # not at the end of the one before, which others log

    def on_train_batch_end(self, batch, logs=None):
        step = self.first_step + batch + 1
        if step == self.steps:
            return  # the end of the epoch is near
        asked = self.asked()
        if asked or self.every and step % self.every == 0:
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            self._save(self.epoch, step)
        if asked:
            raise asked

    def on_epoch_end(self, epoch, logs=None):
        self._save(epoch + 1, 0, float((logs or {}).get("val_accuracy", -1.0)))

    def _save(self, epochs, step, accuracy=-1.0):
        with self.devices.savable(trained(self.model)) as model:
            if model is None:
                return
            self._check_finite(model)
            self._save_whole(model, epochs, step, accuracy)
        if self.keep > 1 and not step:
            self._keep(epochs)

    def _save_whole(self, model, epochs, step, accuracy):
        # In a name that ends in .keras too, or Keras refuses it.
        scratch = self.path.with_name(f".writing-{self.path.name}")
        best_scratch = self.best_path.with_name(f".writing-{self.best_path.name}")
        is_best = accuracy > self.best
        self.best = max(accuracy, self.best)
        position = {"epochs": epochs, "step": step, "best": self.best}
        if skipped := self.skipped():
            position["skipped"] = skipped
        try:
            self._write(model, scratch, position)
            if is_best:  # first, so that no checkpoint speaks of a best one that is not there
                shutil.copyfile(scratch, best_scratch)
                replace(best_scratch, self.best_path)
            replace(scratch, self.path)
        except OSError:  # no space left: do not take what there is
            scratch.unlink(missing_ok=True)
            best_scratch.unlink(missing_ok=True)
            raise

    def _write(self, model, scratch, position):
        own_weights = own(model)
        held = {"seed": seeds(self.model)}
        if self.devices.alone:
            held["metric"] = self.model.metrics_variables
        within = {
            f"{kind}{i}": keras.ops.convert_to_numpy(variable)
            for kind, variables in held.items()
            for i, variable in enumerate(variables)
            if position["step"]
        }
        average = averaged if keeps_average(model) else nullcontext
        with average(model), _compilation_that_fits(model), merged(model):
            model.save(scratch)
        with zipfile.ZipFile(scratch, "a") as archive:
            archive.writestr(POSITION, json.dumps(position))
            archive.writestr(VARIABLES, json.dumps(_variables(model)))
            for member, arrays in ((OWN_WEIGHTS, own_weights), (WITHIN_EPOCH, within)):
                if arrays:
                    with archive.open(member, "w", force_zip64=True) as file:
                        np.savez(file, **arrays)

    def _keep(self, epochs):
        """Gives the newest checkpoint a second name, and takes the one of the oldest."""
        kept = self.path.with_name(f"epoch-{epochs:04}.keras")
        kept.unlink(missing_ok=True)
        try:
            os.link(self.path, kept)
        except OSError:  # a file system without hard links
            scratch = kept.with_name(f".writing-{kept.name}")
            shutil.copyfile(self.path, scratch)
            replace(scratch, kept)
        for old in sorted(self.path.parent.glob("epoch-*.keras"))[: -self.keep]:
            old.unlink()

    def _check_finite(self, model):
        """The loss of the last step does not tell what its update did to the weights."""
        for variable in model.trainable_variables:
            if not np.isfinite(keras.ops.convert_to_numpy(variable).astype("float32")).all():
                rate = float(self.model.optimizer.learning_rate)
                raise Diverged(
                    f"The weights must stay finite; {kept(self.path)}. Lower "
                    "optimizer.learning_rate or set optimizer.clip_norm. Received: "
                    f"{variable.path} in epoch {self.epoch + 1}, at a learning rate of {rate:.2e}"
                )


def own(model):
    """The weights that training goes on with, by path, where a saved model has others; else {}."""
    if has_lora(model):
        weights = [x for x in model.weights if "seed_generator" not in x.path]
    else:
        weights = model.trainable_variables if keeps_average(model) else []
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in weights}


def seeds(model):
    """The variables that say what dropout and drop path draw next."""
    return [v for v in trained(model).variables if v.name == "seed_generator_state"]


@contextmanager
def _compilation_that_fits(model):
    """Within it `model.save` leaves out how a model with low-rank updates was compiled.

    Its optimizer has variables for the updates. Keras adds these to the matrices, and whoever loads
    the file would get an optimizer for the matrices, without the state that was saved. The state
    itself is in the file: `restore` takes it from there.
    """
    compiled, model.compiled = model.compiled, not has_lora(model)
    try:
        yield
    finally:
        model.compiled = compiled


def restore(model, path):
    """Puts a `Checkpoint` into a compiled model and its optimizer.

    Args:
        model: `keras.Model` compiled as the one that was saved.
        path: `Path` of the checkpoint.

    Returns:
        dict: `epochs` and `step`, how much the checkpoint has seen; `best` accuracy; `skipped`
        steps, where there are any; and `within_epoch`, for
        `training.loop.callbacks.ReseedEveryEpoch`.

    Raises:
        ValueError: where a variable of the model or of the optimizer is not in the checkpoint, is
            of another shape there, or is there alone.
    """
    if not model.optimizer.built:  # a second time Keras's loss scale would make its own again
        model.optimizer.build(model.trainable_variables)
    _check_variables(model, path)
    repeated = _repeated_loss_scale(model.optimizer, path)
    try:
        with warnings.catch_warnings():  # Keras would go on with a new optimizer
            action = "ignore" if repeated else "error"
            warnings.filterwarnings(action, message="Skipping variable loading for optimizer")
            model.load_weights(path)
    except ValueError as error:
        raise _misfit(path, error) from error
    for variable, value in zip(model.optimizer.variables, repeated, strict=False):
        variable.assign(value)
    weights = {weight.path: weight for weight in model.weights}
    for name, array in _arrays(path, OWN_WEIGHTS).items():
        weights[name].assign(array)
    return {**position(path), "within_epoch": _arrays(path, WITHIN_EPOCH)}


def _variables(model):
    """What a checkpoint restores: (name, shape) of all weights, then of the optimizer's state."""
    weights = [(v.path, v.shape) for v in model.weights if v.name != "seed_generator_state"]
    state = [(f"optimizer/{v.name}", v.shape) for v in model.optimizer.variables]
    return [[name, list(shape)] for name, shape in weights + state]


def _check_variables(model, path):
    """Raises unless a checkpoint has the variables of a model and its optimizer, and no others.

    Checkpoints of earlier versions do not say what they have.
    """
    with zipfile.ZipFile(path) as archive:
        if VARIABLES not in archive.namelist():
            return
        saved = json.loads(archive.read(VARIABLES))
    expected = _variables(model)
    if saved == expected:
        return
    parts = [
        f"{', '.join(f'{name} {tuple(shape)}' for name, shape in found[:3])}"
        f"{f' and {len(found) - 3} more' if len(found) > 3 else ''} {where}"
        for found, where in (
            ([x for x in saved if x not in expected], "in the checkpoint alone"),
            ([x for x in expected if x not in saved], "in the model alone"),
        )
        if found
    ]
    raise _misfit(path, "; ".join(parts) or "the same variables in another order")


def _repeated_loss_scale(optimizer, path):
    """What earlier versions kept of a loss scale, where it has variables more than once; else [].

    They made its counter and scale again at a resume within an epoch, before the inner optimizer's
    variables, and the last ones were in use. What is inside Keras reads from elsewhere in the file.
    """
    if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return []
    with zipfile.ZipFile(path) as archive:
        if VARIABLES in archive.namelist():
            return []
        file = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    with file:
        saved = file["optimizer/vars"]
        own = len(saved) - len(optimizer.inner_optimizer.variables)
        if own <= 4 or own % 2:
            return []
        return [saved[str(i)][()] for i in (0, 1, own - 2, own - 1)]


def _misfit(path, what):
    return ValueError(
        "A checkpoint must fit the model and the optimizer of its run's recipe. Go on with the "
        "recipe, the settings and the version of keras_vit that it was made with, or begin anew "
        f"with --new. Received: {path}: {what}"
    )


def position(path):
    """What a checkpoint says of the run: `epochs`, `step`, `best` accuracy; {} without a file."""
    if not Path(path).exists():
        return {}
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(POSITION))


def kept(path):
    """What a checkpoint holds, in words."""
    found = position(path)
    if not found:
        return "nothing was kept"
    epochs, step = found["epochs"], found["step"]
    parts = [f"{epochs} epoch{'s' if epochs > 1 else ''}"] if epochs else []
    parts += [f"{step} step{'s' if step > 1 else ''} of epoch {epochs + 1}"] if step else []
    return f"{path} keeps {' and '.join(parts)}"


def _arrays(path, member):
    """The arrays of a member of the archive, by name; {} where there is none."""
    with zipfile.ZipFile(path) as archive:
        if member not in archive.namelist():
            return {}
        with np.load(io.BytesIO(archive.read(member)), allow_pickle=False) as arrays:
            return dict(arrays)
