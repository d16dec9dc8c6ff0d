"""Boxes in YOLO's text files and in Pascal VOC's XML."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from keras_vit.picture_files import is_picture

from .boxes import Boxes, check_in_pixels, picture_sizes
from .examples import Encoded

PIXELS = 1.5  # a share of a picture above this is none


def yolo(path, upright=True):
    """YOLO's layout: a text file for each picture, a line "class x y width height" for each object.

    x and y are the centre, and all four are shares of the picture. PATH/images/SPLIT with
    PATH/labels/SPLIT, or PATH/SPLIT/images with PATH/SPLIT/labels; PATH/images with PATH/labels has
    no splits. A picture without a text file has no objects. Class names are those of the first
    PATH/*.yaml with "names", or the lines of PATH/classes.txt.

    Args:
        path: `Path`.
        upright: bool, whether pictures are turned as their EXIF data say.

    Returns:
        (names of the splits, function from a name to (`Encoded`, `Boxes`), class names or None).

    Raises:
        ValueError: if there are no pictures; later for lines of another form, a class without a
            name and numbers that are pixels.
    """
    splits = _yolo_folders(path)
    names = _yolo_names(path)

    def pairs(name):
        images, labels = splits[name]
        files = sorted(
            x
            for x in images.rglob("*")
            if is_picture(x) and not x.name.startswith(".") and x.is_file()
        )
        pictures = Encoded.of_files(files)
        sizes = picture_sizes(pictures, upright)
        found = [
            _yolo_objects((labels / x.relative_to(images)).with_suffix(".txt"), size, names)
            for x, size in zip(files, sizes, strict=True)
        ]
        classes = len(names) if names else 1 + max((x[1] for own in found for x in own), default=0)
        boxes = Boxes.of_pictures(found, sizes, np.arange(len(files)), np.arange(classes))
        return pictures, boxes

    return list(splits), pairs, names


def _yolo_folders(path):
    """dict of split to (folder of the pictures, folder of the text files)."""
    images, labels = path / "images", path / "labels"
    if labels.is_dir():
        inside = sorted(x.name for x in labels.iterdir() if x.is_dir())
        inside = [name for name in inside if (images / name).is_dir()]
        if inside:
            return {name: (images / name, labels / name) for name in inside}
        if images.is_dir():
            return {"": (images, labels)}
    folders = sorted(x for x in path.iterdir() if (x / "labels").is_dir())
    found = {x.name: (x / "images", x / "labels") for x in folders if (x / "images").is_dir()}
    if not found:
        raise ValueError(
            "A data set of YOLO must have images/SPLIT and labels/SPLIT, or SPLIT/images and "
            f"SPLIT/labels. Received: yolo:{path}"
        )
    return found


def _yolo_objects(file, size, names):
    """list of (box, class, crowd, area) of a text file."""
    if not file.is_file():
        return []
    height, width = map(int, size)
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            label, x, y, w, h = line.split()
            label, share = int(label), [float(v) for v in (x, y, w, h)]
        except ValueError:
            raise ValueError(
                "A line must be a class and x, y, width, height of a box. "
                f"Received: {line.strip()[:60]!r} in {file}, line {number}"
            ) from None
        if max(map(abs, share)) > PIXELS:
            raise ValueError(
                "Boxes of YOLO are shares of the picture, 0..1; these seem to be pixels. Divide "
                "them by its width and height. "
                f"Received: {line.strip()!r} in {file}, line {number}"
            )
        if label < 0 or names and label >= len(names):
            raise ValueError(
                f"A class must be one of the {len(names or [])} names. "
                f"Received: class {label} in {file}, line {number}"
            )
        x, y, w, h = (v * side for v, side in zip(share, (width, height) * 2, strict=True))
        found.append(([x - w / 2, y - h / 2, w, h], label, 0, w * h))
    return found


def _yolo_names(path):
    """The class names of a YOLO data set, a list, or None."""
    for file in sorted([*path.glob("*.yaml"), *path.glob("*.yml")]):
        if names := yaml_names(file.read_text(encoding="utf-8")):
            return names
    plain = path / "classes.txt"
    if plain.is_file():
        return [x.strip() for x in plain.read_text(encoding="utf-8").splitlines() if x.strip()]
    return None


def yaml_names(text):
    """The value of "names" in a YAML file, a list in any of the three forms in use; else None.

    Example:
        >>> yaml_names("names: [cat, 'dog']"), yaml_names("names:\\n  0: cat\\n  1: dog")
        (['cat', 'dog'], ['cat', 'dog'])
    """
    lines = [re.sub(r"\s+#.*", "", line) for line in text.splitlines()]
    start = next((i for i, line in enumerate(lines) if line.startswith("names:")), None)
    if start is None:
        return None
    rest = lines[start].removeprefix("names:").strip()
    if rest:
        while "]" not in rest and start + 1 < len(lines):
            start += 1
            rest += lines[start]
        items = rest.strip("[] ").split(",")
    else:
        items = []
        for line in lines[start + 1 :]:
            if not line.strip():
                continue
            if not re.match(r"\s+|- ", line):
                break
            items.append(re.sub(r"^\s*(- |\d+\s*:)", "", line))
    return [x.strip().strip("'\"") for x in items if x.strip()] or None


def voc(path):
    """Pascal VOC's layout: JPEGImages, Annotations/*.xml and ImageSets/Main/SPLIT.txt.

    The classes are the names that occur, in alphabetical order. Objects that are marked as
    difficult are no targets, and evaluations do not ask for them. Without ImageSets there are no
    splits.

    Args, Returns, Raises: as `yolo`.
    """
    folder = path / "Annotations"
    splits = {}
    for file in sorted((path / "ImageSets" / "Main").glob("*.txt")):
        stems = [line.split()[0] for line in file.read_text().splitlines() if line.strip()]
        if "_" not in file.stem:  # "cat_train" lists the pictures of a class
            splits[file.stem] = stems
    splits = splits or {"": sorted(file.stem for file in folder.glob("*.xml"))}
    if not any(splits.values()):
        raise ValueError(
            "A data set of Pascal VOC must have JPEGImages and Annotations/*.xml. "
            f"Received: voc:{path}"
        )
    stems = sorted({stem for own in splits.values() for stem in own})
    parsed = {stem: _voc_picture(folder / f"{stem}.xml") for stem in stems}
    names = sorted({item[1] for _, own in parsed.values() for item in own})
    labels = {name: label for label, name in enumerate(names)}
    given = [item[0] for _, own in parsed.values() for item in own]
    check_in_pixels(np.array(given).reshape(-1, 4), folder)

    def pairs(name):
        own = [parsed[stem] for stem in splits[name]]
        objects = [
            [(box, labels[label], difficult, box[2] * box[3]) for box, label, difficult in found]
            for _, found in own
        ]
        pictures = [_picture(path / "JPEGImages", stem) for stem in splits[name]]
        sizes = [size for size, _ in own]
        ids = np.arange(len(own))
        boxes = Boxes.of_pictures(objects, sizes, ids, np.arange(len(names)))
        return Encoded.of_files(pictures), boxes

    return [name for name in splits if splits[name]], pairs, names


def _voc_picture(file):
    """((height, width), list of (box, class name, difficult)) of an XML file."""
    try:
        root = ElementTree.parse(file).getroot()
        size = root.find("size")
        size = tuple(int(float(size.findtext(key))) for key in ("height", "width"))
        found = []
        for item in root.iter("object"):
            corners = item.find("bndbox")
            x0, y0, x1, y1 = (float(corners.findtext(k)) for k in ("xmin", "ymin", "xmax", "ymax"))
            # The first pixel is 1, and the last one belongs to the box.
            box = [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1]
            if max(x1, y1) <= 1:  # shares, for `check_in_pixels`
                box = [x0, y0, x1 - x0, y1 - y0]
            difficult = int(item.findtext("difficult") or 0)
            found.append((box, item.findtext("name").strip(), difficult))
    except (OSError, ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            "Annotations of Pascal VOC must be XML with size, and name and bndbox of every object: "
            f"{type(error).__name__}: {error}. Received: {file}"
        ) from error
    return size, found


def _picture(folder, stem):
    """The picture file of a name without suffix."""
    path = Path(folder, f"{stem}.jpg")
    if path.is_file():
        return path
    found = [x for x in sorted(folder.glob(f"{stem}.*")) if is_picture(x)]
    if not found:
        raise ValueError(
            f"Every picture of the annotations must be there. Received: none like {path}"
        )
    return found[0]
