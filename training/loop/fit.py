"""The calls of `model.fit`: what they take, and the callbacks beside them."""

import functools

from training import data
from training.augment.mixing import mixing
from training.augment.transform import evaluation_transform, training_transform
from training.loop import logs
from training.loop.averages import EvaluateAverage, unshare
from training.loop.callbacks import Metrics, ReseedEveryEpoch, StopOnNaN
from training.loop.checkpoint import Checkpoint, restore
from training.loop.progress import ProgressOfRun


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
