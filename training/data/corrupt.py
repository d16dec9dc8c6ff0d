"""Finds images that cannot be decoded, before they can stop a run."""

import csv
import io
import re

import numpy as np
import tensorflow as tf

from keras_vit.picture_files import load_image
from training.data.decoding import decode
from training.data.examples import Encoded, Split

BATCH = 256


def without_corrupt(split, name, already, at_most, upright=True):
    """Leaves out images that cannot be decoded.

    Every image is read and decoded once, at an eighth of its size, by all cores: 1,000 pictures of
    500 x 375 pixels a second and core (1,400 before their headers were looked at), so twenty
    minutes of one core for ImageNet. That way order, number of steps and result of a run depend on
    what is in the files and on nothing else.

    Args:
        split: `Split`.
        name: str, what it is called in the report.
        already: int, corrupt images in other splits.
        at_most: int, how many there may be altogether.
        upright: bool, as in `training.data.decoding.decode`.

    Returns:
        (`Split`, list of (name, image, reason)); of arrays nothing is left out.

    Raises:
        ValueError: for one too many; the message names it.
    """
    if not isinstance(split.images, Encoded):
        return split, []
    wrong = _undecodable(split.images, at_most - already, upright)
    report = [(name, split.images.name(i), _reason(split.images, i, upright)) for i in wrong]
    if already + len(wrong) > at_most:
        _, image, reason = report[at_most - already]
        raise ValueError(
            "Images must be whole picture files; repair or remove them, or raise "
            f"data.max_corrupt to leave so many out. Received: data.max_corrupt={at_most}, and "
            f"{image}: {reason}"
        )
    keep = np.ones(len(split.labels), bool)
    keep[wrong] = False
    return Split(split.images[keep], split.labels[keep]), report


def as_csv(skipped):
    """The text of a skipped.csv: a row (split, image, reason) for every image left out."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("split", "image", "reason"), *skipped])
    return text.getvalue()


def _undecodable(images, at_most, upright):
    """Indices of the images that fail, in order; it may stop after `at_most` + 1."""
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
        load_image(contents.numpy(), upright)  # whose words are shorter
        decode(contents, channels=3, ratio=8, upright=upright)
    except ValueError as error:
        return str(error)
    except tf.errors.OpError as error:
        # Without the op, which TensorFlow names in front and behind.
        message = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", error.message, flags=re.DOTALL)
        return " ".join(message.split())
    return "it could be read the second time"
