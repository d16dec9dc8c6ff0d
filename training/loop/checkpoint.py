"""Writes checkpoints: one file with all that is needed to resume a run exactly."""

import functools
import json
import os
import shutil
import zipfile
from contextlib import contextmanager, nullcontext

import keras
import numpy as np

from keras_vit.models.adapted import has_lora, merged

from ..devices.distribute import Devices
from ..files import replace
from .checkpoint_file import (
    OWN_WEIGHTS,
    POSITION,
    VARIABLES,
    WITHIN_EPOCH,
    describe,
    position,
    variables_of,
)
from .distill import student_of
from .ema import ema_weights, uses_ema
from .stopping import Diverged, StopRequest


class Checkpoint(keras.callbacks.Callback):
    """Writes model, optimizer and position after every epoch, atomically.

    If the optimizer keeps an EMA of the weights, the model in the file has the EMA. If low-rank
    updates are trained, they are merged into the matrices, and the model is saved without its
    compilation. The weights that training continues with are then stored in addition; within an
    epoch also the random states and the sums of the metrics. For a `Distiller` the student is
    saved.

    Args:
        path: `Path` ending in .keras, which `keras.models.load_model` can read.
        best_path: `Path` of a copy from the epoch with the highest validation metric.
        plan: `Plan` of the call of `fit`. Its recipe defines whether checkpoints are written within
            an epoch, and for how many epochs separate files (epoch-0007.keras) are kept. None for
            one checkpoint per epoch.
        devices: `Devices` of the run. With several devices the sums of the metrics are not saved,
            so the means of a resumed epoch are those of its remaining steps.
        stop: `StopRequest` that may end the run, with a checkpoint, after a step or between epochs.
        skipped: function that returns how many steps of the run have been skipped.
        metric: str, name of that metric in training.
    """

    def __init__(
        self,
        path,
        best_path,
        plan=None,
        devices=None,
        stop=None,
        skipped=lambda: 0,
        metric="accuracy",
    ):
        super().__init__()
        self.path, self.best_path = path, best_path
        self.every = plan.recipe.train.checkpoint_steps if plan else 0
        self.keep = plan.recipe.train.keep_epochs if plan else 1
        self.steps, self.first_step = (plan.steps_per_epoch, plan.first_step) if plan else (0, 0)
        self.devices, self.skipped = devices or Devices(), skipped
        self.metric = f"val_{metric}"
        self.asked = functools.partial(self.devices.asked, stop or StopRequest())
        self.epoch = 0
        self.best = position(path).get("best", -1.0)  # of the epochs before, in a resumed run

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if asked := self.asked():
            raise asked  # not at the end of the last epoch, which other callbacks still log

    def on_train_batch_end(self, batch, logs=None):
        step = self.first_step + batch + 1
        if step == self.steps:
            return  # `on_epoch_end` follows
        asked = self.asked()
        if asked or self.every and step % self.every == 0:
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            self._save(self.epoch, step)
        if asked:
            raise asked

    def on_epoch_end(self, epoch, logs=None):
        self._save(epoch + 1, 0, float((logs or {}).get(self.metric, -1.0)))

    def _save(self, epochs, step, score=-1.0):
        with self.devices.savable(student_of(self.model)) as model:
            if model is None:
                return
            self._check_finite(model)
            self._save_whole(model, epochs, step, score)
        if self.keep > 1 and not step:
            self._keep(epochs)

    def _save_whole(self, model, epochs, step, score):
        # Keras requires a name that ends in .keras.
        scratch = self.path.with_name(f".writing-{self.path.name}")
        best_scratch = self.best_path.with_name(f".writing-{self.best_path.name}")
        is_best = score > self.best
        self.best = max(score, self.best)
        position = {"epochs": epochs, "step": step, "best": self.best}
        if skipped := self.skipped():
            position["skipped"] = skipped
        try:
            self._write(model, scratch, position)
            if is_best:  # first, so that no checkpoint refers to a best one that does not exist
                shutil.copyfile(scratch, best_scratch)
                replace(best_scratch, self.best_path)
            replace(scratch, self.path)
        except OSError:  # no space left: free what was written
            scratch.unlink(missing_ok=True)
            best_scratch.unlink(missing_ok=True)
            raise

    def _write(self, model, scratch, position):
        own_weights = training_weights(model)
        held = {"seed": seed_states(self.model)}
        if self.devices.alone:
            held["metric"] = self.model.metrics_variables
        within = {
            f"{kind}{i}": keras.ops.convert_to_numpy(variable)
            for kind, variables in held.items()
            for i, variable in enumerate(variables)
            if position["step"]
        }
        average = ema_weights if uses_ema(model) else nullcontext
        with average(model), _compilation_that_fits(model), merged(model):
            model.save(scratch)
        with zipfile.ZipFile(scratch, "a") as archive:
            archive.writestr(POSITION, json.dumps(position))
            archive.writestr(VARIABLES, json.dumps(variables_of(model)))
            for member, arrays in ((OWN_WEIGHTS, own_weights), (WITHIN_EPOCH, within)):
                if arrays:
                    with archive.open(member, "w", force_zip64=True) as file:
                        np.savez(file, **arrays)

    def _keep(self, epochs):
        """Links the newest checkpoint to a name of its own and removes the oldest link."""
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
        """Raises `Diverged` if weights are not finite, which the last loss does not show."""
        for variable in model.trainable_variables:
            if not np.isfinite(keras.ops.convert_to_numpy(variable).astype("float32")).all():
                rate = float(self.model.optimizer.learning_rate)
                raise Diverged(
                    f"The weights must stay finite; {describe(self.path)}. Lower "
                    "optimizer.learning_rate or set optimizer.clip_norm. Received: "
                    f"{variable.path} in epoch {self.epoch + 1}, at a learning rate of {rate:.2e}"
                )


def training_weights(model):
    """The weights that training continues with, by path, if they differ from the saved model's."""
    if _has_lora(model):
        weights = [x for x in model.weights if "seed_generator" not in x.path]
    else:
        weights = model.trainable_variables if uses_ema(model) else []
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in weights}


def _has_lora(model):
    """Whether any layer of a model has a low-rank update."""
    return any(has_lora(layer) for layer in model._flatten_layers())


def seed_states(model):
    """The states of the seed generators of dropout and drop path."""
    return [v for v in student_of(model).variables if v.name == "seed_generator_state"]


@contextmanager
def _compilation_that_fits(model):
    """Context in which `model.save` omits the compilation of a model with low-rank updates.

    Its optimizer has variables for the updates. Keras merges these into the matrices, so the loaded
    model would have an optimizer for the matrices, without the saved state. The state itself is in
    the file, where `restore` reads it.
    """
    compiled, model.compiled = model.compiled, not _has_lora(model)
    try:
        yield
    finally:
        model.compiled = compiled
