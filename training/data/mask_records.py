"""Pictures and masks in TFRecord files: shards, and data of tensorflow-datasets."""

import os

import numpy as np
import tensorflow as tf

from .examples import Encoded
from .masks import LabelMap
from .records import prepared, records, shards_of

IMAGE_KEYS = ("image", "image_left")
MASK_KEYS = ("segmentation_mask", "segmentation_label", "annotation")
# As DeepLab's converters write them.
SHARD_KEYS = ("image/encoded", "image/segmentation/class/encoded")


def tfrecord(pattern):
    """Shards with the features image/encoded and image/segmentation/class/encoded, picture files.

    Args:
        pattern: as in `training.data.records.tfrecord`.

    Returns:
        (names of the splits, function from a name to (pictures, masks), both `Encoded`,
        `LabelMap`, None).
    """
    shards = shards_of(pattern)
    return list(shards), lambda name: find(shards[name], *SHARD_KEYS), LabelMap(), None


def tfds(name, data_dir):
    """A data set of tensorflow-datasets with an image and its mask.

    Args:
        name, data_dir: as in `training.data.records.tfds`.

    Returns:
        As `tfrecord`.

    Raises:
        ValueError: as `training.data.records.tfds`, or if the data set has no mask.
    """
    info = prepared(name, data_dir)
    found = [next((key for key in keys if key in info.features), None) for keys in _KEYS]
    if None in found:
        raise ValueError(
            f"A data set of segmentation must have one of {', '.join(IMAGE_KEYS)} and one of "
            f"{', '.join(MASK_KEYS)}. Received: tfds:{name} with {', '.join(info.features)}"
        )
    names = getattr(info.features[found[1]], "names", None)
    splits = info.splits

    def read(split):
        return find(splits[split].filepaths, *found)

    return list(splits), read, LabelMap(), list(names) if names else None


_KEYS = (IMAGE_KEYS, MASK_KEYS)


def find(files, *keys):
    """Reads TFRecord files once and records the position of every picture of a feature.

    Args:
        files: list of paths.
        *keys: str, names of the features.

    Returns:
        list of `Encoded`, one per key.

    Raises:
        ValueError: if a file ends within a record, or a record lacks a feature.
    """
    places = [[] for _ in keys]
    for number, path in enumerate(files):
        for start, record in records(path):
            try:
                feature = tf.train.Example.FromString(record).features.feature
                contents = [feature[key].bytes_list.value[0] for key in keys]
            except Exception as error:  # the module of protobuf's exceptions varies by version
                raise ValueError(
                    f"A record must be an Example with {' and '.join(keys)}. "
                    f"Received: {path} at byte {start}: {type(error).__name__}"
                ) from error
            for place, part in zip(places, contents, strict=True):
                place.append((number, start + record.index(part), len(part)))
    paths = [os.fsencode(os.path.abspath(path)) for path in files]
    return [Encoded(paths, *np.array(place, "int64").reshape(-1, 3).T) for place in places]
