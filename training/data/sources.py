"""Sources of pictures: scikit-learn's digits, an .npz file, folders."""

import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_vit.picture_files import SUFFIXES, is_picture, said_of_others

from ..terminal import packages
from .examples import Encoded, Split

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
KERAS_ARRAYS = ("x_train", "y_train", "x_test", "y_test")  # as keras.datasets names them
TEST_NAMES = ("test", "validation", "val")


class Source(NamedTuple):
    """A source of encoded pictures.

    Attributes:
        names: list of str, the names of its splits; empty if it has none.
        read: function from one of these names (or "") to a `Split`.
        class_names: list of str, or None.
    """

    names: list
    read: callable
    class_names: list | None


def digits():
    """scikit-learn's handwritten digits: a `Split` of 1,797 images of 8 x 8 pixels."""
    with packages():
        from sklearn.datasets import load_digits  # other sources do not need scikit-learn

    data = load_digits()
    images = np.round(data.images * (255 / 16)).astype("uint8")[..., None]  # (1797, 8, 8, 1)
    return Split(images, data.target)


def npz(path):
    """Reads the arrays of an .npz file; returns (training `Split`, test `Split`).

    Raises:
        ValueError: if the file does not exist, or lacks an array.
    """
    if not path.is_file():
        raise ValueError(f"data.source must name an existing .npz file. Received: npz:{path}")
    with np.load(path, allow_pickle=False) as file:
        names = KERAS_ARRAYS if KERAS_ARRAYS[0] in file else ARRAYS
        missing = [name for name in names if name not in file]
        if missing:
            raise ValueError(
                f"{path} must contain the arrays {', '.join(names)}. "
                f"Missing: {', '.join(missing)}. Received: {', '.join(file)}"
            )
        train_images, train_labels, test_images, test_labels = (file[name] for name in names)
    # Keras's own data sets have labels of shape (N, 1).
    train_labels, test_labels = (
        x[:, 0] if x.ndim == 2 and x.shape[1] == 1 else x for x in (train_labels, test_labels)
    )
    return Split(train_images, train_labels), Split(test_images, test_labels)


def folder(path, train_split):
    """Picture files in PATH/SPLIT/CLASS, or in PATH/CLASS if PATH/train does not exist.

    Other files in the folder of a split, unless hidden, are counted and named in a warning.

    Args:
        path: `Path`.
        train_split: "train", or the folders that define the classes, joined by "+".

    Returns:
        `Source`. Classes are numbered in the order of their names, as in torchvision.

    Raises:
        ValueError: if the folder does not exist or has no classes, a class has no pictures, or a
            class is in another split only.
    """
    if not path.is_dir():
        raise ValueError(f"data.source must name an existing folder. Received: folder:{path}")
    names = folders(path)
    if train_split == "train" and "train" not in names:
        class_names, names = names, []
    else:
        parts = [path / name for name in train_split.split("+") if name in names]
        class_names = sorted({name for part in parts for name in folders(part)})
    if names and not parts:
        return Source(names, None, None)  # `loading._names` raises for it
    if not class_names:
        raise ValueError(
            "data.source must name a folder that has one folder per class, in itself or in its "
            f"folder train. Received: folder:{path} with {', '.join(sorted(os.listdir(path))[:5])}"
        )

    def read(name):
        unknown = [c for c in folders(path / name) if c not in class_names]
        if unknown:
            raise ValueError(
                f"Every class must be among those of the training images. Received: "
                f"{path / name / unknown[0]}"
            )
        files, labels = [], []
        others = _files(path / name, lambda entry: entry.is_dir())
        for label, class_name in enumerate(class_names):
            found = _images(path / name / class_name)
            files += found
            labels += [label] * len(found)
            others += _files(path / name / class_name, _is_image)
        if others:
            warnings.warn(said_of_others(others), stacklevel=2)
        return Split(Encoded.of_files(files), np.array(labels, "int64"))

    return Source(names, read, class_names)


def folders(path):
    """Names of the folders in a folder, sorted, without hidden ones."""
    return sorted(f.name for f in os.scandir(path) if f.is_dir() and not f.name.startswith("."))


def _images(path):
    """Paths of the pictures in a folder, sorted; raises a `ValueError` if there are none."""
    entries = os.scandir(path) if path.is_dir() else []
    names = sorted(entry.name for entry in entries if _is_image(entry))
    if not names and path.is_dir():
        raise ValueError(
            f"A class must have {', '.join(SUFFIXES)} files. Received: {path} with "
            f"{', '.join(sorted(os.listdir(path))[:5]) or 'nothing'}"
        )
    return [Path(path, name) for name in names]


def _is_image(entry):
    """Whether an entry of a folder is a regular file with the name of a picture."""
    return is_picture(entry.name) and not entry.name.startswith(".") and entry.is_file()


def _files(path, read):
    """Paths of all files in a folder and its subfolders that are neither read nor hidden."""
    if not path.is_dir():
        return []
    found = []
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        if entry.name.startswith(".") or read(entry):
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        found += _files(Path(entry.path), lambda entry: False) if is_folder else [entry.path]
    return found
