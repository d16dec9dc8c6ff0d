"""One run: everything is checked, then it trains, looks at the test images once and reports."""

import importlib
import os
import platform
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

import keras_vit
from training import data, logs, recipe, report, summary
from training.augment import mixing
from training.averages import EvaluateAverage, unshare
from training.callbacks import Metrics, ReseedEveryEpoch, StopOnNaN
from training.checkpoint import Checkpoint, restore
from training.corrupt import as_csv
from training.examples import save
from training.folder import RunFolder, choose
from training.hardware import Speed, hardware, peak_memory
from training.measures import log_softmax, measure
from training.optimizers import optimizer
from training.progress import ProgressOfRun, clock
from training.smoke import overrides as smoke_overrides
from training.stopping import StopRequest
from training.tables import Recipe
from training.transform import evaluation_transform, training_transform

MAY_CHANGE_ON_RESUME = [("train", "epochs")]


@dataclass(frozen=True)
class Job:
    """A run that is ready to start: nothing that a user can get wrong is left to fail.

    Attributes:
        recipe: `Recipe` in force.
        folder: `RunFolder`; it exists and holds the recipe.
        splits: `Splits` of the data.
        model: compiled `keras.Model`.
        done: dict of what a checkpoint has restored: `epochs` and `step`, how much of the run is
            done, and the states `within_epoch`.
        stop: `StopRequest` that ends the training after a step.
        speed: `Speed`, how long the epochs of this sitting take.
    """

    recipe: Recipe
    folder: RunFolder
    splits: data.Splits
    model: keras.Model
    done: dict
    stop: StopRequest = field(default_factory=StopRequest)
    speed: Speed = field(default_factory=Speed)

    @property
    def finished(self):
        """Whether there is nothing left to do."""
        return self.folder.state == "finished"


def prepare(name, overrides=(), run_dir=None, resume=False, new=False, smoke=False, stop=None):
    """Reads and checks recipe, data and run folder, builds the model and restores a checkpoint.

    Args:
        name: recipe name, or path of a .toml file.
        overrides: strings "table.key=value".
        run_dir: run folder; by default runs/NAME.
        resume: whether to go on with the run in the folder.
        new: whether to take the next free folder.
        smoke: whether to run the recipe's smoke form, by default in runs/NAME-smoke.
        stop: `StopRequest` that may end the training after a step.

    Returns:
        `Job`.

    Raises:
        ValueError: for whatever a user can get wrong, before anything is trained.
    """
    path = recipe.find(name)
    default = Path("runs", f"{path.stem}-smoke" if smoke else path.stem)
    folder = choose(Path(run_dir) if run_dir else default, resume, new)
    if resume:
        path = folder.recipe
        _check_overrides(path, overrides)
    elif smoke:
        overrides = [*smoke_overrides(path, folder.path / "smoke"), *overrides]
    plan = recipe.read(path, overrides)
    logs.check(plan.log)
    num_classes = plan.model.all_arguments()["num_classes"]
    splits = data.load(plan.data, num_classes, folder.examples if resume else None)
    model = build(plan, splits)
    done = {"epochs": 0, "step": 0}
    if folder.checkpoint.exists():
        done = restore(model, folder.checkpoint)
    asked = resume and plan.train.epochs != recipe.read(path).train.epochs
    if asked and plan.train.epochs <= done["epochs"]:
        raise ValueError(
            f"train.epochs must exceed the {done['epochs']} epochs that the run in {folder.path} "
            f"has behind it. Received: train.epochs={plan.train.epochs}"
        )
    folder.create()
    if folder.state == "finished" and plan.train.epochs > done["epochs"]:
        folder.result.unlink()  # asked to train on: it is unfinished again
    if folder.state != "finished":
        made_by = f"As run by python -m training with keras_vit {keras_vit.__version__}."
        folder.write_whole(folder.recipe, recipe.to_toml(plan, made_by))
        _write_examples(splits, folder)
    return Job(plan, folder, splits, model, done, stop or StopRequest())


