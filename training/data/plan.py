"""`Plan`: the settings of a call of `model.fit`."""

from collections.abc import Callable
from dataclasses import dataclass

from ..recipe.schema import Recipe


@dataclass(frozen=True)
class Plan:
    """A recipe, and the settings for one call of `model.fit` that follow from it.

    Attributes:
        recipe: `Recipe`.
        num_classes: int, K.
        steps_per_epoch: int, number of full batches in an epoch.
        epochs: range of the epochs to train, such as `range(3, 10)` to resume after three.
        transform: function from a picture (pixels or bytes) and a seed (2,) to a float32 image
            (H, W, C) (`training.augment.transform.training_transform`).
        mix: function from images, labels and a seed (2,) to images and labels that mixes the
            examples of a batch (`training.augment.mixing.mixing`), or None.
        first_step: int, number of steps of the first epoch that are already done.
    """

    recipe: Recipe
    num_classes: int
    steps_per_epoch: int
    epochs: range
    transform: Callable
    mix: Callable | None = None
    first_step: int = 0

    @property
    def seed(self):
        """int, the seed of order, augmentation and dropout."""
        return self.recipe.train.seed

    @property
    def batch_size(self):
        """int, B, the global batch size over all devices."""
        return self.recipe.train.batch_size
