"""What a call of `model.fit` is made by."""

from collections.abc import Callable
from dataclasses import dataclass

from training.recipe.schema import Recipe


@dataclass(frozen=True)
class Plan:
    """A recipe in force, and what follows from it for one call of `model.fit`.

    Attributes:
        recipe: `Recipe`.
        num_classes: int, K.
        steps_per_epoch: int, full batches in an epoch.
        epochs: range of the epochs to train, such as `range(3, 10)` to go on after three.
        transform: function from an image or its bytes and a seed (2,) to a float32 image (H, W, C)
            (`training.augment.transform.training_transform`).
        mix: function from images, labels and a seed (2,) to images and labels, how the examples of
            a batch are mixed (`training.augment.mixing.mixing`); None leaves them apart.
        first_step: int, steps of the first epoch that are done already.
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
        """int, of the order, the augmentation and the dropouts."""
        return self.recipe.train.seed

    @property
    def batch_size(self):
        """int, B: the images of a step on all devices together."""
        return self.recipe.train.batch_size
