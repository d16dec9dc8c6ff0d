"""Masks: files that name the class of every pixel of a picture.

Letters: N pictures, H x W size of a picture and its mask, K classes.
"""

import io
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_vit.losses.segmentation import IGNORED

from .examples import Encoded, reader

UNKNOWN = -1  # the label of a value that is no class
COLOR = 2**24  # a colour (r, g, b) is COLOR + 65536 r + 256 g + b; below are the values of an index
GREY, RGB = 0, 2  # colour types of PNG files


@dataclass(frozen=True)
class LabelMap:
    """What the pixels of a mask mean.

    Attributes:
        classes: dict of pixel value (or `color_code`) to label, or None: a value is its label.
        colors: bool, whether a palette of a file is looked up, so that its pixels are colours.
        reduce_zero_label: bool, whether 0 means "none of the classes", and 1 the first class: 0
            becomes 255, every other label but 255 one less.
    """

    classes: dict | None = None
    colors: bool = False
    reduce_zero_label: bool = False

    def decode(self, contents):
        """Decodes a mask; returns (labels, values), both int32 (H, W).

        Labels are 0..K-1, 255 for pixels to ignore, -1 for values that `classes` does not have.

        Args:
            contents: scalar string tensor, the bytes of a file, or integers (H, W).
        """
        values = contents
        if contents.dtype == tf.string:
            values = _decode(contents, self.colors)
        values = tf.cast(values, tf.int32)
        return self.labels(values), values

    def labels(self, values):
        """The labels of pixel values, int32 (H, W)."""
        if self.classes is not None:
            known = np.array(sorted(self.classes), "int32")
            labels = np.array([self.classes[value] for value in known.tolist()], "int32")
            place = tf.minimum(tf.searchsorted(known, tf.reshape(values, [-1])), len(known) - 1)
            place = tf.reshape(place, tf.shape(values))
            values = tf.where(tf.gather(known, place) == values, tf.gather(labels, place), UNKNOWN)
        if self.reduce_zero_label:
            none = (values == 0) | (values == IGNORED)
            values = tf.where(none, IGNORED, tf.where(values > 0, values - 1, values))
        return values


def color_code(color):
    """The number of a colour (r, g, b), each 0..255."""
    red, green, blue = color
    return COLOR + 65536 * red + 256 * green + blue


def in_words(value):
    """A pixel value in a message: a number, or a colour."""
    if value < COLOR:
        return f"the value {value}"
    return f"the colour [{value >> 16 & 255}, {value >> 8 & 255}, {value & 255}]"


class Packed:
    """Encoded pictures in memory: files that were made here, and are nowhere else.

    Args:
        contents: uint8 array, all files one after another.
        lengths: integer array (N,), bytes of each.
        names: array (N,) of str, for messages.
    """

    def __init__(self, contents, lengths, names):
        self.contents = np.asarray(contents, "uint8")
        self.lengths = np.asarray(lengths, "int64")
        self.names = np.asarray(names, "U")

    @classmethod
    def of_files(cls, files, names):
        """Of a list of bytes."""
        return cls(np.frombuffer(b"".join(files), "uint8"), [len(x) for x in files], names)

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, chosen):
        """Selects by a mask (N,), a slice or an array of indices."""
        ends = np.cumsum(self.lengths)
        files = [
            self.contents[ends[i] - self.lengths[i] : ends[i]].tobytes()
            for i in np.arange(len(self))[chosen]
        ]
        return Packed.of_files(files, self.names[chosen])

    def __add__(self, other):
        return Packed(
            *(
                np.concatenate(pair)
                for pair in zip(vars(self).values(), vars(other).values(), strict=True)
            )
        )

    def name(self, index):
        """The name of a picture in messages."""
        return str(self.names[index])

    def reader(self):
        """Returns a function from an index, a scalar tensor, to the bytes of the picture."""
        ends = np.cumsum(self.lengths)
        with tf.device("CPU"):
            files = tf.constant(
                [
                    self.contents[end - length : end].tobytes()
                    for end, length in zip(ends, self.lengths, strict=True)
                ]
            )
        return lambda index: files[index]