def build(plan, splits):
    """The compiled model of a recipe; a ValueError where it does not fit the data."""
    keras.utils.set_random_seed(plan.train.seed)
    model = plan.model.build(plan.train.precision, plan.finetune, splits.class_names)
    if splits.encoded:
        if model.input.shape[-1] not in (1, 3):
            raise ValueError(
                "model.num_channels must be 1 or 3 for JPEG and PNG files. "
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
    model.compile(rule, loss, metrics=["accuracy"])
    return model


def execute(job):
    """Trains, evaluates and writes everything into the run folder; returns the result, a dict."""
    begin = time.perf_counter()
    fit(job)
    train_seconds = time.perf_counter() - begin
    print(f"Trained in {clock(train_seconds)}; now the test images, the pictures and the export")
    return finish(job, train_seconds)


def fit(job):
    """`model.fit` on tf.data from the first step that is not done."""
    first = job.done["epochs"]
    with job.stop.fitting():
        if job.done["step"]:  # the rest of an epoch
            _fit(job, range(first, first + 1), job.done["step"], job.done["within_epoch"])
            restore(job.model, job.folder.checkpoint)  # fit leaves the average in the model
            first += 1
        if first < job.recipe.train.epochs:
            _fit(job, range(first, job.recipe.train.epochs))
        else:  # the run was stopped in its last epoch or after it
            job.model.optimizer.finalize_variable_values(job.model.trainable_variables)
            unshare(job.model)


def _fit(job, epochs, first_step=0, within_epoch=None):
    """One call of `model.fit`, for whole epochs or for the rest of one."""
    plan, train, classes = job.recipe, job.recipe.train, job.model.output.shape[-1]
    steps = data.steps_per_epoch(job.splits.train, train.batch_size)
    shape, folder = job.model.input.shape[1:], job.folder
    progress = ProgressOfRun(train.epochs, epochs.start, steps, train.batch_size, first_step)
    try:
        job.model.fit(
            data.train_dataset(
                job.splits.train,
                classes,
                train.batch_size,
                training_transform(plan.augment, plan.data, shape),
                train.seed,
                epochs,
                mixing(plan.augment.mixup, plan.augment.cutmix),
                plan.augment.repeats,
                first_step,
            ),
            validation_data=data.evaluation_dataset(
                job.splits.validation, classes, 256, evaluation_transform(plan.data, shape)
            ),
            steps_per_epoch=steps - first_step,
            initial_epoch=epochs.start,
            epochs=epochs.stop,
            shuffle=False,  # the pipeline does
            verbose=0,
            callbacks=[
                # First, so that what the others do at an epoch's end is not counted.
                *([] if first_step else [job.speed]),
                *([EvaluateAverage()] if plan.optimizer.ema else []),
                ReseedEveryEpoch(train.seed, first_step, within_epoch),
                StopOnNaN(folder.checkpoint, first_step, train.skip_nan),
                progress,
                Metrics(folder.metrics, epochs.start),
                Checkpoint(
                    folder.checkpoint,
                    folder.best,
                    train.checkpoint_steps,
                    train.keep_epochs,
                    steps,
                    first_step,
                    job.stop,
                ),
                *logs.callbacks(plan, folder),
            ],
        )
    finally:
        progress.stop()


def finish(job, train_seconds):
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
    print(exported)
    backend = keras.backend.backend()
    result = {
        "test_accuracy": found.top1,
        "test_top5": found.top5,
        "test_loss": found.loss,
        "test_ece": found.ece,
        "test_images": found.images,
        "epochs": job.recipe.train.epochs,
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


def _write_examples(splits, folder):
    """Keeps which images of many files a run uses, and which it does not."""
    if not splits.encoded or folder.examples.exists():
        return
    if splits.skipped:
        folder.write_whole(folder.skipped, as_csv(splits.skipped))
        print(f"{len(splits.skipped)} broken images are left out; {folder.skipped} names them")
    save(splits, folder.examples)


def _check_overrides(path, overrides):
    """Raises where they change more of a run's recipe than its epochs; the same again may stand."""
    before = recipe.read(path)
    for override in overrides:
        table, key, _ = recipe.parse_override(override)
        if (table, key) not in MAY_CHANGE_ON_RESUME and recipe.read(path, [override]) != before:
            raise ValueError(
                "A resumed run keeps its recipe; only train.epochs may change. "
                f"Received: {override}"
            )
