"""How data sets of segmentation lie in their folders: pairs of a picture and a mask.

A layout is a function from a folder to `Pairs`.
"""

import os
from pathlib import Path
from typing import NamedTuple

from keras_vit.picture_files import is_picture

from .masks import IGNORED, LabelMap, color_code

IMAGES = ("images", "image", "img", "imgs", "JPEGImages")
MASKS = ("masks", "mask", "annotations", "labels", "label", "gt", "SegmentationClass")
SEGNET = "annot"  # train, trainannot, val, valannot, ...

CAMVID = [
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
]
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES = [
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
]
VOC = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]


class Pairs(NamedTuple):
    """The pictures and masks of a data set.

    Attributes:
        splits: dict of name to a list of (picture, mask), paths; the name is "" where there is one.
        label_map: `LabelMap`.
        class_names: list of str, or None.
    """

    splits: dict
    label_map: LabelMap
    class_names: list | None


def folder(path):
    """Pictures and index masks of the same stem, in one of four layouts.

    PATH/images and PATH/masks; these with a folder for each split inside; PATH/SPLIT/images and
    PATH/SPLIT/masks; PATH/SPLIT and PATH/SPLITannot. Other names of the folders: `IMAGES`, `MASKS`.
    """
    found = _folders(path)
    images, masks = _first(found, IMAGES), _first(found, MASKS)
    if images and masks:
        splits = [name for name in _folders(path / images) if name in _folders(path / masks)]
        at = {name: (path / images / name, path / masks / name) for name in splits or [""]}
    elif segnet := [name for name in found if f"{name}{SEGNET}" in found]:
        at = {name: (path / name, path / f"{name}{SEGNET}") for name in segnet}
    else:
        at = {}
        for name in found:
            inside = _folders(path / name)
            pair = _first(inside, IMAGES), _first(inside, MASKS)
            if all(pair):
                at[name] = tuple(path / name / part for part in pair)
    if not at:
        raise ValueError(
            f"data.source must name a folder with pictures and masks: {path}/images and "
            f"{path}/masks, with a folder for each split in them or above them, or {path}/train "
            f"and {path}/train{SEGNET}. Received: folder:{path} with "
            f"{', '.join(sorted(os.listdir(path))[:6]) or 'nothing'}"
        )
    return Pairs({name: by_stem(*pair) for name, pair in at.items()}, LabelMap(), None)


def camvid(path):
    """CamVid as SegNet's authors divided it: 11 classes; 11 is void."""
    classes = {label: label for label in range(11)} | {11: IGNORED, IGNORED: IGNORED}
    return folder(path)._replace(label_map=LabelMap(classes), class_names=CAMVID)


def cityscapes(path):
    """Cityscapes: leftImg8bit/SPLIT/CITY and gtFine/SPLIT/CITY; 34 ids to 19 training ids.

    The labels of its test pictures are not published, so the split "test" is left out.
    """
    classes = dict.fromkeys([*range(34), IGNORED], IGNORED)
    classes |= {value: label for label, value in enumerate(CITYSCAPES_IDS)}
    splits = {}
    for name in ("train", "val"):
        images = sorted((path / "leftImg8bit" / name).glob("*/*_leftImg8bit.png"))
        masks = sorted((path / "gtFine" / name).glob("*/*_gtFine_labelIds.png"))
        if images or masks:
            ends = "_leftImg8bit", "_gtFine_labelIds"
            splits[name] = _matched(
                *(_stems(x, e) for x, e in zip((images, masks), ends, strict=True)), path
            )
    if not splits:
        raise _nothing(path, "leftImg8bit/train/CITY/*_leftImg8bit.png and gtFine/train/CITY")
    return Pairs(splits, LabelMap(classes), CITYSCAPES)


