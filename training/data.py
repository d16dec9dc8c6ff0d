"""Images and labels that were checked, and tf.data pipelines that can be repeated.

Letters: N examples, B batch, H x W image size, C channels, K classes.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from training import records, sources
from training.corrupt import without_corrupt
from training.examples import Encoded, Split, Splits, reader, restore

SPLIT_SEED = 0  # part of what a data set is: every run holds out the same images


class Part(NamedTuple):
    """Which part of every batch a process reads, and in how many pieces it hands it on.

    Attributes:
        index: int, the process.
        count: int, processes; of a batch of B the first reads the first B / count examples, ...
        pieces: int, devices of a process that each take a piece as a batch of its own.
    """

    index: int = 0
    count: int = 1
    pieces: int = 1


WHOLE_BATCH = Part()


def load(table, num_classes, examples=None):
    """Reads a data set, checks it and holds out validation images.

    Arrays stay in memory: those of "digits" (scikit-learn's 1,797 handwritten digits, 8x8 pixels,
    20 % of them test images) and of "npz:PATH" (train_images, train_labels, test_images,
    test_labels, or x_train ... as in keras.datasets). Of the others only the images' places do:

    - "folder:PATH": pictures of every kind that `keras-vit predict` finds in PATH/train/CLASS and
      PATH/test/CLASS (or val, validation), or all in PATH/CLASS.
    - "tfds:NAME": a data set of tensorflow-datasets.
    - "tfrecord:GLOB": shards train-* and validation-* with image/encoded and image/class/label.

    Args:
        table: `DataTable`.
        num_classes: int, K; labels must lie in [0, K).
        examples: `Path` of a file that `training.examples.save` may have written: if it exists it
            says which encoded images are used, and they are not looked through again.

    Returns:
        `Splits`.

    Raises:
        ValueError: for an unknown source or split, arrays that are missing, have another rank or
            size, hold NaN or pixels outside 0..255, labels that are no integers in [0, K), or more
            broken images than `table.max_corrupt`.

    Example:
        >>> load(DataTable("digits"), num_classes=10).test.images.shape
        (359, 8, 8, 1)
    """
    if examples is not None and examples.exists():
        return restore(examples)
    train, test, class_names = _train_and_test(table)
    _check(train, "train", num_classes)
    _check(test, "test", num_classes)
    if not isinstance(train.images, Encoded) and train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            "Training and test images must have one shape. "
            f"Received: {train.images.shape[1:]} and {test.images.shape[1:]}"
        )
    train, skipped = without_corrupt(train, "train", 0, table.max_corrupt, table.upright)
    test, more_skipped = without_corrupt(
        test, "test", len(skipped), table.max_corrupt, table.upright
    )
    train, held_out = stratified(train, table.validation)
    if not len(held_out.labels) or not len(train.labels):
        raise ValueError(
            f"No images are left for training or for validation; change data.validation. Received: "
            f"data.validation={table.validation} of {len(train.labels) + len(held_out.labels)} "
            "images"
        )
    return Splits(train, held_out, test, class_names, skipped + more_skipped)


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


def train_dataset(
    split,
    num_classes,
    batch_size,
    transform,
    seed,
    epochs,
    mix=None,
    repeats=1,
    first_step=0,
    part=WHOLE_BATCH,
):
    """The batches of several epochs, one after another, shuffled and augmented.

    The order is a function of (seed, epoch), the pixels of (seed, epoch, index of the example), so
    a run that starts again sees what it would have seen, on however many devices. A last batch that
    is not full is left out; the next epoch's order is another.

    Args:
        split: `Split` of N examples.
        num_classes: int, K.
        batch_size: int, B.
        transform: function from an image or its bytes and a seed (2,) to a float32 image (H, W, C)
            (`training.transform.training_transform`).
        seed: int.
        epochs: range of epochs, such as `range(3, 10)` to go on after three.
        mix: function from images, labels and a seed (2,) to images and labels, how examples of a
            batch are mixed (`training.augment.mixing`); None leaves them apart.
        repeats: int, how often an example follows itself, each time transformed anew. An epoch has
            N // B steps whatever it is, so it shows only about N / repeats examples: repeated
            augmentation as DeiT has it (Hoffer et al. 2020, arXiv:1901.09335).
        first_step: int, steps of the first epoch that are left out.
        part: `Part` of every batch. Examples are mixed with others of the same piece.

    Returns:
        `tf.data.Dataset` of N // B batches an epoch, each in as many pieces as `part` says: images
        (B, H, W, C), labels (B, K), one-hot where they are not mixed; both float32.
    """
    size, steps = len(split.labels), steps_per_epoch(split, batch_size)
    own = batch_size // part.count  # examples of a batch that are read here
    read = reader(split.images)
    with tf.device("CPU"):
        labels = tf.constant(split.labels)

    def one_epoch(epoch):
        order = tf.random.experimental.stateless_shuffle(tf.range(size), seed=[seed, epoch])
        places = tf.reshape(tf.range(steps * batch_size), (steps, part.count, own))
        first = tf.where(epoch == epochs.start, first_step, 0)
        places = tf.reshape(places[first:, part.index], [-1])
        shown = tf.gather(order, places // repeats), places % repeats
        return tf.data.Dataset.from_tensor_slices(shown).map(lambda *shown: (epoch, *shown))

    def example(epoch, index, repeat):
        key = tf.random.fold_in(tf.stack([seed, epoch]), index)
        if repeats > 1:
            key = tf.random.fold_in(key, repeat)
        return transform(read(index), key), tf.one_hot(labels[index], num_classes), key

    def finish(images, labels, keys):
        if mix is not None:
            images, labels = mix(images, labels, keys[0])
        return images, labels

    indices = tf.data.Dataset.range(epochs.start, epochs.stop, output_type=tf.int32)
    examples = indices.flat_map(one_epoch).map(example, num_parallel_calls=tf.data.AUTOTUNE)
    batches = examples.batch(own // part.pieces, drop_remainder=True).map(finish)
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


def evaluation_dataset(split, num_classes, batch_size, transform, part=None):
    """All images in their order, nothing random about them.

    Args:
        split: `Split` of N examples.
        num_classes: int, K.
        batch_size: int, B.
        transform: function from an image or its bytes to a float32 image (H, W, C)
            (`training.transform.evaluation_transform`).
        part: `Part` of every batch. All batches are then full: the last image stands in for those
            that are missing, with a weight of 0, and the weights of the others are such that the
            mean of all batches' means is the mean of the images.

    Returns:
        `tf.data.Dataset` of batches: float32 images (B, H, W, C), one-hot labels (B, K); with a
        `part` also float32 weights (B,).
    """
    read = reader(split.images)
    with tf.device("CPU"):
        labels = tf.constant(split.labels)
    size = len(split.labels)
    steps = -(-size // batch_size)
    shown, weight = np.arange(size), 1.0
    if part is not None:
        own = batch_size // part.count
        shown = np.arange(steps * batch_size).reshape(steps, part.count, own)[:, part.index]
        shown, weight = shown.reshape(-1), steps * batch_size / size
        batch_size = own // part.pieces

    def example(place):
        index = tf.minimum(place, size - 1)
        found = transform(read(index)), tf.one_hot(labels[index], num_classes)
        return found if part is None else (*found, tf.where(place < size, weight, 0.0))

    indices = tf.data.Dataset.from_tensor_slices(shown)
    batches = indices.map(example, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size)
    shape = batches.element_spec[0].shape[1:]
    if not isinstance(split.images, Encoded) and split.images.shape[1:] == shape:
        batches = batches.cache()  # in memory, where the images are already
    return batches.prefetch(tf.data.AUTOTUNE)


class Pictures:
    """Images as the model sees them, each made when somebody asks for it.

    Args:
        images: array (N, H, W, C) or `Encoded`.
        transform: `training.transform.evaluation_transform`.
    """

    def __init__(self, images, transform):
        self.read, self.transform, self.size = reader(images), transform, len(images)

    def __getitem__(self, chosen):
        """float32 (H, W, C) of an index; (n, H, W, C) of a slice or a list of indices."""
        if isinstance(chosen, slice):
            chosen = range(self.size)[chosen]
        if np.ndim(chosen):
            return np.stack([self[index] for index in chosen])
        return self.transform(self.read(int(chosen))).numpy()


def pictures(split, transform):
    """The images of a `Split` to be looked at: `Pictures`."""
    return Pictures(split.images, transform)


def encoded_source(table):
    """The `Source` of a `DataTable` whose images stay in their files; a ValueError for no such."""
    kind, _, where = table.source.partition(":")
    if kind == "folder":
        return sources.folder(Path(where), table.train_split)
    if kind == "tfds":
        return records.tfds(where, table.data_dir)
    if kind == "tfrecord":
        return records.tfrecord(where, table.first_label)
    raise ValueError(
        "data.source must be 'digits', 'npz:PATH', 'folder:PATH', 'tfds:NAME' or "
        f"'tfrecord:GLOB'. Received: data.source={table.source!r}"
    )


def _train_and_test(table):
    """(training `Split`, test `Split`, class names or None) of the source of a `DataTable`."""
    kind, _, where = table.source.partition(":")
    if table.source == "digits":
        return *stratified(sources.digits(), share=0.2), [str(digit) for digit in range(10)]
    if kind == "npz":
        return *sources.npz(Path(where)), None
    source = encoded_source(table)
    train_names, test_name = _names(table, source.names)
    train = source.read(train_names[0])
    for name in train_names[1:]:
        more = source.read(name)
        labels = np.concatenate([train.labels, more.labels])
        train = Split(train.images + more.images, labels)
    if test_name is None:
        return *stratified(train, table.test), source.class_names
    return train, source.read(test_name), source.class_names


def _names(table, names):
    """Which splits are for training (a list) and for the test (None: some of the training's)."""
    if not names:
        if table.test_split:
            raise ValueError(
                "data.test_split needs a source with splits; without it data.test says which share "
                f"is held out. Received: data.test_split={table.test_split!r}"
            )
        return [""], None
    train = table.train_split.split("+")
    test = [name for name in sources.TEST_NAMES if name in names and name not in train]
    test = [table.test_split] if table.test_split else test[:1]
    for key, chosen in (("train_split", train), ("test_split", test)):
        for name in chosen:
            if name not in names:
                raise ValueError(
                    f"data.{key} must be one of {', '.join(names)}. "
                    f"Received: data.{key}={getattr(table, key)!r}"
                )
    if set(train) & set(test):
        raise ValueError(
            "The test images must not be among the training images. Received: "
            f"data.train_split={table.train_split!r}, data.test_split={table.test_split!r}"
        )
    return train, test[0] if test else None


def _check(split, name, num_classes):
    """Raises for the first example that a model of K classes cannot learn from."""
    images, labels = split
    if not isinstance(images, Encoded):
        _check_arrays(images, labels, name)
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        index = outside[0]
        place = images.name(index) if isinstance(images, Encoded) else f"index {index}"
        raise ValueError(
            f"{name}_labels must lie in [0, {num_classes}), model.num_classes. "
            f"Received: {labels[index]} at {place}"
        )


def _check_arrays(images, labels, name):
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
