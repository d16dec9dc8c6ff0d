"""Boxes: the objects of pictures, and what of them a detector learns.

Letters: N pictures, n objects of a picture, T objects of all pictures, K classes.
"""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_vit.picture_files import orientation
from keras_vit.terminal import printable

from .examples import WHOLE

NAMED = 3  # objects that a message names


class Boxes:
    """The objects of N pictures.

    Args:
        starts: int64 array (N + 1,); the objects of picture i are starts[i] to starts[i + 1].
        boxes: float64 array (T, 4): x, y, width, height in pixels, as they are in the source.
        labels: int32 array (T,), classes 0..K-1.
        crowd: bool array (T,), objects that are no targets, and for which an evaluation does not
            ask: COCO's crowds, the difficult ones of Pascal VOC.
        areas: float64 array (T,), by which an evaluation tells small objects from large ones.
        sizes: int32 array (N, 2), height and width of the pictures.
        ids: int64 array (N,), the pictures' ids in the source.
        class_ids: int64 array (K,), the classes' ids in the source.
    """

    def __init__(self, starts, boxes, labels, crowd, areas, sizes, ids, class_ids):
        self.starts = np.asarray(starts, "int64")
        self.boxes = np.asarray(boxes, "float64").reshape(-1, 4)
        self.labels = np.asarray(labels, "int32")
        self.crowd = np.asarray(crowd, "bool")
        self.areas = np.asarray(areas, "float64")
        self.sizes = np.asarray(sizes, "int32").reshape(-1, 2)
        self.ids = np.asarray(ids, "int64")
        self.class_ids = np.asarray(class_ids, "int64")

    @classmethod
    def of_pictures(cls, objects, sizes, ids, class_ids):
        """Of a list with, for every picture, a list of (box, class, crowd, area)."""
        flat = [item for own in objects for item in own]
        boxes, labels, crowd, areas = zip(*flat, strict=True) if flat else ((), (), (), ())
        starts = np.cumsum([0, *map(len, objects)])
        return cls(starts, boxes, labels, crowd, areas, sizes, ids, class_ids)

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, chosen):
        """Selects pictures by a mask (N,), a slice or an array of indices."""
        index = np.arange(len(self))[chosen]
        rows = [np.arange(self.starts[i], self.starts[i + 1]) for i in index]
        starts = np.cumsum([0, *map(len, rows)])
        rows = np.concatenate([np.zeros(0, "int64"), *rows]).astype("int64")
        objects = (x[rows] for x in (self.boxes, self.labels, self.crowd, self.areas))
        return Boxes(starts, *objects, self.sizes[index], self.ids[index], self.class_ids)

    def __add__(self, other):
        starts = np.concatenate([self.starts, self.starts[-1] + other.starts[1:]])
        pairs = (
            np.concatenate([getattr(self, name), getattr(other, name)])
            for name in ("boxes", "labels", "crowd", "areas", "sizes", "ids")
        )
        return Boxes(starts, *pairs, self.class_ids)

    def arrays(self):
        """dict of arrays, from which `of_arrays` makes these boxes again."""
        return dict(vars(self))

    def contents(self):
        """dict of the arrays that a fingerprint compares."""
        return {"boxes": self.boxes, "labels": self.labels}

    @classmethod
    def of_arrays(cls, arrays):
        """The boxes whose `arrays` these are."""
        return cls(**arrays)

    @property
    def pictures(self):
        """int64 array (T,), the picture of every object."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    @property
    def corners(self):
        """float64 array (T, 4): x0, y0, x1, y1, cut off at the borders of the picture."""
        low, high = self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]
        most = self.sizes[self.pictures][:, ::-1]
        return np.concatenate([np.clip(low, 0, most), np.clip(high, 0, most)], axis=1)

    @property
    def learned(self):
        """bool array (T,), the objects that become targets: no crowds, none without an area."""
        x0, y0, x1, y1 = self.corners.T
        return ~self.crowd & (x1 > x0) & (y1 > y0)

    @property
    def counts(self):
        """int64 array (N,), the targets of every picture."""
        return np.bincount(self.pictures[self.learned], minlength=len(self))

    def classes(self):
        """Sorted integer array, the classes of targets."""
        return np.unique(self.labels[self.learned])

    def max(self):
        """The largest class."""
        return int(self.labels.max(initial=0))

    def reader(self):
        """Returns a function from an index, a scalar tensor, to the targets of a picture.

        These are corners, float32 (n, 4) in pixels, classes int32 (n,) and its size, int32 (2,).
        """
        learned = self.learned
        starts = np.concatenate([[0], np.cumsum(self.counts)])
        with tf.device("CPU"):
            corners = tf.constant(self.corners[learned], tf.float32)
            classes, sizes = tf.constant(self.labels[learned]), tf.constant(self.sizes)
            starts = tf.constant(starts)

        def read(index):
            start, end = starts[index], starts[index + 1]
            return corners[start:end], classes[start:end], sizes[index]

        return read

    def truth(self, class_names=None):
        """The objects as annotations of COCO, with ids 1 to N for the pictures in their order."""
        names = class_names or [str(number) for number in self.class_ids]
        images = [
            {"id": i + 1, "height": int(height), "width": int(width)}
            for i, (height, width) in enumerate(self.sizes)
        ]
        columns = (self.pictures, self.boxes, self.labels, self.crowd, self.areas)
        objects = [
            {
                "image_id": int(picture) + 1,
                "category_id": int(self.class_ids[label]),
                "bbox": box.tolist(),
                "iscrowd": int(crowd),
                "area": float(area),
            }
            for picture, box, label, crowd, area in zip(*columns, strict=True)
        ]
        kinds = [
            {"id": int(number), "name": name}
            for number, name in zip(self.class_ids, names, strict=False)
        ]
        return {"images": images, "annotations": objects, "categories": kinds}


def without_bad(boxes, name):
    """Leaves out boxes that are not finite, and finds those that nothing is learned from.

    Args:
        boxes: `Boxes`.
        name: function from the index of a picture to its name.

    Returns:
        (`Boxes`, list of str: what was left out or cut off, with numbers and names).
    """
    finite = np.isfinite(boxes.boxes).all(axis=1)
    said = []
    if not finite.all():
        said.append(_said(boxes, ~finite, "that are not finite are left out", name))
        counts = np.bincount(boxes.pictures[finite], minlength=len(boxes))
        rows = (x[finite] for x in (boxes.boxes, boxes.labels, boxes.crowd, boxes.areas))
        starts = np.concatenate([[0], np.cumsum(counts)])
        boxes = Boxes(starts, *rows, boxes.sizes, boxes.ids, boxes.class_ids)
    flat = ~boxes.learned & ~boxes.crowd
    if flat.any():
        said.append(_said(boxes, flat, "without an area in the picture are not learned", name))
    given = boxes.boxes.copy()
    given[:, 2:] += given[:, :2]
    # A pixel of tolerance: annotations are rounded.
    beyond = (np.abs(given - boxes.corners) > 1).any(axis=1) & ~flat & ~boxes.crowd
    if beyond.any():
        said.append(_said(boxes, beyond, "that reach beyond the picture are cut off", name))
    if beyond.sum() > max(len(beyond) / 2, 3):
        said.append(
            "More than half of the boxes reach beyond their picture: they should be x, y, width, "
            "height, and may be the corners x0, y0, x1, y1"
        )
    return boxes, said


def _said(boxes, chosen, what, name):
    """How many objects, and the first of them."""
    found = np.flatnonzero(chosen)
    shown = [
        f"{printable(name(boxes.pictures[i]))} {_numbers(boxes.boxes[i])}" for i in found[:NAMED]
    ]
    more = ", ..." if len(found) > NAMED else ""
    return f"{len(found):,} boxes {what}: {', '.join(shown)}{more}"


def _numbers(box):
    return f"[{', '.join(f'{x:g}' for x in box)}]"


def check_in_pixels(boxes, file):
    """Raises for boxes that are shares of the picture, where pixels are expected.

    Args:
        boxes: float array (T, 4): x, y, width, height.
        file: path of the annotations, for the message.
    """
    boxes = boxes[np.isfinite(boxes).all(axis=1)]
    if len(boxes) and (boxes[:, :2] + boxes[:, 2:]).max() <= 1:
        raise ValueError(
            "Boxes must be in pixels; those of this file seem to be shares of the picture, 0..1. "
            f"Multiply them by its width and height. Received: {_numbers(boxes[0])} in {file}, and "
            "no number above 1"
        )


def picture_sizes(images, upright):
    """Height and width of every picture file, from its head: int32 (N, 2); (0, 0) if broken.

    Args:
        images: `Encoded`.
        upright: bool, whether pictures are turned as their EXIF data say.
    """
    whole = (images.lengths == WHOLE).all()
    read = images.reader()

    def size(index):
        file = images.name(index) if whole else io.BytesIO(read(index).numpy())
        try:
            with Image.open(file) as image:
                turned = upright and orientation(image) >= 5
                return image.size if turned else image.size[::-1]
        except Exception:  # any, for a broken file: `without_corrupt` has a message for it
            return 0, 0

    return np.array([size(i) for i in range(len(images))], "int32").reshape(-1, 2)