def ade20k(path):
    """ADE20K of the scene parsing challenge: images/training and annotations/training.

    0 is "other" there, and 1 to 150 are the classes: data.reduce_zero_label. objectInfo150.txt, if
    it is in the folder, names them.
    """
    names = {"train": "training", "val": "validation"}
    splits = {
        ours: by_stem(path / "images" / theirs, path / "annotations" / theirs)
        for ours, theirs in names.items()
        if (path / "images" / theirs).is_dir()
    }
    if not splits:
        raise _nothing(path, "images/training and annotations/training")
    table = path / "objectInfo150.txt"
    rows = table.read_text(encoding="utf-8").splitlines()[1:] if table.is_file() else []
    class_names = [row.split("\t")[-1].split(",")[0].strip() for row in rows]
    return Pairs(splits, LabelMap(), class_names or None)


def voc(path):
    """Pascal VOC: JPEGImages, SegmentationClass and ImageSets/Segmentation/SPLIT.txt."""
    splits = {}
    for listed in sorted((path / "ImageSets" / "Segmentation").glob("*.txt")):
        stems = listed.read_text(encoding="utf-8").split()
        images = {x: path / "JPEGImages" / f"{x}.jpg" for x in stems}
        masks = {x: path / "SegmentationClass" / f"{x}.png" for x in stems}
        images, masks = ({k: p for k, p in x.items() if p.is_file()} for x in (images, masks))
        if masks:  # the test pictures have none
            splits[listed.stem] = _matched(images, masks, path)
    if not splits:
        raise _nothing(path, "JPEGImages, SegmentationClass and ImageSets/Segmentation/train.txt")
    return Pairs(splits, LabelMap(), VOC)


LAYOUTS = {
    "folder": folder,
    "camvid": camvid,
    "cityscapes": cityscapes,
    "ade20k": ade20k,
    "voc": voc,
}


def by_stem(images, masks):
    """Pairs of the pictures and the masks of the same stem, in subfolders too, by stem.

    Raises:
        ValueError: for a picture without a mask, a mask without a picture, or two of one stem.
    """
    found = []
    for path in (images, masks):
        files = [
            file
            for file in sorted(path.rglob("*"))
            if is_picture(file) and not file.name.startswith(".") and file.is_file()
        ]
        found.append(_stems(files, base=path))
    return _matched(*found, masks)


def _stems(files, end="", base=None):
    """dict of the stem of a file, without an ending, below `base`, to its path."""
    stems = {}
    for file in files:
        below = file.parent.relative_to(base) if base else Path()
        stem = str(below / file.stem.removesuffix(end))
        if stem in stems:
            raise ValueError(
                "Pictures and masks are matched by their names without suffix, so each name must "
                f"be there once. Received: {stems[stem]} and {file}"
            )
        stems[stem] = file
    return stems


def _matched(images, masks, path):
    if not masks:
        raise ValueError(
            "There must be masks, picture files with the names of the pictures. "
            f"Received: none in {path}"
        )
    for one, other, what in (
        (images, masks, "picture must have a mask"),
        (masks, images, "mask must have a picture"),
    ):
        if alone := sorted(one.keys() - other.keys()):
            files = ", ".join(str(one[stem]) for stem in alone[:3])
            more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
            raise ValueError(f"Every {what} of the same name. Received: {files}{more} without one")
    return [(images[stem], masks[stem]) for stem in sorted(images)]


def palette_map(palette):
    """(`LabelMap`, class names) of a palette: dict of class name to its colour (r, g, b).

    Classes are numbered in the order of the palette. "void" is the colour of pixels to ignore.
    """
    names = [name for name in palette if name != "void"]
    classes = {color_code(palette[name]): label for label, name in enumerate(names)}
    if "void" in palette:
        classes[color_code(palette["void"])] = IGNORED
    return LabelMap(classes, colors=True), names


def _folders(path):
    return sorted(f.name for f in os.scandir(path) if f.is_dir() and not f.name.startswith("."))


def _first(names, known):
    return next((name for name in known if name in names), None)


def _nothing(path, expected):
    there = ", ".join(sorted(os.listdir(path))[:6]) or "nothing"
    return ValueError(f"{path} must have {expected}. Received: a folder with {there}")
