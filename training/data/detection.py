"""Reads the pictures and boxes of a recipe, checks them and holds out validation pictures.

Letters: N pictures, K classes.
"""

import warnings
from pathlib import Path

import numpy as np

from ..recipe.model_schema import AUTO
from . import box_layouts, box_records, coco_boxes, digit_scenes, sources
from .boxes import Boxes, picture_sizes, without_bad
from .corrupt import without_corrupt
from .examples import Encoded, Split, Splits, restore
from .loading import PARTS, chosen_splits, with_all_parts
from .sources import Source

KINDS = ("digits", "coco", "yolo", "voc", "tfds", "tfrecord")
WHERE = {"tfds": "NAME", "tfrecord": "GLOB"}


def load(table, num_classes, examples=None):
    """Reads a data set of pictures and boxes.

    - "coco:PATH": COCO's JSON (`training.data.coco_boxes`).
    - "yolo:PATH", "voc:PATH": YOLO's text files, Pascal VOC's XML (`training.data.box_layouts`).
    - "tfds:NAME", "tfrecord:GLOB": `training.data.box_records`.
    - "digits": scenes of scikit-learn's digits (`training.data.digit_scenes`); "digits:N" for N
      training scenes.

    Boxes without an area are not learned, boxes that reach beyond the picture are cut off there,
    and boxes that are not finite are left out; a warning counts and names them.

    Args:
        table: `DataTable`.
        num_classes: int, K; "auto" for as many as the source has.
        examples: as in `training.data.load`.

    Returns:
        `Splits` with `Boxes` for labels.

    Raises:
        ValueError: for an unknown source or split, annotations without their pictures, boxes in
            another unit, classes that are not below K, pictures of another size than their
            annotations say, and more broken pictures than `table.max_corrupt`.
    """
    if examples is not None and examples.exists():
        return restore(examples, Boxes.of_arrays)
    source = source_of(table)
    parts = list(chosen_splits(table, source))
    skipped, said = [], []
    for place, name in enumerate(PARTS):
        if parts[place] is not None:
            part, found = without_corrupt(
                parts[place], name, len(skipped), table.max_corrupt, table.upright
            )
            skipped += found
            parts[place], more = checked(part, num_classes, table.upright)
            said += [f"{name}: {x}" for x in more]
    for text in said:
        warnings.warn(text, stacklevel=2)
    return Splits(*with_all_parts(table, *parts), source.class_names, skipped)


def read(table, name, num_classes):
    """One split of a source, for an evaluation.

    Args:
        table: `DataTable`.
        name: str; "" for the test pictures, or all of a source without splits.
        num_classes: int, K.

    Returns:
        (`Split` with `Boxes`, class names or None).
    """
    source = source_of(table)
    if not name:
        name = next((x for x in (*sources.TEST_NAMES, *source.names) if x in source.names), "")
    if name not in (source.names or [""]):
        raise ValueError(
            f"--split must be one of {', '.join(source.names)}. Received: --split {name!r}"
        )
    part, said = checked(source.read(name), num_classes, table.upright)
    for text in said:
        warnings.warn(text, stacklevel=2)
    return part, source.class_names


def checked(split, num_classes, upright):
    """Checks the boxes of a split against the pictures and the number of classes.

    Returns:
        (`Split` without boxes that are not finite, list of str: what was found).
    """
    images, boxes = split
    encoded = isinstance(images, Encoded)

    def name(index):
        return Path(images.name(index)).name if encoded else f"picture {index}"

    if encoded:
        sizes = picture_sizes(images, upright)
        known = (boxes.sizes > 0).all(axis=1)
        other = np.flatnonzero(known & (boxes.sizes != sizes).any(axis=1))
        if len(other):
            i = other[0]
            raise ValueError(
                "A picture must have the size that its annotations say; if the boxes are of the "
                "picture as it is stored, not as its EXIF data turn it, set data.upright=false. "
                f"Received: {images.name(i)} of {sizes[i][1]} x {sizes[i][0]} pixels, and "
                f"{boxes.sizes[i][1]} x {boxes.sizes[i][0]} in the annotations"
            )
        boxes.sizes = sizes
    if num_classes != AUTO and boxes.max() >= num_classes:
        i = int(np.flatnonzero(boxes.labels >= num_classes)[0])
        raise ValueError(
            f"The classes of boxes must lie in [0, {num_classes}), model.num_classes; set it to "
            "the number of classes, or to 'auto'. "
            f"Received: class {boxes.labels[i]} in {name(boxes.pictures[i])}"
        )
    boxes, said = without_bad(boxes, name)
    return Split(images, boxes), said


def source_of(table):
    """The `Source` of pictures and boxes of a `DataTable`."""
    kind, _, where = table.source.partition(":")
    drawn = kind == "digits" and (not where or where.isdecimal() and int(where) > 1)
    if kind not in KINDS or kind != "digits" and not where or kind == "digits" and not drawn:
        known = ", ".join(f"{name}:{WHERE.get(name, 'PATH')}" for name in KINDS[1:])
        raise ValueError(
            f"data.source must be digits, {known} for task.kind='detection'. "
            f"Received: data.source={table.source!r}"
        )
    path = Path(where)
    if kind in ("coco", "yolo", "voc") and not path.exists():
        raise ValueError(f"data.source must name an existing folder. Received: {table.source}")
    if kind == "digits":
        count = int(where) if where else digit_scenes.TRAIN
        parts = dict(zip(("train", "test"), digit_scenes.scenes(count), strict=True))
        return Source(list(parts), parts.get, digit_scenes.NAMES)
    names, pairs, class_names = {
        "coco": lambda: coco_boxes.read(path, table.raw_ids),
        "yolo": lambda: box_layouts.yolo(path, table.upright),
        "voc": lambda: box_layouts.voc(path),
        "tfds": lambda: box_records.tfds(where, table.data_dir, table.upright),
        "tfrecord": lambda: box_records.tfrecord(where, table.upright),
    }[kind]()
    names = [] if names == [""] else names
    return Source(names, lambda name: Split(*pairs(name)), class_names)
