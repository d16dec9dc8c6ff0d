"""The compiled model of a recipe."""

import keras

from .. import data
from ..augment.transform import training_transform
from ..recipe import settings
from ..recipe.optimizers import optimizer
from ..recipe.schema import JIT_COMPILE


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
    model = recipe.model.build(recipe.train.precision, recipe.finetune, splits.class_names)
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
    training_transform(recipe.augment, recipe.data, model.input.shape[1:])  # raises if they misfit
    steps = data.steps_per_epoch(splits.train, recipe.train.batch_size)
    rule = optimizer(
        model,
        steps * recipe.train.epochs,
        **vars(recipe.optimizer),
        skip_nonfinite=recipe.train.skip_nan > 0,
    )
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=recipe.train.label_smoothing
    )
    model.compile(
        rule,
        loss,
        weighted_metrics=["accuracy"],  # see data.evaluation_dataset
        jit_compile=JIT_COMPILE[recipe.train.jit_compile],
    )
    return model
