"""Finds pictures that cannot be decoded before a run starts."""

import csv
import io
import re

import numpy as np
import tensorflow as tf

from keras_vit.picture_files import load_image

from .decoding import decode
from .examples import Encoded, Split

BATCH = 256


def without_corrupt(split, name, already, at_most, upright=True):
    """Removes pictures that cannot be decoded from a split.

    Every picture is read and decoded once, at an eighth of its size, on all cores: 1,000 pictures
    of 500 x 375 pixels per second and core, so 20 minutes on one core for ImageNet. This way order,
    number of steps and result of a run depend only on the contents of the files.

    Args:
        split: `Split`.
        name: str, name of the split in the report.
        already: int, number of corrupt pictures in other splits.
        at_most: int, maximal number of corrupt pictures in all splits.
        upright: bool, whether to apply the EXIF orientation (`training.data.decoding.decode`).

    Returns:
        (`Split`, list of (name, picture, reason)). Arrays are returned unchanged.

    Raises:
        ValueError: if there are more than `at_most`; the message names one.
    """
    if not isinstance(split.images, Encoded):
        return split, []
    wrong = _undecodable(split.images, at_most - already, upright)
    report = [(name, split.images.name(i), _reason(split.images, i, upright)) for i in wrong]
    if already + len(wrong) > at_most:
        _, image, reason = report[at_most - already]
        raise ValueError(
            "Pictures must be complete files: repair or remove them, or raise data.max_corrupt to "
            f"skip that many. Received: data.max_corrupt={at_most}, and "
            f"{image}: {reason}"
        )
    keep = np.ones(len(split.labels), bool)
    keep[wrong] = False
    return Split(split.images[keep], split.labels[keep]), report


def as_csv(skipped):
    """The text of skipped.csv: a row (split, image, reason) for every picture that is skipped."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("split", "image", "reason"), *skipped])
    return text.getvalue()


def _undecodable(images, at_most, upright):
    """Indices of the pictures that fail, in order; it may stop after `at_most` + 1."""
    read = images.reader()

    def check(index):
        shape = tf.shape(decode(read(index), channels=3, ratio=8, upright=upright))
        return index, tf.reduce_prod(shape)  # TensorFlow would not compute an unused result

    indices = tf.data.Dataset.range(len(images)).map(check, num_parallel_calls=tf.data.AUTOTUNE)
    wrong, expected = [], 0
    for good, _ in indices.ignore_errors().batch(BATCH).as_numpy_iterator():
        wrong += sorted(set(range(expected, good[-1] + 1)) - set(good.tolist()))
        expected = int(good[-1]) + 1
        if len(wrong) > at_most:
            return wrong
    return wrong + list(range(expected, len(images)))


def _reason(images, index, upright):
    try:
        contents = images.reader()(index)
        load_image(contents.numpy(), upright)  # has a shorter message
        decode(contents, channels=3, ratio=8, upright=upright)
    except ValueError as error:
        return str(error)
    except tf.errors.OpError as error:
        # Without the names of the op, which TensorFlow adds at both ends.
        message = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", error.message, flags=re.DOTALL)
        return " ".join(message.split())
    return "it could be read at the second try"
