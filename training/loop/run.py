"""One run: everything is checked, then it trains, looks at the test images once and reports."""

import dataclasses
import functools
import importlib
import os
import platform
import shutil
import time
from dataclasses import dataclass, field

import keras
import numpy as np

import keras_vit
from keras_vit.hardware import hardware
from keras_vit.terminal import printable
from training import data, recipe
from training.augment.mixing import mixing
from training.augment.transform import evaluation_transform, training_transform
from training.data import fingerprint
from training.devices import distribute
from training.devices.hardware import peak_memory
from training.devices.processes import Processes
from training.loop import beginning, distill, logs
from training.loop.averages import EvaluateAverage, unshare
from training.loop.callbacks import Metrics, ReseedEveryEpoch, StopOnNaN
from training.loop.checkpoint import Checkpoint, kept, restore
from training.loop.progress import ProgressOfRun
from training.loop.speed import Speed
from training.loop.stopping import StopRequest
from training.recipe import settings
from training.recipe.optimizers import optimizer, updates
from training.recipe.tables import JIT_COMPILE, Recipe
from training.results import lock, report, summary
from training.results.folder import RunFolder
from training.results.measures import chance, log_softmax, measure
from training.terminal import clock


@dataclass(frozen=True)
class Job:
    """A run that is ready to start: nothing that a user can get wrong is left to fail.

    Attributes:
        recipe: `Recipe` in force.
        folder: `RunFolder`; it exists and holds the recipe.
        splits: `Splits` of the data.
        model: compiled `keras.Model`.
        fitted: what is fitted, the model or a `Distiller` around it.
        done: dict of what a checkpoint has restored: `epochs` and `step`, how much of the run is
            done, and the states `within_epoch`.
        devices: `Devices` that it is trained on.
        stop: `StopRequest` that ends the training after a step.
        speed: `Speed`, how long the epochs of this sitting take.
        notes: list of str, what `training.recipe.settings` has to say of the recipe.
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


@lock.undone_by_failure()
def prepare(
    name,
    overrides=(),
    run_dir=None,
    resume=False,
    new=False,
    smoke=False,
    stop=None,
    processes=None,
):
    """Reads and checks recipe, data and run folder, builds the model and restores a checkpoint.

    Until `execute` has ended, the folder belongs to this process (`training.results.lock`).

    Args:
        name: recipe name, or path of a .toml file.
        overrides: strings "table.key=value".
        run_dir: run folder; by default runs/NAME.
        resume: whether to go on with the run in the folder.
        new: whether to take the next free folder.
        smoke: whether to run the recipe's smoke form, by default in runs/NAME-smoke.
        stop: `StopRequest` that may end the training after a step.
        processes: `Processes` that train together, all with the same arguments and file system. The
            first one reads them and tells the others.

    Returns:
        `Job`.

    Raises:
        ValueError: for whatever a user can get wrong, before anything is trained.
    """
    processes = processes or Processes()
    processes.meet()
    if processes.first:
        folder, plan = beginning.folder_and_plan(
            name, overrides, run_dir, resume, new, smoke, processes
        )
        processes.tell([str(folder.path), plan.as_dict()])
    else:
        path, tables = processes.hear()
        folder, plan = RunFolder(path), recipe.of_tables(tables)
    processes.kept = functools.partial(kept, folder.checkpoint)
    devices = distribute.start(plan.distribute.strategy, processes)
    devices.check(plan)

    splits = beginning.splits_of(plan, folder, resume, processes)
    began_with, notes = {}, []
    if processes.first:
        began_with = beginning.begun_with(folder, plan, splits, resume)
        if not smoke:  # which is short, and of other data
            notes = beginning.notes_of(plan, splits, devices, resume)
    with devices.scope():
        model = build(plan, splits)
        fitted = distill.fitted(plan.distill, model)
        done = {"epochs": 0, "step": 0}
        if folder.checkpoint.exists():
            done = restore(model, folder.checkpoint)
    devices.check_model(model)
    devices.replicate(model)
    if processes.first:
        if plan.distill.teacher:
            began_with["teacher"] = fingerprint.of_weights(fitted.teacher)
            if beginning.trains(folder, plan):
                fingerprint.check_teacher(folder.data, began_with["teacher"])
        beginning.begin(folder, plan, splits, resume, done, began_with)
    job = Job(
        plan, folder, splits, model, fitted, done, devices, stop or StopRequest(), notes=notes
    )
    if job.finished:
        lock.release(folder.lock)
    return job


def build(plan, splits):
    """The compiled model of a recipe; a ValueError where it does not fit the data."""
    keras.utils.set_random_seed(plan.train.seed)
    model = plan.model.build(plan.train.precision, plan.finetune, splits.class_names)
    settings.check_trainable(model)
    if splits.encoded:
        if model.input.shape[-1] not in (1, 3):
            raise ValueError(
                "model.num_channels must be 1 or 3 for picture files. "
                f"Received: model.num_channels={model.input.shape[-1]}"
            )
    elif model.input.shape[-1] != splits.train.images.shape[-1]:
        raise ValueError(
            f"model.num_channels must be that of the data, {splits.train.images.shape[-1]}. "
            f"Received: model.num_channels={model.input.shape[-1]}"
        )
    training_transform(plan.augment, plan.data, model.input.shape[1:])  # it checks the two
    steps = data.steps_per_epoch(splits.train, plan.train.batch_size)
    rule = optimizer(
        model,
        steps * plan.train.epochs,
        **vars(plan.optimizer),
        skip_nonfinite=plan.train.skip_nan > 0,
    )
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=plan.train.label_smoothing
    )
    model.compile(
        rule,
        loss,
        weighted_metrics=["accuracy"],  # see data.evaluation_dataset
        jit_compile=JIT_COMPILE[plan.train.jit_compile],
    )
    return model


def execute(job):
    """Trains, evaluates and writes everything into the run folder; returns the result, a dict.

    The folder is then free for other processes.
    """
    try:
        return _execute(job)
    finally:
        lock.release(job.folder.lock)


def _execute(job):
    begin = time.perf_counter()
    fit(job)
    train_seconds = time.perf_counter() - begin
    made = updates(job.fitted)
    if not job.devices.alone:
        job.devices.leave()
        job = dataclasses.replace(job, model=keras.models.load_model(job.folder.checkpoint))
    print(f"Trained in {clock(train_seconds)}; now the test images, the pictures and the export")
    return finish(job, train_seconds, made)


def fit(job):
    """`model.fit` on tf.data from the first step that is not done."""
    done = job.done
    with job.stop.fitting():
        if done["step"]:  # the rest of an epoch
            _fit(job, range(done["epochs"], done["epochs"] + 1), done)
            job.devices.processes.wait_for_first()  # it has written the epoch that all go on from
            with job.devices.scope():  # fit leaves the average in the model
                done = restore(job.model, job.folder.checkpoint)
        if done["epochs"] < job.recipe.train.epochs:
            _fit(job, range(done["epochs"], job.recipe.train.epochs), done)
        else:  # the run was stopped in its last epoch or after it
            job.model.optimizer.finalize_variable_values(job.model.trainable_variables)
            unshare(job.model)


def _fit(job, epochs, done):
    """One call of `model.fit`, for whole epochs or for the rest of one, from what is `done`."""
    first_step = done["step"]
    plan, train, classes = job.recipe, job.recipe.train, job.model.output.shape[-1]
    splits, folder, devices = job.splits, job.folder, job.devices
    steps = data.steps_per_epoch(splits.train, train.batch_size)
    shape = job.model.input.shape[1:]
    changed = training_transform(plan.augment, plan.data, shape)
    shown = evaluation_transform(plan.data, shape)
    mix = mixing(plan.augment.mixup, plan.augment.cutmix)
    batches = devices.dataset(
        lambda part: data.train_dataset(
            splits.train,
            classes,
            train.batch_size,
            changed,
            train.seed,
            epochs,
            mix,
            plan.augment.repeats,
            first_step,
            part,
        )
    )
    validation_batch = -(-256 // devices.count) * devices.count
    validation = devices.dataset(
        lambda part: data.evaluation_dataset(
            splits.validation, classes, validation_batch, shown, None if devices.alone else part
        )
    )
    stop_on_nan = StopOnNaN(folder.checkpoint, first_step, train.skip_nan, done.get("skipped", 0))
    within_epoch, process = done.get("within_epoch"), devices.processes.index
    callbacks = [
        *([EvaluateAverage()] if plan.optimizer.ema else []),
        ReseedEveryEpoch(train.seed, first_step, within_epoch, process),
        stop_on_nan,
    ]
    checkpoint = Checkpoint(
        folder.checkpoint,
        folder.best,
        train.checkpoint_steps,
        train.keep_epochs,
        steps,
        first_step,
        functools.partial(devices.asked, job.stop),
        devices.alone,
        lambda: stop_on_nan.skipped,
        devices.savable,
    )
    progress = ProgressOfRun(train.epochs, epochs.start, steps, train.batch_size, first_step)
    if devices.processes.first:
        # The clock comes first, so that what the others do at an epoch's end is not counted.
        callbacks = [*([] if first_step else [job.speed]), *callbacks, progress]
        callbacks += [
            Metrics(folder.metrics, epochs.start),
            checkpoint,
            *logs.callbacks(plan, folder),
        ]
    elif devices.sharded:
        callbacks.append(checkpoint)
    try:
        job.fitted.fit(
            batches,
            validation_data=validation,
            steps_per_epoch=steps - first_step,
            initial_epoch=epochs.start,
            epochs=epochs.stop,
            shuffle=False,  # the pipeline does
            verbose=0,
            callbacks=callbacks,
        )
    finally:
        progress.stop()


def finish(job, train_seconds, made=None):
    """The one look at the test images, the pictures, the export, and the result last of all."""
    host_memory, device_memory = peak_memory()  # of training: before anything else takes some
    model, folder, test = job.model, job.folder, job.splits.test
    classes, names = model.output.shape[-1], job.splits.class_names
    batch_size = job.recipe.train.batch_size
    steps = data.steps_per_epoch(job.splits.train, batch_size)
    transform = evaluation_transform(job.recipe.data, model.input.shape[1:])
    batches = data.evaluation_dataset(test, classes, 256, transform)
    logits = model.predict(batches, verbose=0).astype("float32")  # (N, K)
    found = measure(logits, test.labels)
    images = data.pictures(test, transform)
    probabilities = np.exp(log_softmax(logits))
    predicted = probabilities.argmax(-1)

    report.curves(folder.metrics, folder.curves)
    of_images = model, images, test.labels, probabilities
    report.predictions(*of_images, folder.predictions, names)
    report.worst(*of_images, folder.worst, names)
    if classes <= summary.MATRIX:
        report.confusion(test.labels, predicted, classes, folder.confusion, names)
    if folder.saved_model.exists():
        shutil.rmtree(folder.saved_model)  # of an attempt at finishing that was stopped
    exported = keras_vit.export(model, folder.saved_model, samples=images[:32].astype("float32"))
    print(printable(exported))
    backend = keras.backend.backend()
    result = {
        "test_accuracy": found.top1,
        "test_top5": found.top5,
        "test_loss": found.loss,
        "test_ece": found.ece,
        "test_images": found.images,
        "test_chance": chance(test.labels),
        "epochs": job.recipe.train.epochs,
        "steps": steps * job.recipe.train.epochs,
        "updates": updates(model) if made is None else made,
        "parameters": model.count_params(),
        "train_seconds": round(train_seconds, 1),
        "trained_from_epoch": job.done["epochs"],
        **job.speed.summary(steps * batch_size),
        "peak_memory_bytes": host_memory,
        "peak_device_memory_bytes": device_memory,
        "export_max_difference": float(exported.max_difference),
        "backend": backend,
        "cpu_count": os.cpu_count(),
        "hardware": hardware(),
        "versions": {
            "python": platform.python_version(),
            "keras_vit": keras_vit.__version__,
            "keras": keras.__version__,
            backend: importlib.import_module(backend).__version__,
            "numpy": np.__version__,
        },
    }
    summary.write(job, result, test.labels, predicted)
    folder.write_result(result)
    return result
