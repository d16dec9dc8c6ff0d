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
    """An entry of the JSON list for each path in turn; no more than two batches are held."""
    from keras_vit.picture_files import ahead

    for batch, loading in ahead(model.preparing(), paths, batch_size):
        prepared = [_loaded(path, future) for path, future in zip(batch, loading, strict=True)]
        good = [x for x in prepared if not isinstance(x, dict)]
        rows = iter(_probabilities(model, good))
        for path, found in zip(batch, prepared, strict=True):
            yield found if isinstance(found, dict) else _entry(model, path, next(rows), top)


def _loaded(path, future):
    """What was loaded of a picture, or its entry if that failed."""
    try:
        return future.result()
    except ValueError as error:
        return {"path": path, "error": plain(str(error))}
    except MemoryError:
        return _too_large(path)


def _too_large(path):
    return {
        "path": path,
        "error": f"There is not enough memory for the picture. Received: {path}",
    }


def _probabilities(model, prepared):
    """A row for each picture, or None: one at a time where there is no memory for all of them."""
    try:
        return model.prepared_probabilities(prepared) if prepared else []
    except MemoryError:
        if len(prepared) == 1:
            return [None]
        return [_probabilities(model, [x])[0] for x in prepared]


def _entry(model, path, row, top):
    if row is None:
        return _too_large(path)
    names = model.class_names
    predictions = [
        {"label": names and names[i], "index": int(i), "probability": float(row[i])}
        for i in (-row).argsort()[:top]
    ]
    return {"path": path, "predictions": predictions}


def _print(entry):
    if "error" in entry:
        echo(f"error: {printable(entry['error'])}", err=True)
        return
    echo(printable(entry["path"]))
    for found in entry["predictions"]:
        label = found["index"] if found["label"] is None else found["label"]
        echo(f"  {100 * found['probability']:5.1f} %  {printable(label)}")
