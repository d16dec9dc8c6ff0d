"""keras-vit detect: which objects are in pictures, and where."""

import json
from pathlib import Path
from typing import Annotated

import typer

from keras_vit.cli.common import Json, Part, Prefix, echo, load, print_entries
from keras_vit.cli.predict import find, say_what_is_left_out
from keras_vit.cli.segment import stems
from keras_vit.cli.wording import plain
from keras_vit.terminal import printable

INFO = {"description": "objects found by keras-vit detect"}  # of a COCO file


def detect(
    pictures: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders (with all in them), patterns such as 'photos/**/*.jpg'."
        ),
    ],
    model: Annotated[str, typer.Option(help="A file or folder with a DETR: .keras, .pth, HF.")],
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="A folder for the pictures with boxes.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Smallest score of an object.")] = 0.5,
    size: Annotated[
        str | None,
        typer.Option(metavar="S,L", help="Pixels of the shorter side, and most of the longer."),
    ] = None,
    tiles: Annotated[
        str | None,
        typer.Option(metavar="N|RxC", help="Look at so many overlapping parts of a picture too."),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Names or numbers of classes to keep.")
    ] = None,
    max_detections: Annotated[int | None, typer.Option(help="Most objects of a picture.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Parts of a picture at a time.")] = 1,
    coco: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a COCO file with all objects.")
    ] = None,
    num_heads: Annotated[
        int | None, typer.Option(help="Attention heads, where a file does not say them.")
    ] = None,
    part: Part = None,
    prefix: Prefix = None,
    as_json: Json = False,
):
    """Find objects in pictures.

    For every picture the folder gets NAME_objects.png, the boxes over the
    picture. A broken picture is named on stderr, and the others go on; the exit
    code is then 1.

    Examples:

        keras-vit detect street.jpg --model facebook/detr-resnet-50 -o out
        keras-vit detect photos --model model.keras --threshold 0.7 --json
        keras-vit detect photos --model model.keras --coco found.json --threshold 0

    JSON is a list, an entry for each picture as it was found: path, and either
    picture (the file, with -o) and objects (a list of label, index, id, score
    and box: x0, y0, x1, y1 in pixels) or error. A COCO file has images,
    categories and annotations; a picture whose name is a number keeps it as id.
    """
    if out is None and coco is None and not as_json:
        raise ValueError("Say where the result goes: -o FOLDER, --coco FILE, or --json.")
    paths = [path for name in pictures for path in find(name)]
    say_what_is_left_out(pictures)
    if not any(Path(path).is_file() for path in paths):
        raise ValueError(
            "There are no pictures. Expected: files, folders with pictures, or patterns. "
            f"Received: {', '.join(pictures)}"
        )
    overrides = {} if num_heads is None else {"num_heads": num_heads}
    loaded = load(model, None, part, prefix, **overrides)
    if not hasattr(loaded, "detect"):
        raise ValueError(
            f"detect needs a model for detection, such as a DETR. Received: {model}, "
            f"a {type(loaded).__name__}"
        )
    options = {
        "threshold": threshold,
        "size": None if size is None else _pair(size, ",", "--size must be S,L, such as 800,1333"),
        "tiles": None if tiles is None else _tiles(tiles),
        "classes": None if classes is None else _classes(classes),
        "max_detections": max_detections,
        "batch_size": batch_size,
    }
    loaded.detect([], **options)  # checks the arguments
    folder, names = None if out is None else Path(out), stems(paths, _files)
    _check_outputs(paths, names, folder, coco)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    found = []  # for the COCO file

    def entries():
        for path, name in zip(paths, names, strict=True):
            file = None if folder is None else folder / _files(name)[0]
            try:
                entry, size, objects = _detected(loaded, path, file, options)
            except (ValueError, MemoryError) as error:
                yield {"path": path, "error": plain(str(error)) or "out of memory"}
                continue
            found.append((path, size, objects))
            yield entry

    try:
        print_entries(entries(), len(paths), "Looking for objects", as_json, _print)
    finally:
        if coco is not None:
            Path(coco).write_text(json.dumps(coco_file(loaded, found)), encoding="utf-8")


