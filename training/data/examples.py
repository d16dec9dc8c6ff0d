"""Examples: images, as arrays or as byte ranges of files, and labels.

Letters: N examples, H x W image size, C channels.
"""

import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from training.files import replace

WHOLE = -1  # the length of an image that is a whole file


class Encoded:
    """Images that are read from their files when they are needed, by index.

    Args:
        files: bytes array (F,), paths.
        file: integer array (N,), which of the files an image is in.
        offsets: integer array (N,), bytes before the image's first.
        lengths: integer array (N,), bytes of the image's file in it; -1 for the whole file.
    """

    def __init__(self, files, file, offsets, lengths):
        self.files = np.asarray(files, "S")
        self.file = np.asarray(file, "int64")
        self.offsets = np.asarray(offsets, "int64")
        self.lengths = np.asarray(lengths, "int64")

    @classmethod
    def of_files(cls, paths):
        """Images that are whole files: an iterable of N paths."""
        files = [os.fsencode(os.path.abspath(path)) for path in paths]
        count = len(files)
        return cls(files, np.arange(count), np.zeros(count), np.full(count, WHOLE))

    def __len__(self):
        return len(self.file)

    def __getitem__(self, chosen):
        """Those of a mask (N,), a slice or an array of indices, as `Encoded`."""
        return Encoded(self.files, self.file[chosen], self.offsets[chosen], self.lengths[chosen])

    def __add__(self, other):
        return Encoded(
            np.concatenate([self.files, other.files]),
            np.concatenate([self.file, other.file + len(self.files)]),
            np.concatenate([self.offsets, other.offsets]),
            np.concatenate([self.lengths, other.lengths]),
        )

    def name(self, index):
        """The name of an image in messages."""
        path = os.fsdecode(self.files[self.file[index]])
        whole = self.lengths[index] == WHOLE
        return path if whole else f"{path} at byte {self.offsets[index]}"

    def reader(self):
        """A function from an integer scalar tensor, the index, to the image's bytes, a scalar."""
        with tf.device("CPU"):
            files, file = tf.constant(self.files), tf.constant(self.file)
            offsets, lengths = tf.constant(self.offsets), tf.constant(self.lengths)
        if (self.lengths == WHOLE).all():
            return lambda index: tf.io.read_file(files[file[index]])

        def read(index):
            # TensorFlow has no op that reads a part of a file. Python takes about 30 microseconds
            # an image, TensorFlow's way there and back as long again.
            place = files[file[index]], offsets[index], lengths[index]
            return tf.ensure_shape(tf.numpy_function(_read_part, place, tf.string), ())

        return read


class Split(NamedTuple):
    """Examples of one purpose.

    Attributes:
        images: array (N, H, W, C), pixels 0..255, or `Encoded`.
        labels: integer array (N,).
    """

    images: np.ndarray | Encoded
    labels: np.ndarray


class Splits(NamedTuple):
    """A data set; the test images are for one look at the end.

    Attributes:
        train, validation, test: `Split`.
        class_names: list of str, the names of the labels, or None if they are not known.
        skipped: list of (split, image, reason), the images that were left out.
    """

    train: Split
    validation: Split
    test: Split
    class_names: list | None = None
    skipped: tuple | list = ()

    @property
    def encoded(self):
        """Whether the images stay in their files."""
        return isinstance(self.train.images, Encoded)


def reader(images):
    """A function from an index, a scalar tensor, to an image (H, W, C) or an image's bytes."""
    if isinstance(images, Encoded):
        return images.reader()
    with tf.device("CPU"):
        images = tf.constant(images)
    return lambda index: images[index]


def save(splits, path):
    """Writes which encoded examples a run uses, so that resuming need not check all files again.

    Args:
        splits: `Splits` of `Encoded` images.
        path: `Path` of the .npz file, which is written atomically.
    """
    arrays = {}
    for name in ("train", "validation", "test"):
        images, labels = getattr(splits, name)
        arrays |= {f"{name}_{key}": array for key, array in vars(images).items()}
        arrays[f"{name}_labels"] = labels
    if splits.class_names is not None:
        arrays["class_names"] = np.array(splits.class_names, "U")
    scratch = path.with_name(f".writing-{path.name}")
    with open(scratch, "wb") as file:
        np.savez_compressed(file, **arrays)
    replace(scratch, path)


def restore(path):
    """Reads a file that `save` has written; returns `Splits`."""
    with np.load(path, allow_pickle=False) as arrays:
        splits = []
        for name in ("train", "validation", "test"):
            places = {key: arrays[f"{name}_{key}"] for key in _PLACES}
            splits.append(Split(Encoded(**places), arrays[f"{name}_labels"]))
        names = arrays["class_names"].tolist() if "class_names" in arrays else None
    return Splits(*splits, names)


_PLACES = ("files", "file", "offsets", "lengths")


def _read_part(path, offset, length):
    with open(path, "rb", buffering=0) as file:
        contents = os.pread(file.fileno(), int(length), int(offset))
    return np.array(contents, object)  # bytes may end in zeros, which NumPy's own strings lose
