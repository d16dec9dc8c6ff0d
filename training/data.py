"""Images and labels as arrays that were checked, and tf.data pipelines that can be repeated.

Letters: N examples, B batch, H x W image size, C channels, K classes.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from training.augment import mixup

SPLIT_SEED = 0  # part of what a data set is: every run holds out the same images
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
KERAS_ARRAYS = ("x_train", "y_train", "x_test", "y_test")  # as keras.datasets names them


class Split(NamedTuple):
    """Examples of one purpose.

    Attributes:
        images: array (N, H, W, C), pixels 0..255.
        labels: integer array (N,).
    """

    images: np.ndarray
    labels: np.ndarray


class Splits(NamedTuple):
    """A data set; the test images are for one look at the end."""

    train: Split
    validation: Split
    test: Split


def load(source, validation, num_classes):
    """Reads a data set, checks it and holds out validation images.

    Args:
        source: "digits" (scikit-learn's 1,797 handwritten digits, 8x8 pixels, 20 % of them test
            images), or "npz:PATH" with arrays train_images, train_labels, test_images, test_labels,
            or x_train, y_train, x_test, y_test.
        validation: float in (0, 1), share of every class's training images to hold out.
        num_classes: int, K; labels must lie in [0, K).

    Returns:
        `Splits`.

    Raises:
        ValueError: for an unknown source, arrays that are missing, have another rank or size, hold
            NaN or pixels outside 0..255, or labels that are no integers in [0, K).

    Example:
        >>> load("digits", validation=0.1, num_classes=10).test.images.shape
        (359, 8, 8, 1)
    """
    if source == "digits":
        train, test = _digits()
    elif source.startswith("npz:"):
        train, test = _npz(Path(source.removeprefix("npz:")))
    else:
        raise ValueError(
            f"data.source must be 'digits' or 'npz:PATH'. Received: data.source={source!r}"
        )
    _check(train, "train", num_classes)
    _check(test, "test", num_classes)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            "Training and test images must have one shape. "
            f"Received: {train.images.shape[1:]} and {test.images.shape[1:]}"
        )
    train, held_out = stratified(train, validation)
    if not len(held_out.labels) or not len(train.labels):
        raise ValueError(
            f"No images are left for training or for validation; change data.validation. Received: "
            f"data.validation={validation} of {len(train.labels) + len(held_out.labels)} images"
        )
    return Splits(train, held_out, test)


def stratified(split, share):
    """Splits in two with the same share of every class: (the rest, the share held out)."""
    rng = np.random.default_rng(SPLIT_SEED)
    held_out = np.zeros(len(split.labels), bool)
    for label in np.unique(split.labels):
        members = rng.permutation(np.flatnonzero(split.labels == label))
        held_out[members[: round(share * len(members))]] = True
    return (
        Split(split.images[~held_out], split.labels[~held_out]),
        Split(split.images[held_out], split.labels[held_out]),
    )


def train_dataset(split, num_classes, batch_size, augment, seed, epochs, mixup_alpha=0.0):
    """The batches of several epochs, one after another, shuffled and augmented.

    The order is a function of (seed, epoch), the pixels of (seed, epoch, index of the example), so
    a run that starts again at an epoch sees what it would have seen. A last batch that is not full
    is left out; the next epoch's order is another.

    Args:
        split: `Split` of N examples.
        num_classes: int, K.
        batch_size: int, B.
        augment: function from a float32 image (H, W, C) and a seed (2,) to an image (H, W, C).
        seed: int.
        epochs: range of epochs, such as `range(3, 10)` to go on after three.
        mixup_alpha: float, how examples of a batch are blended (`training.augment.mixup`); 0 leaves
            them apart.

    Returns:
        `tf.data.Dataset` of N // B batches an epoch: images (B, H, W, C), labels (B, K), one-hot
        where they are not blended; both float32.
    """
    size = len(split.labels)
    used = steps_per_epoch(split, batch_size) * batch_size
    with tf.device("CPU"):
        images, labels = tf.constant(split.images), tf.constant(split.labels)

    def one_epoch(epoch):
        order = tf.random.experimental.stateless_shuffle(tf.range(size), seed=[seed, epoch])
        return tf.data.Dataset.from_tensor_slices(order[:used]).map(lambda index: (epoch, index))

    def example(epoch, index):
        image = tf.cast(images[index], tf.float32)
        key = tf.random.fold_in(tf.stack([seed, epoch]), index)
        return augment(image, key), tf.one_hot(labels[index], num_classes), key

    def finish(images, labels, keys):
        if mixup_alpha:
            images, labels = mixup(images, labels, keys[0], mixup_alpha)
        return images, labels

    indices = tf.data.Dataset.range(epochs.start, epochs.stop, output_type=tf.int32)
    examples = indices.flat_map(one_epoch).map(example, num_parallel_calls=tf.data.AUTOTUNE)
    batches = examples.batch(batch_size, drop_remainder=True).map(finish)
    return batches.prefetch(tf.data.AUTOTUNE)


def steps_per_epoch(split, batch_size):
    """Full batches in an epoch; a ValueError where there is none."""
    steps = len(split.labels) // batch_size
    if not steps:
        raise ValueError(
            "train.batch_size must not exceed the number of training images. "
            f"Received: train.batch_size={batch_size}, {len(split.labels)} images"
        )
    return steps


def validation_dataset(split, num_classes, batch_size):
    """All images as they are: batches of float32 images (B, H, W, C), one-hot labels (B, K)."""

    def example(image, label):
        return tf.cast(image, tf.float32), tf.one_hot(label, num_classes)

    examples = tf.data.Dataset.from_tensor_slices((split.images, split.labels)).map(example)
    return examples.batch(batch_size).cache().prefetch(tf.data.AUTOTUNE)


def _digits():
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype("uint8")[..., None]  # (1797, 8, 8, 1)
    return stratified(Split(images, digits.target), share=0.2)


def _npz(path):
    if not path.is_file():
        raise ValueError(f"data.source must name an existing .npz file. Received: npz:{path}")
    with np.load(path, allow_pickle=False) as file:
        names = KERAS_ARRAYS if KERAS_ARRAYS[0] in file else ARRAYS
        missing = [name for name in names if name not in file]
        if missing:
            raise ValueError(
                f"{path} must hold the arrays {', '.join(names)}. "
                f"Missing: {', '.join(missing)}. Received: {', '.join(file)}"
            )
        train_images, train_labels, test_images, test_labels = (file[name] for name in names)
    # Keras's own data sets have labels of shape (N, 1).
    train_labels, test_labels = (
        x[:, 0] if x.ndim == 2 and x.shape[1] == 1 else x for x in (train_labels, test_labels)
    )
    return Split(train_images, train_labels), Split(test_images, test_labels)


def _check(split, name, num_classes):
    """Raises for the first example that a model of K classes cannot learn from."""
    images, labels = split
    if images.ndim != 4 or not np.issubdtype(images.dtype, np.number):
        raise ValueError(
            f"{name}_images must be numbers of shape (N, H, W, C); grey images need a last axis of "
            f"1. Received: shape={images.shape}, dtype={images.dtype}"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{name}_labels must be integers, one for each of the {len(images)} images. "
            f"Received: shape={labels.shape}, dtype={labels.dtype}"
        )
    for wrong, what in (
        (~np.isfinite(images), "finite"),
        ((images < 0) | (images > 255), "pixels in 0..255"),
    ):
        if wrong.any():
            index = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(
                f"{name}_images must be {what}. Received: {images[index]} at index {index}"
            )
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        raise ValueError(
            f"{name}_labels must lie in [0, {num_classes}), model.num_classes. "
            f"Received: {labels[outside[0]]} at index {outside[0]}"
        )