class Masks:
    """The masks of N pictures, and what `training.data.mask_check.inspect` has found in them.

    Args:
        files: `Encoded` or `Packed`, or an integer array (N, H, W).
        label_map: `LabelMap`.
        sizes: int32 array (N, 2), H and W.
        counts: int32 array (N, K), pixels of every class.
    """

    def __init__(self, files, label_map, sizes, counts):
        self.files, self.label_map = files, label_map
        self.sizes, self.counts = np.asarray(sizes, "int32"), np.asarray(counts, "int32")

    def __len__(self):
        return len(self.files)

    def __getitem__(self, chosen):
        """Selects by a mask (N,), a slice or an array of indices."""
        return Masks(self.files[chosen], self.label_map, self.sizes[chosen], self.counts[chosen])

    def arrays(self):
        """dict of arrays, from which `of_arrays` makes these masks again."""
        classes = self.label_map.classes
        return {
            **{f"files_{key}": array for key, array in vars(self.files).items()},
            "sizes": self.sizes,
            "counts": self.counts,
            "map": np.array(list((classes or {}).items()), "int64").reshape(-1, 2),
            "map_is": [
                classes is not None,
                self.label_map.colors,
                self.label_map.reduce_zero_label,
            ],
        }

    @classmethod
    def of_arrays(cls, arrays):
        """The masks whose `arrays` these are."""
        files = {k.removeprefix("files_"): x for k, x in arrays.items() if k.startswith("files_")}
        mapped, colors, reduced = arrays["map_is"].tolist()
        label_map = LabelMap(dict(arrays["map"].tolist()) if mapped else None, colors, reduced)
        files = (Packed if "contents" in files else Encoded)(**files)
        return cls(files, label_map, arrays["sizes"], arrays["counts"])

    def classes(self):
        """Sorted integer array, the classes that occur."""
        return np.flatnonzero(self.counts.sum(axis=0, dtype="int64"))

    def max(self):
        """The largest label."""
        return self.classes().max(initial=0)

    def reader(self):
        """Returns a function from an index, a scalar tensor, to labels int32 (H, W)."""
        read = reader(self.files)
        return lambda index: self.label_map.decode(read(index))[0]


class Tiles:
    """Windows of pictures, as the examples of a split.

    Args:
        labels: `Masks` of the examples, a picture once for each of its windows.
        windows: int32 array (N, 4): top, left, and how many of the first rows and columns of the
            window other windows have shown already.
    """

    def __init__(self, labels, windows):
        self.labels, self.windows = labels, np.asarray(windows, "int32")

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, chosen):
        """Selects by a mask (N,), a slice or an array of indices."""
        return Tiles(self.labels[chosen], self.windows[chosen])

    def reader(self):
        """Returns a function from an index to (labels (H, W) of the picture, window (4,))."""
        read = reader(self.labels)
        with tf.device("CPU"):
            windows = tf.constant(self.windows)
        return lambda index: (read(index), windows[index])


@tf.function
def _decode(contents, colors):
    """Pixel values of a mask file, int32 (H, W); plain PNG files by TensorFlow, others by PIL."""
    head = tf.strings.substr(tf.strings.join([contents, tf.constant(b"\0" * 26)]), 0, 26)
    head = tf.io.decode_raw(head, tf.uint8)
    plain = tf.reduce_all(head[1:4] == tf.constant(list(b"PNG"), tf.uint8)) & (head[24] == 8)

    def of_colors():
        red, green, blue = tf.unstack(tf.cast(tf.io.decode_png(contents, 3), tf.int32), axis=-1)
        if not colors and tf.reduce_all((red == green) & (green == blue)):
            return red  # an index that was saved as a colour picture
        return COLOR + 65536 * red + 256 * green + blue

    def of_index():
        grey = tf.cast(tf.io.decode_png(contents, 1)[..., 0], tf.int32)
        return COLOR + 65793 * grey if colors else grey

    if plain and head[25] == GREY:
        values = of_index()
    elif plain and head[25] == RGB:
        values = of_colors()
    else:
        values = tf.numpy_function(
            lambda x: pixel_values(x, colors), [contents], tf.int32, stateful=False
        )
    return tf.ensure_shape(values, (None, None))


def pixel_values(contents, colors=False):
    """Reads the pixel values of a mask with PIL: int32 (H, W), see `COLOR`.

    Args:
        contents: bytes of a file.
        colors: bool, whether to look an index up in the palette of the file.
    """
    with Image.open(io.BytesIO(contents)) as image:
        image.load()
        if colors or image.mode not in ("1", "L", "LA", "P", "PA", "I") and image.mode[:2] != "I;":
            rgb = np.asarray(image.convert("RGB")).astype("int32")
            if colors or (rgb != rgb[..., :1]).any():
                return (COLOR + rgb @ np.array([65536, 256, 1])).astype("int32")
            return rgb[..., 0]
        image = (
            image.convert("P" if image.mode == "PA" else "L") if image.mode[1:] == "A" else image
        )
        values = np.asarray(image).astype("int32")
        bits = contents[24] if contents[1:4] == b"PNG" and contents[25] == GREY else 8
        # PIL stretches grey of 2 and 4 bits to 0..255.
        return values // (255 // (2**bits - 1)) if bits in (2, 4) else values


def png(labels):
    """The bytes of a PNG file of labels, integers (H, W)."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(labels, "uint8")).save(file, "PNG")
    return file.getvalue()
