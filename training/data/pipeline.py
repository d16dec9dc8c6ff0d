"""Deterministic tf.data pipelines: the same batches for the same seed and epoch.

An example of a split is a picture and its label: a class, or what `Split.labels` else has. A task
makes an image and a target of them, by a function that is the same for every example.

Letters: N examples, B batch, H x W image size, C channels, K classes.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from .examples import Encoded, reader
from .plan import stacked


class Part(NamedTuple):
    """The part of every batch that a process reads.

    Attributes:
        rank: int, rank of the process.
        world_size: int, number of processes. Of a batch of B, rank 0 reads the first
            B / world_size examples, and so on.
        pieces: int, number of devices of the process; each takes a piece as its own batch.
    """

    rank: int = 0
    world_size: int = 1
    pieces: int = 1


WHOLE_BATCH = Part()


def classified(transform, num_classes):
    """Returns the function from an example of a classification to image and one-hot target (K,).

    Args:
        transform: function from a picture (pixels or bytes), and a seed (2,) in training, to an
            image (`training.augment.transform`).
        num_classes: int, K.
    """

    def example(picture, label, *seed):
        return transform(picture, *seed), tf.one_hot(label, num_classes)

    return example


def train_dataset(split, plan, part=WHOLE_BATCH):
    """Returns the shuffled and augmented batches of several epochs, one epoch after another.

    The order is a function of (seed, epoch), and pixels of (seed, epoch, index of the example), so
    a resumed run sees the same batches, on any number of devices. An incomplete last batch is
    dropped; each epoch has another order.

    With [augment] repeats = R each example appears R times in a row, with another augmentation each
    time. An epoch still has N // B steps, and so about N / R different examples, as in the repeated
    augmentation of DeiT (Hoffer et al. 2020, arXiv:1901.09335).

    Args:
        split: `Split` of N examples.
        plan: `Plan`.
        part: `Part` of every batch. Examples are mixed with others of the same piece.

    Returns:
        `tf.data.Dataset` of N // B batches per epoch, each in `part.pieces` pieces: float32 images
        (B, H, W, C) and their targets, as `plan.example` and `plan.mix` give them.
    """
    size, steps, epochs = len(split.labels), plan.steps_per_epoch, plan.epochs
    seed, repeats = plan.seed, plan.recipe.augment.repeats
    own = plan.batch_size // part.world_size  # examples of a batch that are read here
    read, label = reader(split.images), reader(split.labels)

    def one_epoch(epoch):
        order = tf.random.experimental.stateless_shuffle(tf.range(size), seed=[seed, epoch])
        places = tf.reshape(tf.range(steps * plan.batch_size), (steps, part.world_size, own))
        first = tf.where(epoch == epochs.start, plan.first_step, 0)
        places = tf.reshape(places[first:, part.rank], [-1])
        shown = tf.gather(order, places // repeats), places % repeats
        return tf.data.Dataset.from_tensor_slices(shown).map(lambda *shown: (epoch, *shown))

    def example(epoch, index, repeat):
        key = tf.random.fold_in(tf.stack([seed, epoch]), index)
        if repeats > 1:
            key = tf.random.fold_in(key, repeat)
        image, target = plan.example(read(index), label(index), key)
        return (image, target) if plan.mix is None else (image, target, key)

    def finish(images, labels, keys):
        return plan.mix(images, labels, keys[0])

    indices = tf.data.Dataset.range(epochs.start, epochs.stop, output_type=tf.int32)
    examples = indices.flat_map(one_epoch).map(example, num_parallel_calls=tf.data.AUTOTUNE)
    batches = plan.batches(examples, own // part.pieces, drop_remainder=True)
    if plan.mix is not None:
        batches = batches.map(finish)
    return batches.prefetch(tf.data.AUTOTUNE)


def steps_per_epoch(split, batch_size):
    """The number of full batches in an epoch; raises a `ValueError` if there is none."""
    steps = len(split.labels) // batch_size
    if not steps:
        raise ValueError(
            "train.batch_size must not exceed the number of training images. "
            f"Received: train.batch_size={batch_size}, {len(split.labels)} images"
        )
    return steps


def evaluation_dataset(split, batch_size, example, part=None, ignored=None, batches=stacked):
    """Returns the batches of a split in order, without augmentation.

    Args:
        split: `Split` of N examples.
        batch_size: int, B.
        example: function from a picture (pixels or bytes) and its label to a float32 image
            (H, W, C) and its target, such as `classified`.
        part: `Part` of every batch. All batches are then full: the last batch is filled up with
            the last image, with a weight of 0. The weights of the others make the mean over the
            batches equal to the mean over the images.
        ignored: function from a target to one that counts for nothing, for tasks that have no
            weights: the images that fill up the last batch get this target.
        batches: as in `Plan`.

    Returns:
        `tf.data.Dataset` of batches: float32 images (B, H, W, C) and targets; with a `part` and
        without `ignored` also float32 weights (B,).
    """
    read, label = reader(split.images), reader(split.labels)
    size = len(split.labels)
    steps = -(-size // batch_size)
    shown, weight = np.arange(size), 1.0
    if part is not None:
        own = batch_size // part.world_size
        shown = np.arange(steps * batch_size).reshape(steps, part.world_size, own)[:, part.rank]
        shown, weight = shown.reshape(-1), steps * batch_size / size
        batch_size = own // part.pieces

    def at(place):
        index = tf.minimum(place, size - 1)
        image, target = example(read(index), label(index))
        if part is None:
            return image, target
        if ignored is not None:
            real = place < size
            return image, tf.nest.map_structure(
                lambda one, other: tf.where(real, one, other), target, ignored(target)
            )
        return image, target, tf.where(place < size, weight, 0.0)

    indices = tf.data.Dataset.from_tensor_slices(shown)
    examples = indices.map(at, num_parallel_calls=tf.data.AUTOTUNE)
    shape = examples.element_spec[0].shape
    found = batches(examples, batch_size)
    if not isinstance(split.images, Encoded) and split.images.shape[1:] == shape:
        found = found.cache()  # in memory, like the images
    return found.prefetch(tf.data.AUTOTUNE)


class Pictures:
    """The images that the model sees, transformed on access.

    Args:
        images: array (N, H, W, C) or `Encoded`.
        transform: `training.augment.transform.evaluation_transform`.
    """

    def __init__(self, images, transform):
        self.read, self.transform, self.size = reader(images), transform, len(images)

    def __getitem__(self, chosen):
        """float32 (H, W, C) for an index; (n, H, W, C) for a slice or a list of indices."""
        if isinstance(chosen, slice):
            chosen = range(self.size)[chosen]
        if np.ndim(chosen):
            return np.stack([self[index] for index in chosen])
        return self.transform(self.read(int(chosen))).numpy()


def pictures(split, transform):
    """The images of a `Split`, for figures: `Pictures`."""
    return Pictures(split.images, transform)
