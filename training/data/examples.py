"""Examples: pictures, as arrays or as byte ranges of files, and labels.

Letters: N examples, H x W image size, C channels.
"""

import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ..files import replace

WHOLE = -1  # the length of a picture that is a whole file


class Encoded:
    """Encoded pictures that are read from their files by index when they are needed.

    Args:
        files: bytes array (F,), paths.
        file: integer array (N,), index of the file of each picture.
        offsets: integer array (N,), offset in bytes of each picture in its file.
        lengths: integer array (N,), length in bytes of each picture; -1 for the whole file.
    """

    def __init__(self, files, file, offsets, lengths):
        self.files = np.asarray(files, "S")
        self.file = np.asarray(file, "int64")
        self.offsets = np.asarray(offsets, "int64")
        self.lengths = np.asarray(lengths, "int64")

    @classmethod
    def of_files(cls, paths):
        """Pictures that are whole files, from an iterable of N paths."""
        files = [os.fsencode(os.path.abspath(path)) for path in paths]
        count = len(files)
        return cls(files, np.arange(count), np.zeros(count), np.full(count, WHOLE))

    def __len__(self):
        return len(self.file)

    def __getitem__(self, chosen):
        """Selects pictures by a mask (N,), a slice or an array of indices; returns `Encoded`."""
        return Encoded(self.files, self.file[chosen], self.offsets[chosen], self.lengths[chosen])

    def __add__(self, other):
        return Encoded(
            np.concatenate([self.files, other.files]),
            np.concatenate([self.file, other.file + len(self.files)]),
            np.concatenate([self.offsets, other.offsets]),
            np.concatenate([self.lengths, other.lengths]),
        )

    def name(self, index):
        """The name of a picture in messages."""
        path = os.fsdecode(self.files[self.file[index]])
        whole = self.lengths[index] == WHOLE
        return path if whole else f"{path} at byte {self.offsets[index]}"

    def reader(self):
        """Returns a function from an index, a scalar tensor, to the bytes of the picture."""
        with tf.device("CPU"):
            files, file = tf.constant(self.files), tf.constant(self.file)
            offsets, lengths = tf.constant(self.offsets), tf.constant(self.lengths)
        if (self.lengths == WHOLE).all():
            return lambda index: tf.io.read_file(files[file[index]])

        def read(index):
            # TensorFlow has no op that reads a part of a file. Python takes about 30 microseconds
            # per picture, and the call from TensorFlow as long again.
            place = files[file[index]], offsets[index], lengths[index]
            return tf.ensure_shape(tf.numpy_function(_read_part, place, tf.string), ())

        return read


class Split(NamedTuple):
    """The examples of a split: training, validation or test.

    Attributes:
        images: array (N, H, W, C), pixels 0..255, or `Encoded`.
        labels: integer array (N,), or an object like `Encoded` for labels that are no numbers
            (`training.data.masks.Masks`).
    """

    images: np.ndarray | Encoded
    labels: np.ndarray


class Splits(NamedTuple):
    """A data set. The test split is used only once, at the end of a run.

    Attributes:
        train, validation, test: `Split`.
        class_names: list of str, the names of the labels, or None if they are not known.
        skipped: list of (split, picture, reason), the pictures that were skipped.
    """

    train: Split
    validation: Split
    test: Split
    class_names: list | None = None
    skipped: tuple | list = ()

    @property
    def encoded(self):
        """bool, whether the pictures are read from their files, as `Encoded`."""
        return isinstance(self.train.images, Encoded)


def reader(images):
    """Returns a function from an index, a scalar tensor, to what `images` or labels have there.

    Pixels (H, W, C) or a label of arrays, the bytes of `Encoded` pictures, and what the `reader` of
    other objects gives.
    """
    if hasattr(images, "reader"):
        return images.reader()
    with tf.device("CPU"):
        images = tf.constant(images)
    return lambda index: images[index]


def save(splits, path):
    """Saves the encoded examples of a run, so that a resumed run need not check all files again.

    Args:
        splits: `Splits` of `Encoded` pictures.
        path: `Path` of the .npz file, which is written atomically.
    """
    arrays = {}
    for name in ("train", "validation", "test"):
        images, labels = getattr(splits, name)
        arrays |= {f"{name}_{key}": array for key, array in vars(images).items()}
        if isinstance(labels, np.ndarray):
            arrays[f"{name}_labels"] = labels
        else:
            arrays |= {f"{name}_labels_{key}": array for key, array in labels.arrays().items()}
    if splits.class_names is not None:
        arrays["class_names"] = np.array(splits.class_names, "U")
    scratch = path.with_name(f".writing-{path.name}")
    with open(scratch, "wb") as file:
        np.savez_compressed(file, **arrays)
    replace(scratch, path)


def restore(path, read_labels=None):
    """Reads a file that `save` has written; returns `Splits`.

    Args:
        path: `Path`.
        read_labels: function from the `arrays` of labels that are no array to these labels.
    """
    with np.load(path, allow_pickle=False) as arrays:
        splits = []
        for name in ("train", "validation", "test"):
            places = {key: arrays[f"{name}_{key}"] for key in _PLACES}
            prefix = f"{name}_labels"
            if read_labels is None:
                labels = arrays[prefix]
            else:
                own = [key for key in arrays if key.startswith(f"{prefix}_")]
                labels = read_labels({key.removeprefix(f"{prefix}_"): arrays[key] for key in own})
            splits.append(Split(Encoded(**places), labels))
        names = arrays["class_names"].tolist() if "class_names" in arrays else None
    return Splits(*splits, names)


_PLACES = ("files", "file", "offsets", "lengths")


def _read_part(path, offset, length):
    path = path.item() if isinstance(path, np.ndarray) else path  # of a call outside of tf.data
    with open(path, "rb", buffering=0) as file:
        contents = os.pread(file.fileno(), int(length), int(offset))
    return np.array(contents, object)  # NumPy's bytes dtype would drop trailing zeros
