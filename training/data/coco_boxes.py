"""COCO's annotations as boxes, and the numbers of the classes of every source of boxes."""

import json
from pathlib import Path

import numpy as np

from .boxes import Boxes, check_in_pixels
from .examples import Encoded

ROBOFLOW = "_annotations.coco.json"
NEEDED = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}


def read(path, raw_ids=False):
    """The splits of a data set in COCO's format.

    - a folder with annotations/instances_SPLIT.json and the pictures in SPLIT or images/SPLIT;
    - a folder with SPLIT/_annotations.coco.json beside the pictures;
    - a JSON file, with the pictures in its folder or in "images" there: no splits.

    Args:
        path: `Path`.
        raw_ids: bool, whether a class is the category id itself, as in the published weights of
            DETR; else the categories are numbered in the order of their ids.

    Returns:
        (names of the splits, function from a name to (`Encoded`, `Boxes`), class names or None).

    Raises:
        ValueError: if there are no annotations, or categories clash.
    """
    found = files_of(path)
    contents = {name: _json(file) for name, (file, _) in found.items()}
    categories = _categories({found[name][0]: x for name, x in contents.items()})
    class_ids = sorted(categories)
    if raw_ids:
        class_ids = list(range(max(class_ids) + 1))
    labels = {number: label for label, number in enumerate(class_ids)}

    def pairs(name):
        return _pairs(contents[name], *found[name], labels, class_ids)

    names = None if raw_ids else [categories[number] for number in class_ids]
    return list(found), pairs, names


def files_of(path):
    """dict of split to (JSON file, folders of its pictures); see `read`."""
    if path.is_file():
        return {"": (path, [path.parent, path.parent / "images"])}
    files = sorted((path / "annotations").glob("*.json"))
    # Other files may have the captions or key points of the same pictures.
    files = [x for x in files if x.stem.startswith("instances_")] or files
    splits = {file.stem.rpartition("_")[2]: file for file in files}
    found = {
        name: (file, [path / name, path / "images" / name, path / "images", path])
        for name, file in splits.items()
    }
    for file in sorted(path.glob(f"*/{ROBOFLOW}")):
        found.setdefault(file.parent.name, (file, [file.parent]))
    if not found:
        raise ValueError(
            "A data set of COCO must be a JSON file, or a folder with "
            f"annotations/instances_SPLIT.json or SPLIT/{ROBOFLOW}. Received: coco:{path}"
        )
    return found


def _categories(contents):
    """dict of category id to name, of all files; they must agree."""
    names, where = {}, {}
    for file, found in contents.items():
        for item in found["categories"]:
            number, name = item["id"], str(item["name"])
            if names.setdefault(number, name) != name:
                raise ValueError(
                    "A category id must have one name in all files of a data set. Received: "
                    f"id {number} is {names[number]!r} in {where[number]} and {name!r} in {file}"
                )
            where.setdefault(number, file)
            if type(number) is not int or number < 0:
                raise ValueError(
                    f"A category id must be an integer of 0 or more. Received: {number!r} in {file}"
                )
    if not names:
        raise ValueError(
            f"There must be categories in the annotations. Received: none in {next(iter(contents))}"
        )
    return names


def _pairs(found, file, folders, labels, class_ids):
    """(`Encoded`, `Boxes`) of the content of a JSON file."""
    images, places = found["images"], {}
    for place, image in enumerate(images):
        if places.setdefault(image["id"], place) != place:
            raise ValueError(
                f"A picture must have an id of its own. Received: {image['id']} twice in {file}"
            )
    paths = _paths([image["file_name"] for image in images], file, folders)
    objects = [[] for _ in images]
    for item in found["annotations"]:
        if item["category_id"] not in labels:
            raise ValueError(
                "Every object must be of a category of its file. "
                f"Received: category {item['category_id']} in {file}"
            )
        if item["image_id"] not in places:
            raise ValueError(
                "Every object must be in a picture of its file. "
                f"Received: image_id {item['image_id']} in {file}"
            )
        box = [float(x) for x in item["bbox"]]
        if len(box) != 4:
            raise ValueError(
                "A box must be x, y, width, height. "
                f"Received: {item['bbox']} for image_id {item['image_id']} in {file}"
            )
        area = item.get("area", box[2] * box[3])
        label = labels[item["category_id"]]
        objects[places[item["image_id"]]].append((box, label, item.get("iscrowd", 0), area))
    check_in_pixels(np.array([x[0] for own in objects for x in own]).reshape(-1, 4), file)
    sizes = [(image.get("height", 0), image.get("width", 0)) for image in images]
    return Encoded.of_files(paths), Boxes.of_pictures(objects, sizes, list(places), class_ids)


def _paths(names, file, folders):
    """The pictures of a file, in the first folder that has one of them."""
    folder = next((x for x in folders if any((x / name).is_file() for name in names)), None)
    if folder is None:
        where = ", ".join(str(x) for x in folders)
        raise ValueError(
            "The pictures of the annotations must be beside them. "
            f"Received: {file}, and none of its {len(names):,} pictures in {where}"
        )
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            "Every picture of the annotations must be there; remove the others from the file. "
            f"Received: {file} with {len(missing):,} of {len(names):,} missing, such as "
            f"{folder / missing[0]}"
        )
    return [Path(folder, name) for name in names]


def _json(path):
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Annotations must be JSON: {error}. Received: {path}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(found, dict) or not isinstance(found.get(key), list):
            raise ValueError(
                "Annotations of COCO must have the lists images, annotations and categories. "
                f"Received: {path} without {key}"
            )
        for item in found[key]:
            if missing := [name for name in NEEDED[key] if name not in item]:
                raise ValueError(
                    f"Every item of {key!r} must have {', '.join(NEEDED[key])}. Received: {path} "
                    f"with one without {', '.join(missing)}: {str(item)[:80]}"
                )
    return found
