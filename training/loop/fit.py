"""Training: the data, the callbacks and the calls of `model.fit`."""

from .. import data, tasks
from . import logs
from .callbacks import Metrics, ReseedEveryEpoch, StopOnNaN
from .checkpoint import Checkpoint
from .ema import EvaluateEMA, MeasureEveryEpoch, unshare
from .progress import ProgressOfRun
from .restore import restore


def fit(job):
    """Trains with `model.fit` on tf.data, from the first step that is not done."""
    done = job.done
    with job.stop.fitting():
        if done["step"]:  # the rest of an epoch
            _fit(job, plan_of(job, range(done["epochs"], done["epochs"] + 1), done["step"]), done)
            job.devices.group.wait_for_main()  # until it has written the checkpoint of the epoch
            with job.devices.scope():  # fit leaves the EMA in the model
                done = restore(job.model, job.folder.checkpoint)
        if done["epochs"] < job.recipe.train.epochs:
            _fit(job, plan_of(job, range(done["epochs"], job.recipe.train.epochs)), done)
        else:  # the run was stopped in its last epoch or after it
            job.model.optimizer.finalize_variable_values(job.model.trainable_variables)
            unshare(job.model)


def plan_of(job, epochs, first_step=0):
    """The `Plan` of a call of `model.fit` for whole epochs or for the rest of one."""
    recipe, task = job.recipe, tasks.of(job.recipe)
    return data.Plan(
        recipe,
        steps_per_epoch=data.steps_per_epoch(job.splits.train, recipe.train.batch_size),
        epochs=epochs,
        example=task.training(recipe, job.model),
        mix=task.mix(recipe),
        first_step=first_step,
        batches=task.batches(recipe, job.model, job.splits.train),
    )


def _fit(job, plan, done):
    """One call of `model.fit`, from the position `done`."""
    training, validation = _datasets(job, plan)
    progress = ProgressOfRun(
        plan.recipe.train.epochs,
        plan.epochs.start,
        plan.steps_per_epoch,
        plan.batch_size,
        plan.first_step,
        metric=tasks.of(job.recipe).metric,
        title=tasks.of(job.recipe).title,
    )
    try:
        job.fitted.fit(
            training,
            validation_data=validation,
            steps_per_epoch=plan.steps_per_epoch - plan.first_step,
            initial_epoch=plan.epochs.start,
            epochs=plan.epochs.stop,
            shuffle=False,  # the pipeline shuffles
            verbose=0,
            callbacks=_callbacks(job, plan, done, progress),
        )
    finally:
        progress.stop()


def _datasets(job, plan):
    """(training, validation): the data sets for `model.fit`."""
    devices, task = job.devices, tasks.of(job.recipe)
    split, example = task.validation(job.splits.validation, plan.recipe, job.model)
    # Of few examples no device gets only those that fill up the batch.
    batch = min(task.validation_batch(plan.recipe), len(split.labels))
    batch = -(-batch // devices.count) * devices.count
    training = devices.dataset(lambda part: data.train_dataset(job.splits.train, plan, part))
    validation = devices.dataset(
        lambda part: data.evaluation_dataset(
            split,
            batch,
            example,
            None if devices.alone else part,
            task.ignored,
            task.batches(plan.recipe, job.model, split),
        )
    )
    return training, validation


def _callbacks(job, plan, done, progress):
    """The callbacks of this process, in the required order."""
    folder, devices, train = job.folder, job.devices, plan.recipe.train
    stop_on_nan = StopOnNaN(
        folder.checkpoint, plan.first_step, train.skip_nan, done.get("skipped", 0)
    )
    reseed = ReseedEveryEpoch(
        plan.seed, plan.first_step, done.get("within_epoch"), devices.group.rank
    )
    callbacks = [*([EvaluateEMA()] if plan.recipe.optimizer.ema else []), reseed, stop_on_nan]
    checkpoint = Checkpoint(
        folder.checkpoint,
        folder.best,
        plan,
        devices,
        job.stop,
        lambda: stop_on_nan.skipped,
        tasks.of(job.recipe).metric,
    )
    if devices.group.is_main:
        # The clock comes first, so that the time of other callbacks is not counted.
        clock = [] if plan.first_step else [job.speed]
        measure = tasks.of(job.recipe).validated(job)
        measured = [MeasureEveryEpoch(measure)] if measure else []
        written = [Metrics(folder.metrics, plan.epochs.start), checkpoint]
        return [
            *clock,
            *callbacks,
            *measured,
            progress,
            *written,
            *logs.callbacks(plan.recipe, folder),
        ]
    return [*callbacks, checkpoint] if devices.sharded else callbacks