def _detected(model, path, file, options):
    """(entry of the JSON list, size (H, W) of the picture, its `Detections`)."""
    import keras_vit

    pixels = keras_vit.preprocessing.load_image(path)
    (found,) = model.detect([pixels], **options)
    entry = {"path": path}
    if file is not None:
        keras_vit.plot_detections(pixels, found).savefig(file)
        entry["picture"] = str(file)
    entry["objects"] = [
        {
            "label": found.names and found.names[i],
            "index": int(found.labels[i]),
            "id": found.ids[i],
            "score": float(found.scores[i]),
            "box": [round(float(x), 2) for x in found.boxes[i]],
        }
        for i in range(len(found))
    ]
    return entry, pixels.shape[:2], found


def coco_file(model, found):
    """The content of a COCO file.

    Args:
        model: DETR.
        found: list of (path, (H, W), `Detections`).

    Returns:
        dict of "info", by which the file is known again, "images", "categories" and "annotations",
        whose boxes are x, y, width, height.
    """
    ids = _image_ids([path for path, *_ in found])
    of_class = model.class_ids or range(model.num_classes)
    names = model.class_names or [str(i) for i in of_class]
    images, annotations = [], []
    for number, (path, (height, width), objects) in zip(ids, found, strict=True):
        name = Path(path).name
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for i, box in enumerate(objects.boxes.astype("float64").round(2).tolist()):
            x, y, w, h = box[0], box[1], round(box[2] - box[0], 2), round(box[3] - box[1], 2)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": objects.ids[i],
                    "bbox": [x, y, w, h],
                    "area": round(w * h, 2),
                    "iscrowd": 0,
                    "score": float(objects.scores[i]),
                }
            )
    categories = [{"id": i, "name": name} for i, name in zip(of_class, names, strict=True)]
    found = {"images": images, "categories": categories, "annotations": annotations}
    return {"info": INFO, **found}


def _image_ids(paths):
    """The numbers that the pictures are named by; 1, 2 ... unless all are, each by another."""
    names = [Path(path).stem for path in paths]
    numbers = [int(name) for name in names if name.isdecimal()]
    return numbers if len(set(numbers)) == len(names) else range(1, len(names) + 1)


def _files(stem):
    """The names of the files of a picture."""
    return (f"{stem}_objects.png",)


def _check_outputs(paths, names, folder, coco):
    """Raises a `ValueError` where something would be written over, or cannot be written."""
    pictures = {Path(path).resolve() for path in paths}
    written = [] if folder is None else [folder / x for name in names for x in _files(name)]
    written += [] if coco is None else [Path(coco)]
    for file in written:
        if file.resolve() in pictures:
            raise ValueError(f"A picture would be written over. Received: {file}")
    if coco is not None and (not Path(coco).parent.is_dir() or Path(coco).is_dir()):
        raise ValueError(f"--coco must be a file in a folder that exists. Received: {coco}")
    if coco is not None and Path(coco).exists() and not _is_result(Path(coco)):
        raise ValueError(
            "--coco must be a new file, or one that detect has written: annotations of yours would "
            f"be written over. Received: {coco}"
        )


def _is_result(file):
    """Whether a file was written by this command."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(content, dict) and content.get("info") == INFO


def _pair(text, by, expected):
    found = text.split(by)
    if len(found) != 2 or not all(x.isdecimal() for x in found):
        raise ValueError(f"{expected}. Received: {text}")
    return int(found[0]), int(found[1])


def _tiles(text):
    if text.isdecimal():
        return int(text)
    return _pair(text, "x", "--tiles must be a number or rows x columns, such as 2 or 2x3")


def _classes(text):
    return [int(x) if x.isdecimal() else x.strip() for x in text.split(",")]


def _print(entry):
    if "error" in entry:
        echo(f"error: {printable(entry['error'])}", err=True)
        return
    where = f" -> {entry['picture']}" if "picture" in entry else ""
    echo(printable(f"{entry['path']}{where}"))
    for found in entry["objects"]:
        label = found["index"] if found["label"] is None else found["label"]
        box = ", ".join(f"{x:.0f}" for x in found["box"])
        echo(f"  {100 * found['score']:5.1f} %  {printable(label)}  ({box})")
