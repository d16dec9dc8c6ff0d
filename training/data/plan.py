"""`Plan`: the settings of a call of `model.fit`."""

from collections.abc import Callable
from dataclasses import dataclass

from ..recipe.schema import Recipe


def stacked(examples, size, drop_remainder=False):
    """Batches of examples of one shape."""
    return examples.batch(size, drop_remainder=drop_remainder)


@dataclass(frozen=True)
class Plan:
    """A recipe, and the settings for one call of `model.fit` that follow from it.

    Attributes:
        recipe: `Recipe`.
        steps_per_epoch: int, number of full batches in an epoch.
        epochs: range of the epochs to train, such as `range(3, 10)` to resume after three.
        example: function from a picture (pixels or bytes), its label and a seed (2,) to a float32
            image (H, W, C) and its target, such as `training.data.classified`.
        mix: function from images, targets and a seed (2,) to images and targets that mixes the
            examples of a batch (`training.augment.mixing.mixing`), or None.
        first_step: int, number of steps of the first epoch that are already done.
        batches: function from a data set of examples, the size of a batch and whether an incomplete
            last one is dropped to a data set of batches; by default the examples have one shape.
    """

    recipe: Recipe
    steps_per_epoch: int
    epochs: range
    example: Callable
    mix: Callable | None = None
    first_step: int = 0
    batches: Callable = stacked

    @property
    def seed(self):
        """int, the seed of order, augmentation and dropout."""
        return self.recipe.train.seed

    @property
    def batch_size(self):
        """int, B, the global batch size over all devices."""
        return self.recipe.train.batch_size
