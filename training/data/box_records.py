"""Pictures with boxes in TFRecord files: shards, and data of tensorflow-datasets."""

import os

import numpy as np
import tensorflow as tf

from .boxes import Boxes, picture_sizes
from .examples import Encoded
from .records import prepared, records, shards_of

# As TensorFlow's Object Detection API writes them; corners are shares of the picture.
SIDES = tuple(f"image/object/bbox/{side}" for side in ("xmin", "ymin", "xmax", "ymax"))
LABEL, TEXT = "image/object/class/label", "image/object/class/text"
CROWD = "image/object/is_crowd"


def tfrecord(pattern, upright=True):
    """Shards with image/encoded, image/object/bbox/{xmin, ymin, xmax, ymax} and class/label.

    Classes are the labels that occur, in their order, with the names of class/text.

    Args:
        pattern: as in `training.data.records.tfrecord`.
        upright: bool, whether pictures are turned as their EXIF data say.

    Returns:
        (names of the splits, function from a name to (`Encoded`, `Boxes`), class names or None).
    """
    shards, names = shards_of(pattern), {}

    def objects(feature):
        sides = [feature[side].float_list.value for side in SIDES]
        labels = feature[LABEL].int64_list.value
        crowd = feature[CROWD].int64_list.value or [0] * len(labels)
        texts = feature[TEXT].bytes_list.value
        names.update(zip(labels, (text.decode() for text in texts), strict=False))
        return np.array(sides, "float64").T, labels, crowd

    found = {name: find(files, "image/encoded", objects) for name, files in shards.items()}
    labels = sorted({label for _, own in found.values() for _, item, _ in own for label in item})
    numbers = {label: place for place, label in enumerate(labels)}

    def read(name):
        pictures, own = found[name]
        return pictures, _boxes(pictures, own, numbers, labels, upright)

    class_names = [names[x] for x in labels] if names and set(labels) <= set(names) else None
    return list(shards), read, class_names


def tfds(name, data_dir, upright=True):
    """A data set of tensorflow-datasets with an image and "objects", such as coco or voc.

    Args:
        name, data_dir: as in `training.data.records.tfds`.
        upright: bool, whether pictures are turned as their EXIF data say.

    Returns:
        As `tfrecord`.

    Raises:
        ValueError: as `training.data.records.tfds`, or if the data set has no boxes.
    """
    info = prepared(name, data_dir)
    features = dict(info.features.items())
    parts = getattr(features.get("objects"), "feature", {})
    if "image" not in features or "bbox" not in parts or "label" not in parts:
        raise ValueError(
            "A data set of detection must have image, and objects with bbox and label. "
            f"Received: tfds:{name} with {', '.join(info.features)}"
        )
    class_names = list(parts["label"].names)
    ignored = next((key for key in ("is_crowd", "is_difficult") if key in parts), None)

    def objects(feature):
        corners = np.array(feature["objects/bbox"].float_list.value, "float64").reshape(-1, 4)
        labels = feature["objects/label"].int64_list.value
        crowd = feature[f"objects/{ignored}"].int64_list.value if ignored else []
        return corners[:, [1, 0, 3, 2]], labels, crowd or [0] * len(labels)

    numbers = {label: label for label in range(len(class_names))}

    def read(split):
        pictures, own = find(info.splits[split].filepaths, "image", objects)
        return pictures, _boxes(pictures, own, numbers, list(numbers), upright)

    return list(info.splits), read, class_names


def find(files, image_key, objects):
    """Reads TFRecord files once; records the position of every picture, and its objects.

    Args:
        files: list of paths.
        image_key: str, name of the feature.
        objects: function from the features of an example to (corners x0, y0, x1, y1 as shares of
            the picture, labels, crowd).

    Returns:
        (`Encoded`, list of what `objects` gives).

    Raises:
        ValueError: if a file ends within a record, or a record lacks a feature.
    """
    places, found = [], []
    for number, path in enumerate(files):
        for start, record in records(path):
            try:
                feature = tf.train.Example.FromString(record).features.feature
                image = feature[image_key].bytes_list.value[0]
                corners, labels, crowd = objects(feature)
                found.append((corners.reshape(len(labels), 4), list(labels), list(crowd)))
            except Exception as error:  # the module of protobuf's exceptions varies by version
                raise ValueError(
                    f"A record must be an Example with {image_key} and boxes with labels. "
                    f"Received: {path} at byte {start}: {type(error).__name__}: {error}"
                ) from error
            places.append((number, start + record.index(image), len(image)))
    paths = [os.fsencode(os.path.abspath(path)) for path in files]
    return Encoded(paths, *np.array(places, "int64").reshape(-1, 3).T), found


def _boxes(pictures, found, numbers, class_ids, upright):
    """`Boxes` of what `find` gives."""
    sizes = picture_sizes(pictures, upright)
    objects = []
    for (corners, labels, crowd), (height, width) in zip(found, sizes, strict=True):
        corners = corners * [width, height, width, height]
        sides = corners[:, 2:] - corners[:, :2]
        boxes = np.concatenate([corners[:, :2], sides], axis=1).tolist()
        columns = (boxes, [numbers[x] for x in labels], crowd, sides.prod(axis=1))
        objects.append(list(zip(*columns, strict=True)))
    return Boxes.of_pictures(objects, sizes, np.arange(len(pictures)), class_ids)
