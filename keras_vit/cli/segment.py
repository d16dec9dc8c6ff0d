"""keras-vit segment: what every pixel of pictures belongs to."""

import itertools
from pathlib import Path
from typing import Annotated

import typer

from keras_vit.cli.common import Json, Part, Prefix, echo, load, print_entries
from keras_vit.cli.predict import find, say_what_is_left_out
from keras_vit.cli.wording import plain
from keras_vit.terminal import printable


def segment(
    pictures: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders (with all in them), patterns such as 'photos/**/*.jpg'."
        ),
    ],
    model: Annotated[str, typer.Option(help="A file with a SETR: .keras, .pth, .safetensors.")],
    out: Annotated[str, typer.Option("--out", "-o", help="The folder to write; made if missing.")],
    window: Annotated[
        str, typer.Option(metavar="slide|whole|N", help="How the model sees a picture.")
    ] = "slide",
    stride: Annotated[
        int | None, typer.Option(help="Pixels between windows; by default two thirds of one.")
    ] = None,
    short_side: Annotated[
        int | None, typer.Option(help="Pixels that the shorter side is resized to.")
    ] = None,
    scales: Annotated[
        str, typer.Option(metavar="A,B,...", help="Factors of the short side, averaged.")
    ] = "1",
    flip: Annotated[bool, typer.Option("--flip", help="Average mirrored pictures too.")] = False,
    palette: Annotated[
        str | None, typer.Option(help="Colours: ade20k, cityscapes or camvid.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows at a time.")] = 8,
    num_heads: Annotated[
        int | None, typer.Option(help="Attention heads, where a file does not say them.")
    ] = None,
    part: Part = None,
    prefix: Prefix = None,
    as_json: Json = False,
):
    """Find what every pixel of pictures belongs to.

    For every picture the folder gets NAME.png, whose pixels are class indices,
    and NAME_overlay.png, the classes over the picture, with a legend. A broken
    picture is named on stderr, and the others go on; the exit code is then 1.

    Examples:

        keras-vit segment street.jpg --model runs/camvid_setr/model.keras -o out
        keras-vit segment photos --model setr_pup_ade20k.pth -o out --window whole
        keras-vit segment photos --model model.keras -o out --scales 0.5,1,1.5 --flip

    JSON is a list, an entry for each picture as it was found: path, and either
    classes, overlay (the files) and shares (a list of label, index, share of the
    pixels, the largest first) or error.
    """
    scales = _numbers(scales)
    window = int(window) if window.isdigit() else window
    paths = [path for name in pictures for path in find(name)]
    say_what_is_left_out(pictures)
    if not any(Path(path).is_file() for path in paths):
        raise ValueError(
            "There are no pictures. Expected: files, folders with pictures, or patterns. "
            f"Received: {', '.join(pictures)}"
        )
    overrides = {} if num_heads is None else {"num_heads": num_heads}
    loaded = load(model, None, part, prefix, **overrides)
    if not hasattr(loaded, "segment"):
        raise ValueError(
            f"segment needs a model for segmentation, such as a SETR. Received: {model}, "
            f"a {type(loaded).__name__}"
        )
    how = {"window": window, "stride": stride, "short_side": short_side, "scales": scales}
    loaded.segment([], flip=flip, batch_size=batch_size, **how)  # checks the arguments
    _check_palette(palette, loaded)
    folder, names = Path(out), stems(paths, _files)
    _check_folder(paths, names, folder)
    folder.mkdir(parents=True, exist_ok=True)
    options = {**how, "flip": flip, "batch_size": batch_size}

    def entries():
        for path, stem in zip(paths, names, strict=True):
            try:
                files = [folder / name for name in _files(stem)]
                yield _segmented(loaded, path, files, palette, options)
            except (ValueError, MemoryError) as error:
                yield {"path": path, "error": plain(str(error)) or "out of memory"}

    print_entries(entries(), len(paths), "Segmenting pictures", as_json, _print)


def _segmented(model, path, files, palette, options):
    """Writes the files of a picture; returns its entry of the JSON list."""
    from PIL import Image

    import keras_vit
    from keras_vit.interpret.segmentation import class_shares

    pixels = keras_vit.preprocessing.load_image(path)
    (classes,) = model.segment([pixels], **options)
    file, overlay = files
    dtype = "uint8" if model.num_classes <= 256 else "uint16"
    Image.fromarray(classes.astype(dtype)).save(file)
    names = model.class_names or _names(model, palette)
    keras_vit.plot_segmentation(pixels, classes, names, palette).savefig(overlay)
    shares = [
        {"label": names and names[index], "index": index, "share": share}
        for index, share in class_shares(classes).items()
    ]
    return {"path": path, "classes": str(file), "overlay": str(overlay), "shares": shares}


def _names(model, palette):
    """The names of a palette's classes, if the model has as many; None otherwise."""
    from keras_vit.tasks.setr.palettes import PALETTES, palette_of

    found = PALETTES.get(palette) or palette_of(model.num_classes)
    known = found in PALETTES.values() if palette is None else True
    return found.names if known and len(found.names) == model.num_classes else None


def stems(paths, files):
    """A name for the files of each picture; a number follows names that are taken.

    Args:
        paths: list of str.
        files: function from a name to the names of the files that are written for it.

    Returns:
        list of str.
    """
    found, taken = [], set()
    for path in paths:
        stem = Path(path).stem
        numbered = (f"{stem}-{number}" for number in itertools.count(1))
        name = next(x for x in itertools.chain([stem], numbered) if taken.isdisjoint(files(x)))
        taken.update(files(name))
        found.append(name)
    return found


def _files(stem):
    """The names of the files of a picture: class map and overlay."""
    return f"{stem}.png", f"{stem}_overlay.png"


def _check_folder(paths, names, folder):
    """Raises a `ValueError` if a picture would be written over."""
    pictures = {Path(path).resolve() for path in paths}
    for stem in names:
        for name in _files(stem):
            if (folder / name).resolve() in pictures:
                raise ValueError(
                    "-o must be another folder than that of the pictures, which would be written "
                    f"over. Received: {folder}, with {name} among the pictures"
                )


def _check_palette(palette, model):
    """Raises a `ValueError` for a palette that is unknown or has too few colours."""
    from keras_vit.layers.validation import check_choice
    from keras_vit.tasks.setr.palettes import PALETTES

    if palette is not None:
        check_choice(palette, "--palette", PALETTES)
        count = len(PALETTES[palette].names)
        if count < model.num_classes:
            raise ValueError(
                f"--palette must have a colour for each of {model.num_classes} classes. "
                f"Received: {palette}, which has {count}"
            )


def _numbers(text):
    try:
        return tuple(float(x) for x in text.split(","))
    except ValueError:
        raise ValueError(
            f"--scales must be numbers and commas, such as 0.5,1,1.5. Received: {text}"
        ) from None


def _print(entry):
    if "error" in entry:
        echo(f"error: {printable(entry['error'])}", err=True)
        return
    echo(printable(f"{entry['path']} -> {entry['classes']}, {entry['overlay']}"))
    for found in entry["shares"]:
        label = found["index"] if found["label"] is None else found["label"]
        echo(f"  {100 * found['share']:5.1f} %  {printable(label)}")
