"""The compiled model of a recipe."""

import keras

from .. import data, tasks
from ..recipe import settings
from ..recipe.optimizers import optimizer


def build(recipe, splits):
    """Builds and compiles the model of a recipe.

    Args:
        recipe: `Recipe`.
        splits: `Splits` of the data.

    Returns:
        Compiled `keras.Model`.

    Raises:
        ValueError: if the recipe does not fit the data.
    """
    keras.utils.set_random_seed(recipe.train.seed)
    task = tasks.of(recipe)
    model = task.build(recipe, splits.class_names)
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
    task.training(recipe, model)  # raises if they misfit
    steps = data.steps_per_epoch(splits.train, recipe.train.batch_size)
    rule = optimizer(
        model,
        steps * recipe.train.epochs,
        **vars(recipe.optimizer),
        skip_nonfinite=recipe.train.skip_nan > 0,
    )
    task.compile(model, rule, recipe, splits)
    average_over_updates(model, recipe.optimizer.accumulate)
    return model


def average_over_updates(model, accumulate):
    """Lets the moving statistics of batch normalisation move once an update, not once a batch.

    A layer normalises each batch by its own statistics; with accumulated gradients there are
    several batches an update. As for the EMA of the weights, the momentum of a batch is the root of
    that of an update. A loaded model has the momentum of its class again.

    Args:
        model: built `keras.Model`.
        accumulate: int, batches an update.
    """
    for layer in model._flatten_layers():
        if accumulate > 1 and isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = layer.momentum ** (1 / accumulate)
