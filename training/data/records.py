"""Pictures in TFRecord files: the usual shards of ImageNet, and data of tensorflow-datasets."""

import glob
import os
import struct
from pathlib import Path

import numpy as np
import tensorflow as tf

from ..terminal import packages
from .examples import Encoded, Split
from .sources import Source


def tfrecord(pattern, first_label):
    """Shards with the features image/encoded (a picture file) and image/class/label (integer).

    Args:
        pattern: str, such as "/data/imagenet/*"; the split of a file is its name up to the first
            "-".
        first_label: int, the label of the first class in the files.

    Returns:
        `Source`.

    Raises:
        ValueError: if no file matches.
    """
    shards = shards_of(pattern)

    def read(name):
        images, labels = find(shards[name], "image/encoded", "image/class/label")
        return Split(images, labels - first_label)

    return Source(list(shards), read, None)


def shards_of(pattern):
    """dict of split to its files; see `tfrecord`."""
    files = sorted(path for path in glob.glob(pattern) if os.path.isfile(path))
    if not files:
        raise ValueError(f"data.source must match existing files. Received: tfrecord:{pattern}")
    shards = {}
    for path in files:
        shards.setdefault(Path(path).name.partition("-")[0], []).append(path)
    return shards


def tfds(name, data_dir):
    """A data set of tensorflow-datasets with one image and one label per example.

    Args:
        name: str, such as "cifar10" or "oxford_flowers102:2.1.1". The data set is downloaded and
            prepared if necessary.
        data_dir: str, folder of the data sets; "" for the default of the package.

    Returns:
        `Source`.

    Raises:
        ValueError: if the name is unknown, or the data set has another file format or other
            features.
    """
    info = prepared(name, data_dir)
    from tensorflow_datasets import features as kinds

    features = dict(info.features.items())
    image, label = keys = info.supervised_keys or ("image", "label")
    known = all(isinstance(key, str) and key in features for key in keys)
    if (
        not known
        or not isinstance(features[image], kinds.Image)
        or not isinstance(features[label], kinds.ClassLabel)
    ):
        raise ValueError(
            "A data set must have an image and a class as its supervised keys. "
            f"Received: tfds:{name} with {', '.join(features)}"
        )

    def read(split):
        return find(info.splits[split].filepaths, image, label)

    return Source(list(info.splits), read, list(features[label].names))


def prepared(name, data_dir):
    """Downloads and prepares a data set if necessary; returns its `DatasetInfo`; see `tfds`."""
    with packages():
        import tensorflow_datasets  # takes seconds

    try:
        builder = tensorflow_datasets.builder(name, data_dir=data_dir or None)
        builder.download_and_prepare()
    except (
        OSError,  # no network, no disk space
        ValueError,
        tensorflow_datasets.core.DatasetNotFoundError,
    ) as error:
        first = " ".join(str(error).split("\n", 1)[0].split())
        raise ValueError(
            f"data.source must name a data set of tensorflow-datasets: {first}. "
            f"Received: tfds:{name}, data.data_dir={data_dir!r}"
        ) from error
    if builder.info.file_format.value != "tfrecord":
        raise ValueError(
            "A data set must be prepared as TFRecord files. "
            f"Received: tfds:{name} in the format {builder.info.file_format.value}"
        )
    return builder.info


def find(files, image_key, label_key):
    """Reads TFRecord files once and records the position of every picture, for random access.

    It reads all bytes and keeps 32 bytes per picture. It is as fast as the disk, and reads at most
    20,000 pictures of 60 kB per second on one core.

    Args:
        files: list of paths.
        image_key, label_key: str, names of the features.

    Returns:
        `Split` of `Encoded` images.

    Raises:
        ValueError: if a file ends within a record, or a record lacks a feature.
    """
    places, labels = [], []
    for number, path in enumerate(files):
        for start, record in records(path):
            try:
                feature = tf.train.Example.FromString(record).features.feature
                image = feature[image_key].bytes_list.value[0]
                labels.append(feature[label_key].int64_list.value[0])
            except Exception as error:  # the module of protobuf's exceptions varies by version
                raise ValueError(
                    f"A record must be an Example with {image_key} and {label_key}. "
                    f"Received: {path} at byte {start}: {type(error).__name__}"
                ) from error
            places.append((number, start + record.index(image), len(image)))
    files = [os.fsencode(os.path.abspath(path)) for path in files]
    file, offsets, lengths = np.array(places, "int64").reshape(-1, 3).T
    return Split(Encoded(files, file, offsets, lengths), np.array(labels, "int64"))


def records(path):
    """Yields (offset, bytes) of every record in a TFRecord file."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while header := file.read(12):  # length and checksum; another checksum follows the record
            start = file.tell()
            length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else size
            if start + length + 4 > size:
                raise ValueError(
                    f"A TFRecord file must be complete and not compressed. Received: {path} with a "
                    f"record that starts at byte {start - len(header)} and ends after the file"
                )
            yield start, file.read(length)
            file.seek(4, os.SEEK_CUR)
