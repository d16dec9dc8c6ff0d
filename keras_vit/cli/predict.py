"""keras-vit predict: what is on pictures."""

import glob
import os
from typing import Annotated

import typer

from keras_vit.cli.common import (
    Json,
    Like,
    Part,
    Prefix,
    check_preprocessing,
    echo,
    load,
    print_entries,
)
from keras_vit.cli.wording import plain
from keras_vit.terminal import printable


def predict(
    pictures: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders (with all in them), patterns such as 'photos/**/*.jpg'."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="A name of the catalogue, a hub id, a folder, a file, or a variant: the best "
            "known checkpoint of it."
        ),
    ],
    like: Like = None,
    part: Part = None,
    prefix: Prefix = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="Classes to name for each picture; by default five at most."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 32,
    as_json: Json = False,
):
    """Name what is on pictures.

    Folders are searched through, hidden files left out, for the suffixes of
    pictures (AVIF, BMP, GIF, JPEG, PNG, TIFF, WebP); other files are counted and
    named on stderr. A broken picture is named there too, and the others go on;
    the exit code is then 1.

    Examples:

        keras-vit predict cat.jpg --model google/vit-base-patch16-224
        keras-vit predict photos --model runs/digits/model.keras --top 1
        keras-vit predict 'photos/**/*.jpg' --model my_folder --json

    JSON is a list, an entry for each picture as it was found: path, and either
    predictions (a list of label, index, probability; label is null where the
    model names no classes) or error.
    """
    paths = [path for name in pictures for path in find(name)]
    say_what_is_left_out(pictures)
    if not any(map(os.path.isfile, paths)):
        missing = [name for name in pictures if not os.path.exists(name)]
        found = f"; not found: {', '.join(missing)}" if missing else ""
        raise ValueError(
            "There are no pictures. Expected: files, folders with pictures, or patterns. "
            f"Received: {', '.join(pictures)}{found}"
        )
    loaded = load(model, like, part, prefix)
    classes = loaded.num_classes
    if classes is None:
        raise ValueError(
            f"predict needs a model with a head. Received: {model}, which gives features"
        )
    check_preprocessing(loaded, model)
    if top is None:
        top = min(5, classes)
    if top > classes:
        raise ValueError(
            f"--top must be at most {classes}, the classes of the model. Received: {top}"
        )
    entries = look(loaded, paths, top, batch_size)
    print_entries(entries, len(paths), "Looking at pictures", as_json, _print)


def find(name):
    """The paths in a folder or of a pattern, sorted; the name itself where there are none."""
    from keras_vit.picture_files import is_picture

    if os.path.isdir(name):
        return list(filter(is_picture, _walk(name))) or [name]
    if glob.has_magic(name) and not os.path.exists(name):
        matches = sorted(glob.glob(name, recursive=True))
        return [path for path in matches if os.path.isfile(path)] or [name]
    return [name]


def say_what_is_left_out(names):
    """Counts and names on stderr what lies in folders and is no picture by its suffix."""
    from keras_vit.picture_files import is_picture, said_of_others

    folders = filter(os.path.isdir, names)
    others = [path for name in folders for path in _walk(name) if not is_picture(path)]
    if others:
        echo(said_of_others(others), err=True)


def _walk(folder):
    """Paths of all files in a folder and below, sorted, hidden ones left out."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(x for x in folders if not x.startswith("."))
        yield from (os.path.join(here, x) for x in sorted(files) if not x.startswith("."))


def look(model, paths, top, batch_size):
    """An entry of the JSON list for each path in turn; no more than a batch is held."""
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        try:
            yield from _entries(model, batch, top)
        except (ValueError, MemoryError):  # one of them is broken or too large: which?
            for path in batch:
                try:
                    yield from _entries(model, [path], top)
                except ValueError as error:
                    yield {"path": path, "error": plain(str(error))}
                except MemoryError:
                    error = f"There is not enough memory for the picture. Received: {path}"
                    yield {"path": path, "error": error}


def _entries(model, paths, top):
    probabilities = model.image_probabilities(paths)  # (B, num_classes)
    names = model.class_names
    entries = []
    for path, row in zip(paths, probabilities, strict=True):
        best = (-row).argsort()[:top]
        predictions = [
            {"label": names and names[i], "index": int(i), "probability": float(row[i])}
            for i in best
        ]
        entries.append({"path": path, "predictions": predictions})
    return entries


def _print(entry):
    if "error" in entry:
        echo(f"error: {printable(entry['error'])}", err=True)
        return
    echo(printable(entry["path"]))
    for found in entry["predictions"]:
        label = found["index"] if found["label"] is None else found["label"]
        echo(f"  {100 * found['probability']:5.1f} %  {printable(label)}")
