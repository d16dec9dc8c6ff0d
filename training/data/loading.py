"""Reads the data set of a recipe, checks it and holds out validation images.

Letters: N examples, H x W image size, C channels, K classes.
"""

from pathlib import Path

import numpy as np

from ..recipe.derived import number_of_classes, strata, validation_share
from ..recipe.model_schema import AUTO
from . import records, sources
from .corrupt import without_corrupt
from .examples import Encoded, Split, Splits, restore

PARTS = ("train", "validation", "test")
SPLIT_SEED = 0  # part of what a data set is: every run holds out the same images


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
        num_classes: int, K, labels must lie in [0, K); "auto" for as many as the source has.
        examples: `Path` of a file that `training.data.examples.save` may have written: if it exists
            it says which encoded images are used, and they are not looked through again.

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
    train, held_out, test, class_names = _parts(table)
    if num_classes == AUTO:
        num_classes = number_of_classes(class_names, train.labels, test.labels)
    _check(train, "train", num_classes)
    _check(test, "test", num_classes)
    if held_out is not None:
        _check(held_out, "validation", num_classes)
    if not isinstance(train.images, Encoded) and train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            "Training and test images must have one shape. "
            f"Received: {train.images.shape[1:]} and {test.images.shape[1:]}"
        )
    train, skipped = without_corrupt(train, "train", 0, table.max_corrupt, table.upright)
    test, more_skipped = without_corrupt(
        test, "test", len(skipped), table.max_corrupt, table.upright
    )
    skipped += more_skipped
    if held_out is not None:
        held_out, more_skipped = without_corrupt(
            held_out, "validation", len(skipped), table.max_corrupt, table.upright
        )
        return Splits(train, held_out, test, class_names, skipped + more_skipped)
    automatic = table.validation == AUTO
    share = validation_share(train.labels) if automatic else table.validation
    train, held_out = stratified(train, share)
    if not len(held_out.labels) or not len(train.labels):
        classes = len(np.unique(np.concatenate([train.labels, held_out.labels])))
        raise ValueError(
            "No images are left for training or for validation; set data.validation=auto, or a "
            f"share that is an image or more of each class. Received: data.validation={share} of "
            f"{len(train.labels) + len(held_out.labels)} images of {classes} classes"
        )
    return Splits(train, held_out, test, class_names, skipped)


def stratified(split, share):
    """Splits in two with the same share of every class: (the rest, the share held out).

    Examples whose labels are no numbers are all of one class.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    held_out, classes = np.zeros(len(split.labels), bool), strata(split.labels)
    for label in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == label))
        held_out[members[: round(share * len(members))]] = True
    return (
        Split(split.images[~held_out], split.labels[~held_out]),
        Split(split.images[held_out], split.labels[held_out]),
    )


def with_all_parts(table, train, validation, test):
    """Holds out the splits that a source of masks or boxes has not.

    Args:
        table: `DataTable`.
        train, validation, test: `Split`; validation and test may be None.

    Returns:
        (training, validation, test `Split`).

    Raises:
        ValueError: if one of them has no pictures.
    """
    if test is None:
        train, test = stratified(train, table.test)
    if validation is None:
        share = validation_share(train.labels) if table.validation == AUTO else table.validation
        train, validation = stratified(train, share)
    for name, part in zip(PARTS, (train, validation, test), strict=True):
        if not len(part.labels):
            raise ValueError(
                f"There must be pictures for training, validation and the test; set "
                f"data.validation and data.test to a picture or more. Received: none for {name}"
            )
    return train, validation, test


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


def _parts(table):
    """(training, validation or None, test `Split`, class names or None) of a `DataTable`."""
    kind, _, where = table.source.partition(":")
    if table.source == "digits":
        train, test = stratified(sources.digits(), share=0.2)
        return train, None, test, [str(digit) for digit in range(10)]
    if kind == "npz":
        train, test = sources.npz(Path(where))
        return train, None, test, None
    source = encoded_source(table)
    train, validation, test = chosen_splits(table, source)
    if test is None:
        train, test = stratified(train, table.test)
    return train, validation, test, source.class_names


def chosen_splits(table, source):
    """The training, validation and test `Split` of a source; None for one that it has not.

    Args:
        table: `DataTable`, which names the splits.
        source: `Source`.

    Raises:
        ValueError: for a split that the source does not have, or that is chosen twice.
    """
    train_names, validation_name, test_name = _names(table, source.names)
    train = source.read(train_names[0])
    for name in train_names[1:]:
        more = source.read(name)
        arrays = isinstance(train.labels, np.ndarray)
        labels = (
            np.concatenate([train.labels, more.labels]) if arrays else train.labels + more.labels
        )
        train = Split(train.images + more.images, labels)
    others = (None if name is None else source.read(name) for name in (validation_name, test_name))
    return train, *others


def _names(table, names):
    """Which splits are for training (a list), validation and the test (None: some of these)."""
    if not names:
        for key in ("test", "validation"):
            if name := getattr(table, f"{key}_split"):
                raise ValueError(
                    f"data.{key}_split needs a source with splits; without it data.{key} says "
                    f"which share is held out. Received: data.{key}_split={name!r}"
                )
        return [""], None, None
    train = table.train_split.split("+")
    validation = [table.validation_split] if table.validation_split else []
    taken = {*train, *validation}
    test = [name for name in sources.TEST_NAMES if name in names and name not in taken]
    test = [table.test_split] if table.test_split else test[:1]
    for key, chosen in (
        ("train_split", train),
        ("validation_split", validation),
        ("test_split", test),
    ):
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
    if set(validation) & {*train, *test}:
        raise ValueError(
            "The validation images must be among neither the training nor the test images. "
            f"Received: data.validation_split={table.validation_split!r}, "
            f"data.train_split={table.train_split!r}, data.test_split={table.test_split!r}"
        )
    return train, validation[0] if validation else None, test[0] if test else None


def _check(split, name, num_classes):
    """Raises for the first example that a model of K classes cannot learn from."""
    images, labels = split
    check_images(images, name)
    if not isinstance(images, Encoded):
        _check_labels(images, labels, name)
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        index = outside[0]
        place = images.name(index) if isinstance(images, Encoded) else f"index {index}"
        raise ValueError(
            f"{name}_labels must lie in [0, {num_classes}), model.num_classes. "
            f"Received: {labels[index]} at {place}"
        )


def check_images(images, name):
    """Raises for arrays that are no pictures: another rank, NaN, pixels outside 0..255."""
    if isinstance(images, Encoded):
        return
    if images.ndim != 4 or not np.issubdtype(images.dtype, np.number):
        raise ValueError(
            f"{name}_images must be numbers of shape (N, H, W, C); grey images need a last axis of "
            f"1. Received: shape={images.shape}, dtype={images.dtype}"
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


def _check_labels(images, labels, name):
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{name}_labels must be integers, one for each of the {len(images)} images. "
            f"Received: shape={labels.shape}, dtype={labels.dtype}"
        )
