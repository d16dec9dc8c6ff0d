"""Restores a checkpoint into the model and the optimizer of its run."""

import io
import json
import warnings
import zipfile

import h5py
import keras

from .checkpoint_file import (
    OWN_WEIGHTS,
    VARIABLES,
    WITHIN_EPOCH,
    position,
    read_arrays,
    variables_of,
)


def restore(model, path):
    """Restores a checkpoint into a compiled model and its optimizer.

    Args:
        model: `keras.Model` compiled as the one that was saved.
        path: `Path` of the checkpoint.

    Returns:
        dict: `epochs` and `step`, the position of the run; `best` accuracy; `skipped`
        steps, where there are any; and `within_epoch`, for
        `training.loop.callbacks.ReseedEveryEpoch`.

    Raises:
        ValueError: if the variables of the model and of the optimizer and those in the checkpoint
            differ in name, shape or order.
    """
    if not model.optimizer.built:  # a second build would duplicate the loss scale
        model.optimizer.build(model.trainable_variables)
    _check_variables(model, path)
    repeated = _repeated_loss_scale(model.optimizer, path)
    try:
        with warnings.catch_warnings():  # otherwise Keras continues with a new optimizer
            action = "ignore" if repeated else "error"
            warnings.filterwarnings(action, message="Skipping variable loading for optimizer")
            model.load_weights(path)
    except ValueError as error:
        raise _misfit(path, error) from error
    for variable, value in zip(model.optimizer.variables, repeated, strict=False):
        variable.assign(value)
    weights = {weight.path: weight for weight in model.weights}
    for name, array in read_arrays(path, OWN_WEIGHTS).items():
        weights[name].assign(array)
    return {**position(path), "within_epoch": read_arrays(path, WITHIN_EPOCH)}


def _check_variables(model, path):
    """Raises a `ValueError` unless a checkpoint has the variables of a model and its optimizer.

    Checkpoints of earlier versions have no list of their variables.
    """
    with zipfile.ZipFile(path) as archive:
        if VARIABLES not in archive.namelist():
            return
        saved = json.loads(archive.read(VARIABLES))
    expected = variables_of(model)
    if saved == expected:
        return
    parts = [
        f"{', '.join(f'{name} {tuple(shape)}' for name, shape in found[:3])}"
        f"{f' and {len(found) - 3} more' if len(found) > 3 else ''} {where}"
        for found, where in (
            ([x for x in saved if x not in expected], "only in the checkpoint"),
            ([x for x in expected if x not in saved], "only in the model"),
        )
        if found
    ]
    raise _misfit(path, "; ".join(parts) or "the same variables in another order")


def _repeated_loss_scale(optimizer, path):
    """The duplicated variables of a loss scale that earlier versions saved; else [].

    They created its counter and scale again when resuming within an epoch, before the variables of
    the inner optimizer, and used the last ones. Keras reads the inner optimizer from elsewhere in
    the file.
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
        "A checkpoint must fit the model and the optimizer of its run's recipe. Resume with the "
        "recipe, the settings and the version of keras_vit that wrote it, or start another run "
        f"with --new. Received: {path}: {what}"
    )
