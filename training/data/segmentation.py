"""Reads the pictures and masks of a recipe, checks them and holds out validation pictures.

Letters: N pictures, H x W size of a picture, C channels, K classes.
"""

import dataclasses
from pathlib import Path

import numpy as np

from ..recipe.model_schema import AUTO
from . import coco, mask_records, sources
from .corrupt import without_corrupt
from .examples import Encoded, Split, Splits, restore
from .layouts import LAYOUTS, palette_map
from .loading import PARTS, check_images, chosen_splits, stratified, with_all_parts
from .mask_check import check_classes, inspect, names_of
from .masks import IGNORED, LabelMap, Masks
from .sources import Source

KINDS = ("digits", "npz", *LAYOUTS, "coco", "tfds", "tfrecord")


def load(table, num_classes, examples=None):
    """Reads a data set of pictures and masks.

    - "folder:PATH", "camvid:PATH", "cityscapes:PATH", "ade20k:PATH", "voc:PATH": files
      (`training.data.layouts`); "coco:PATH": COCO's JSON (`training.data.coco`).
    - "tfds:NAME", "tfrecord:GLOB": `training.data.mask_records`.
    - "npz:PATH": arrays, with labels (N, H, W); "digits": scikit-learn's, where ink is the class of
      its digit and the rest is ignored.

    Args:
        table: `DataTable`.
        num_classes: int, K; "auto" for as many as the source has.
        examples: as in `training.data.load`.

    Returns:
        `Splits` with `Masks` for labels.

    Raises:
        ValueError: for an unknown source, split or layout, pictures without masks, masks of another
            size, labels that are neither below K nor 255, and more broken pictures than
            `table.max_corrupt`. The message names file and value.
    """
    if examples is not None and examples.exists():
        return restore(examples, Masks.of_arrays)
    source, label_map = _source(table)
    parts = list(chosen_splits(table, source))
    names = [name for name, part in zip(PARTS, parts, strict=True) if part is not None]
    checked, skipped = {}, []
    for name in names:
        part = parts[PARTS.index(name)]
        check_images(part.images, name)
        part, found = without_corrupt(part, name, len(skipped), table.max_corrupt, table.upright)
        skipped += found
        masks = inspect(part.images, part.labels, label_map, table.upright, names_of(part.labels))
        checked[name] = Split(part.images, masks)
    if num_classes == AUTO:
        largest = 1 + max(int(part.labels.max()) for part in checked.values())
        num_classes = len(source.class_names) if source.class_names else largest
    checked = {
        name: Split(images, check_classes(masks, num_classes, names_of(masks.files)))
        for name, (images, masks) in checked.items()
    }
    found = with_all_parts(table, *(checked.get(name) for name in PARTS))
    return Splits(*found, source.class_names, skipped)


def read(table, name, num_classes):
    """One split of a source, for an evaluation.

    Args:
        table: `DataTable`.
        name: str; "" for the test pictures, or all of a source without splits.
        num_classes: int, K.

    Returns:
        (`Split` with `Masks`, class names or None).
    """
    source, label_map = _source(table)
    if not name:
        name = next((x for x in sources.TEST_NAMES if x in source.names), "")
    if name not in (source.names or [""]):
        raise ValueError(
            f"--split must be one of {', '.join(source.names)}. Received: --split {name!r}"
        )
    images, files = source.read(name)
    masks = inspect(images, files, label_map, table.upright, names_of(files))
    return Split(images, check_classes(masks, num_classes, names_of(files))), source.class_names


def _source(table):
    """(`Source` of pictures and unread masks, `LabelMap`) of a `DataTable`."""
    kind, _, where = table.source.partition(":")
    if kind not in KINDS or (kind == "digits") != (not where):
        known = ", ".join(f"{name}:{_WHERE.get(name, 'PATH')}" for name in KINDS[1:])
        raise ValueError(
            f"data.source must be digits, {known} for task.kind='segmentation'. "
            f"Received: data.source={table.source!r}"
        )
    path = Path(where)
    if kind in (*LAYOUTS, "coco") and not path.is_dir():
        raise ValueError(f"data.source must name an existing folder. Received: {table.source}")
    if kind in LAYOUTS:
        pairs = LAYOUTS[kind](path)
        names, label_map, class_names = list(pairs.splits), pairs.label_map, pairs.class_names

        def read(name):
            return [Encoded.of_files(files) for files in zip(*pairs.splits[name], strict=True)]

    elif kind in ("digits", "npz"):
        names, label_map, class_names = ["train", "test"], LabelMap(), None
        arrays = dict(zip(names, _arrays(kind, path), strict=True))
        read = arrays.get
    else:
        reader = {
            "coco": lambda: coco.read(path),
            "tfds": lambda: mask_records.tfds(where, table.data_dir),
            "tfrecord": lambda: mask_records.tfrecord(where),
        }[kind]
        names, read, label_map, class_names = reader()
    if table.palette:
        label_map, class_names = palette_map(table.palette)
    if table.reduce_zero_label:
        label_map = dataclasses.replace(label_map, reduce_zero_label=True)
    names = [] if names == [""] else names
    return Source(names, lambda name: Split(*read(name)), class_names), label_map


_WHERE = {"tfds": "NAME", "tfrecord": "GLOB"}


def _arrays(kind, path):
    """(training `Split`, test `Split`) of arrays, with labels (N, H, W)."""
    if kind == "digits":
        found = stratified(sources.digits(), share=0.2)
        return [
            Split(
                np.repeat(images, 3, axis=-1),  # models that segment take RGB
                np.where(images[..., 0] >= 128, labels[:, None, None], IGNORED),
            )
            for images, labels in found
        ]
    found = sources.npz(path)
    for images, labels in found:
        if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:3]:
            raise ValueError(
                "The labels of a segmentation must be integers (N, H, W) of the images' size. "
                f"Received: {labels.dtype} {labels.shape} for images {images.shape} in {path}"
            )
    return found
