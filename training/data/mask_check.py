"""Looks through all masks before a run: their sizes, and the classes of their pixels.

Letters: N pictures, H x W size of a picture and its mask, K classes.
"""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from .examples import Encoded, reader
from .masks import COLOR, IGNORED, Masks, Packed, in_words, pixel_values

VALUES = 256


def inspect(images, files, label_map, upright, name):
    """Decodes every mask once, before the run.

    Args:
        images: `Encoded` pictures, or an array (N, H, W, C).
        files: their masks: `Encoded`, `Packed` or an integer array (N, H, W).
        label_map: `LabelMap`.
        upright: bool, whether pictures are turned as their EXIF data say; masks are not.
        name: function from an index to the name of a mask.

    Returns:
        `Masks`, with counts of the labels 0..254.

    Raises:
        ValueError: for a mask that is broken or has another size than its picture, and for pixels
            that are no class and not 255; it names file and value.
    """
    mask_of, picture_of = reader(files), reader(images)

    def look(index):
        labels, values = label_map.decode(mask_of(index))
        picture = picture_of(index)
        size = _size(picture, upright) if picture.dtype == tf.string else tf.shape(picture)[:2]
        bad = (labels < 0) | (labels > IGNORED)
        found = tf.where(tf.reduce_any(bad), tf.reduce_max(tf.where(bad, values, 0)), -1)
        flat = tf.reshape(tf.where(bad, IGNORED, labels), [-1])
        counts = tf.math.bincount(flat, minlength=VALUES, maxlength=VALUES)
        return index, tf.shape(labels), size, found, counts

    looked = tf.data.Dataset.range(len(files)).map(look, num_parallel_calls=tf.data.AUTOTUNE)
    sizes, counts = np.zeros((len(files), 2), "int32"), np.zeros((len(files), VALUES), "int32")
    expected = 0
    for index, size, of_picture, bad, count in looked.ignore_errors().as_numpy_iterator():
        if index != expected:
            break
        if (size != of_picture).any():
            raise ValueError(
                "A mask must have the size of its picture. Received: "
                f"{name(index)} of {size[0]} x {size[1]} pixels for a picture of "
                f"{of_picture[0]} x {of_picture[1]}"
            )
        if bad >= 0:
            raise ValueError(_no_class(label_map, bad, name(index), mask_of, index))
        sizes[index], counts[index] = size, count
        expected += 1
    if expected < len(files):
        raise ValueError(
            "A mask must be a complete picture file. Received: "
            f"{name(expected)}: {_reason(mask_of(expected))}"
        )
    return Masks(files, label_map, sizes, counts[:, :IGNORED])


def check_classes(masks, num_classes, name):
    """Raises for the first mask with a label that is not below K.

    Args:
        masks: `Masks`.
        num_classes: int, K.
        name: function from an index to the name of a mask.

    Returns:
        `Masks` with counts (N, K).
    """
    beyond = np.argwhere(masks.counts[:, num_classes:])
    if len(beyond):
        index, label = beyond[0]
        value = label + num_classes
        offset = " (after reduce_zero_label)" if masks.label_map.reduce_zero_label else ""
        raise ValueError(
            f"The labels of masks must lie in [0, {num_classes}), model.num_classes, or be 255 for "
            "pixels to ignore. Set model.num_classes to the number of classes; "
            "data.reduce_zero_label where 0 is none of them. "
            f"Received: the label {value}{offset} in {name(index)}"
        )
    return Masks(masks.files, masks.label_map, masks.sizes, masks.counts[:, :num_classes])


def _no_class(label_map, value, name, mask_of, index):
    """The message for a value that is no label."""
    if value >= COLOR and label_map.classes is None:
        values = np.unique(label_map.decode(mask_of(index))[1].numpy())
        colors = ", ".join(in_words(x).removeprefix("the colour ") for x in values[:8])
        more = f" and {len(values) - 8} more" if len(values) > 8 else ""
        return (
            "Masks of colours need data.palette, which names the class of each: "
            '{ sky = [128, 128, 128], ... }, and "void" for pixels to ignore. '
            f"Received: {name} with the colours {colors}{more}"
        )
    if label_map.classes is not None:
        return (
            f"Every pixel of a mask must be one of the {len(label_map.classes)} values of its "
            f"palette or data set. Received: {name} with {in_words(value)}"
        )
    return (
        "A pixel of a mask must be a class below 255, or 255 to be ignored. "
        f"Received: {name} with {in_words(value)}"
    )


def _size(contents, upright):
    """H and W of a picture file, from its head; int32 (2,)."""

    def look(contents):
        with Image.open(io.BytesIO(contents)) as image:
            width, height = image.size
            turned = upright and image.getexif().get(0x0112, 1) >= 5
        return np.array([width, height] if turned else [height, width], "int32")

    return tf.ensure_shape(tf.numpy_function(look, [contents], tf.int32, stateful=False), (2,))


def _reason(contents):
    try:
        pixel_values(contents.numpy())
    except Exception as error:  # PIL raises any for a broken file
        return f"{type(error).__name__}: {error}"
    return "its picture cannot be read"


def names_of(files):
    """A function from an index to the name of a mask, for messages."""
    known = isinstance(files, (Encoded, Packed))
    return files.name if known else lambda index: f"the labels at index {index}"
