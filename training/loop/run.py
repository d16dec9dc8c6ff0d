"""A training run from start to end: check everything, train, evaluate once, report."""

import dataclasses
import functools
import time
from dataclasses import dataclass, field

import keras

from .. import data, tasks
from ..data import fingerprint
from ..devices import distribute
from ..devices.process_group import ProcessGroup
from ..recipe import of_tables
from ..recipe.derived import derive
from ..recipe.optimizers import updates
from ..recipe.schema import Recipe
from ..results import lock
from ..results.folder import RunFolder
from ..terminal import clock
from . import distill
from .build import build
from .checkpoint_file import describe
from .finish import finish
from .fit import fit
from .restore import restore
from .speed import Speed
from .start import (
    Request,
    Start,
    begin,
    choose_run,
    fingerprint_of,
    load_splits,
    notes_of,
    say_derived,
)
from .stopping import StopRequest


@dataclass(frozen=True)
class Job:
    """A run that is ready to train: all that a user can get wrong has been checked.

    Attributes:
        recipe: `Recipe` in force.
        folder: `RunFolder`; it exists and holds the recipe.
        splits: `Splits` of the data.
        model: compiled `keras.Model`.
        fitted: the model that `fit` is called on: `model`, or a `Distiller` around it.
        done: dict of what the checkpoint restored: `epochs` and `step`, the progress of the run,
            and the states `within_epoch`.
        devices: `Devices` that it is trained on.
        stop: `StopRequest` that ends the training after a step.
        speed: `Speed`, which times the epochs since the run was started or resumed.
        notes: list of str, settings without effect (`training.recipe.settings`).
    """

    recipe: Recipe
    folder: RunFolder
    splits: data.Splits
    model: keras.Model
    fitted: keras.Model
    done: dict
    devices: distribute.Devices = field(default_factory=distribute.Devices)
    stop: StopRequest = field(default_factory=StopRequest)
    speed: Speed = field(default_factory=Speed)
    notes: list = field(default_factory=list)

    @property
    def finished(self):
        """Whether there is nothing left to do."""
        return self.folder.state == "finished"


@lock.released_on_failure()
def prepare(
    name,
    overrides=(),
    run_dir=None,
    resume=False,
    new=False,
    smoke=False,
    stop=None,
    group=None,
):
    """Reads and checks recipe, data and run folder, builds the model and restores a checkpoint.

    Until `execute` has ended, the folder belongs to this process (`training.results.lock`).

    Args:
        name: recipe name, or path of a .toml file.
        overrides: strings "table.key=value".
        run_dir: run folder; by default runs/NAME.
        resume: whether to resume the run in the folder.
        new: whether to take the next free folder.
        smoke: whether to run the recipe's smoke form, by default in runs/NAME-smoke.
        stop: `StopRequest` that may end the training after a step.
        group: `ProcessGroup` of the processes that train together, all with the same arguments and
            file system. The main process reads them and broadcasts them.

    Returns:
        `Job`.

    Raises:
        ValueError: for any mistake in the recipe, the data or the arguments, before training.
    """
    group = group or ProcessGroup()
    group.connect()
    if group.is_main:
        request = Request(name, overrides, run_dir, resume, new, smoke)
        folder, recipe = choose_run(request, group.world_size)
        group.broadcast([str(folder.path), recipe.as_dict()])
    else:
        path, tables = group.receive()
        folder, recipe = RunFolder(path), of_tables(tables)
    group.describe_checkpoint = functools.partial(describe, folder.checkpoint)
    devices = distribute.start(recipe.distribute.strategy, group)

    splits = load_splits(recipe, folder, resume, group)
    recipe, derived = derive(recipe, splits, devices)
    devices.check(recipe)
    start = Start(recipe, folder, splits, resume)
    began_with, notes = {}, []
    if group.is_main:
        began_with = fingerprint_of(start)
        say_derived(derived, splits)
        if not smoke:  # a smoke run is short and uses other data
            notes = notes_of(start, devices)
    with devices.scope():
        model = build(recipe, splits)
        fitted = distill.with_teacher(recipe.distill, model)
        done = {"epochs": 0, "step": 0}
        if folder.checkpoint.exists():
            done = restore(model, folder.checkpoint)
        elif recipe.finetune.head == "fitted" and devices.count == 1:
            tasks.of(recipe).fit_head(recipe, model, splits)
    recipe = dataclasses.replace(recipe, model=recipe.model.of_model(model))
    start = dataclasses.replace(start, recipe=recipe)
    devices.check_model(model)
    devices.replicate(model, tasks.of(recipe).blank(model))
    if group.is_main:
        if recipe.distill.teacher:
            began_with["teacher"] = fingerprint.of_weights(fitted.teacher)
            if start.trains:
                fingerprint.check_teacher(folder.data, began_with["teacher"])
        begin(start, done, began_with)
    job = Job(
        recipe, folder, splits, model, fitted, done, devices, stop or StopRequest(), notes=notes
    )
    if job.finished:
        lock.release(folder.lock)
    return job


def execute(job):
    """Trains, evaluates and writes everything into the run folder; returns the result, a dict.

    The lock on the folder is released at the end.
    """
    try:
        return _execute(job)
    finally:
        lock.release(job.folder.lock)


def _execute(job):
    started = time.perf_counter()
    fit(job)
    train_seconds = time.perf_counter() - started
    made = updates(job.fitted)
    if not job.devices.alone:
        job.devices.leave()
        job = dataclasses.replace(job, model=keras.models.load_model(job.folder.checkpoint))
    print(f"Trained in {clock(train_seconds)}; now the test images, the pictures and the export")
    return finish(job, train_seconds, made)
