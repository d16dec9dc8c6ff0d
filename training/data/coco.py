"""COCO's annotations as masks: polygons and run lengths, drawn when a run starts.

Letters: H x W size of a picture.
"""

import json

import numpy as np

from .examples import Encoded
from .masks import LabelMap, Packed, png

BACKGROUND = "background"


def read(path):
    """The splits of a folder as COCO's is: annotations/instances_SPLIT.json and SPLIT/.

    Class 0 is the background, every pixel without an object; the categories follow by their ids.
    Where objects overlap, the smaller one is in front.

    Args:
        path: `Path`.

    Returns:
        (names of the splits, function from a name to (`Encoded` pictures, `Packed` masks),
        `LabelMap`, class names).

    Raises:
        ValueError: if there are no annotations.
    """
    files = sorted((path / "annotations").glob("*.json"))
    # Other files may have the captions or key points of the same pictures.
    files = [x for x in files if x.stem.startswith("instances_")] or files
    splits = {file.stem.rpartition("_")[2]: file for file in files}
    splits = {name: file for name, file in splits.items() if (path / name).is_dir()}
    if not splits:
        raise ValueError(
            "A data set of COCO must have annotations/instances_SPLIT.json and the pictures in "
            f"SPLIT. Received: coco:{path} with {', '.join(x.name for x in files) or 'no JSON'}"
        )
    categories = {}
    for file in splits.values():
        categories |= {x["id"]: x["name"] for x in _json(file)["categories"]}
    labels = {number: label for label, number in enumerate(sorted(categories), start=1)}

    def pairs(name):
        found = _json(splits[name])
        objects = {}
        for item in found["annotations"]:
            objects.setdefault(item["image_id"], []).append(item)
        pictures, masks = [], []
        for image in found["images"]:
            size = image["height"], image["width"]
            mask = draw(objects.get(image["id"], []), size, labels, splits[name])
            pictures.append(path / name / image["file_name"])
            masks.append(png(mask))
            if not pictures[-1].is_file():
                raise ValueError(
                    "Every picture of the annotations must be there. "
                    f"Received: {splits[name]} with {pictures[-1]}"
                )
        names = [f"{splits[name]}, {picture.name}" for picture in pictures]
        return Encoded.of_files(pictures), Packed.of_files(masks, names)

    class_names = [BACKGROUND, *(categories[number] for number in sorted(categories))]
    return list(splits), pairs, LabelMap(), class_names


def draw(objects, size, labels, file=""):
    """The mask of a picture, uint8 (H, W).

    Args:
        objects: list of dicts of COCO: "segmentation", "category_id", "area".
        size: (H, W).
        labels: dict of category id to label.
        file: path of the annotations, for the message.
    """
    mask = np.zeros(size, "uint8")
    for item in sorted(objects, key=lambda item: -item.get("area", 0)):
        if item["category_id"] not in labels:
            raise ValueError(
                "Every object must be of a category of its file. "
                f"Received: category {item['category_id']} in {file}"
            )
        mask[shape_of(item["segmentation"], size)] = labels[item["category_id"]]
    return mask


def shape_of(segmentation, size):
    """The pixels of an object, bool (H, W): of polygons, or of run lengths, packed or not."""
    if isinstance(segmentation, list):
        return np.logical_or.reduce(
            [polygon(points, size) for points in segmentation] or [np.zeros(size, bool)]
        )
    counts = segmentation["counts"]
    counts = unpack(counts) if isinstance(counts, str) else counts
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    if len(flat) != size[0] * size[1]:
        raise ValueError(
            f"Run lengths must cover the picture of {size[0]} x {size[1]} pixels. "
            f"Received: {len(flat)} pixels"
        )
    return flat.reshape(size[::-1]).T  # column by column


def polygon(points, size):
    """The pixels whose centres are inside a polygon, bool (H, W).

    Args:
        points: list x0, y0, x1, y1, ...; pixel (i, j) covers [j, j + 1] x [i, i + 1].
        size: (H, W).
    """
    height, width = size
    x, y = np.array(points, "float64").reshape(-1, 2).T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    rows = np.arange(height)[:, None] + 0.5
    crosses = (y <= rows) != (next_y <= rows)  # (H, edges)
    row, edge = np.nonzero(crosses)
    slope = (next_x[edge] - x[edge]) / (next_y[edge] - y[edge])
    at = x[edge] + (row + 0.5 - y[edge]) * slope
    # From the first pixel whose centre is behind the edge on, inside becomes outside.
    first = np.clip(np.ceil(at - 0.5), 0, width).astype(int)
    turns = np.zeros((height, width + 1), int)
    np.add.at(turns, (row, first), 1)
    return np.cumsum(turns, axis=1)[:, :width] % 2 == 1


def unpack(text):
    """The run lengths of COCO's packed form: base 32, from the third on as differences."""
    counts, place = [], 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            digit = ord(text[place]) - 48
            value |= (digit & 31) << shift
            place, shift, more = place + 1, shift + 5, bool(digit & 32)
        if digit & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts


def _json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Annotations must be JSON: {error}. Received: {path}") from error
