"""keras-vit attend: what a model attends to in a picture, drawn or in numbers."""

import difflib
import os
import re
from pathlib import Path
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
    print_json,
)

KINDS = ("heads", "mean", "rollout", "attribution", "grad-cam", "positions", "filters")
# Which options belong to which kinds; positions and filters are of the model alone.
LAYER, HEAD, CLASS = ("heads", "mean", "grad-cam"), ("heads",), ("attribution", "grad-cam")


def attend(
    photo: Annotated[
        str | None, typer.Argument(help="A picture file; positions and filters need none.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="A name of the catalogue, a hub id, a folder, a file, or a variant: the best "
            "known checkpoint of it."
        ),
    ] = ...,
    kind: Annotated[str, typer.Option(help=f"One of {', '.join(KINDS)}.")] = "heads",
    layer: Annotated[
        str | None,
        typer.Option(help="A block, by number from 0 or by name; by default the last."),
    ] = None,
    head: Annotated[
        list[int] | None, typer.Option(help="A head, from 0; again for more; by default all.")
    ] = None,
    class_: Annotated[
        list[str] | None,
        typer.Option(
            "--class", help="A name or index; again for more; by default the most probable."
        ),
    ] = None,
    like: Like = None,
    part: Part = None,
    prefix: Prefix = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="The file to write: .png, .pdf, .svg ...")
    ] = None,
    width: Annotated[float, typer.Option(min=1, help="Of the figure, in inches.")] = 6.75,
    dpi: Annotated[int, typer.Option(min=30, help="Pixels an inch, where there are any.")] = 300,
    as_json: Json = False,
):
    """Show what a model attends to.

    heads and mean are what the class token reads in one block, rollout through
    all of them; attribution and grad-cam are what speaks for a class.
    positions and filters are what the model has learned of places and pixels.

    Examples:

        keras-vit attend cat.jpg --model ID --layer 11 -o heads.pdf
        keras-vit attend cat.jpg --model ID --kind attribution --class tabby -o tabby.png
        keras-vit attend --model ID --kind positions -o positions.pdf

    JSON is kind, model, picture; class, index and probability of what is most
    probable; and maps, by title lists of rows of numbers. Of the model alone it
    is similarity (h, w, h, w) or filters (n, p, q, C).
    """
    _check_options(photo, kind, layer, head, class_, out, as_json)
    if out is not None:
        _check_out(Path(out))
    from keras_vit.preprocessing import load_image

    pixels = None if photo is None else load_image(photo)
    loaded = load(model, like, part, prefix)
    if photo is not None:
        check_preprocessing(loaded, model)
    if kind in ("positions", "filters"):
        numbers, draw = _of_the_model(loaded, kind)
    else:
        numbers, draw = _of_a_picture(loaded, pixels, kind, layer, head, class_)
    if out is not None:
        try:
            draw(width).savefig(out, dpi=dpi)
        except OSError as error:
            raise ValueError(f"The picture cannot be written. Received: {out}: {error}") from error
    if as_json:
        print_json({"kind": kind, "model": model, "picture": photo, **numbers})
    else:
        echo(out)


def _of_the_model(model, kind):
    """Numbers for JSON, and a function of the width that draws them."""
    import keras_vit

    if kind == "positions":
        numbers = {"similarity": _nested(keras_vit.position_similarity(model))}
        return numbers, lambda width: keras_vit.plot_position_similarity(model, width=width)
    numbers = {"filters": _nested(keras_vit.patch_filters(model))}
    return numbers, lambda width: keras_vit.plot_filters(model, width=width)


def _of_a_picture(model, pixels, kind, layer, head, class_):
    """Numbers for JSON, and a function of the width that draws them."""
    import keras_vit
    from keras_vit.interpret.attention import block_names
    from keras_vit.interpret.images import as_images, class_labels, classifies, probabilities
    from keras_vit.interpret.pictures import query_maps

    images = as_images(model, [pixels])
    numbers = {}
    if model.num_classes is not None and classifies(model):
        (shares,) = probabilities(model, images)
        best = int(shares.argmax())
        name = model.class_names[best] if model.class_names else f"class {best}"
        numbers = {"class": name, "index": best, "probability": float(shares[best])}
    if layer is not None or kind in ("heads", "mean"):
        others = [x.name for x in model.layers] if kind == "grad-cam" else ()
        layer = numbers["layer"] = _block(block_names(model), layer, others)
    if kind in ("heads", "mean"):
        maps, numbers["reader"] = query_maps(model, images, layer)  # (1, heads, h, w)
        heads = [] if kind == "mean" else range(maps.shape[1]) if head is None else head
        if not set(heads) <= set(range(maps.shape[1])):
            raise ValueError(
                f"--head must be from 0 to {maps.shape[1] - 1}: {layer} has {maps.shape[1]} heads. "
                f"Received: {', '.join(map(str, heads))}"
            )
        numbers["maps"] = {f"head {i}": _nested(maps[0, i]) for i in heads}
        numbers["maps"]["mean"] = _nested(maps[0].mean(axis=0))
        return numbers, lambda width: keras_vit.plot_attention(
            model, images, layer, heads=list(heads), width=width
        )
    if kind == "rollout":
        maps = {"rollout": keras_vit.attention_rollout(model, images)}
    else:
        more = {"layer": layer} if kind == "grad-cam" else {}
        function = keras_vit.grad_cam if more else keras_vit.attention_attribution
        maps = {}
        for index in [_class_index(model, x) for x in class_ or []] or [None]:
            found = function(model, images, index, **more)  # raises for a model without head
            (label,) = class_labels(model, images, [best if index is None else index])
            maps[f"for {label}"] = found
    numbers["maps"] = {title: _nested(x[0]) for title, x in maps.items()}
    return numbers, lambda width: keras_vit.plot_maps(model, images, maps, width=width)


def _check_options(photo, kind, layer, head, class_, out, as_json):
    if kind not in KINDS:
        raise ValueError(f"--kind must be one of {', '.join(KINDS)}. Received: {kind}")
    for option, value, kinds in (
        ("--layer", layer, LAYER),
        ("--head", head, HEAD),
        ("--class", class_, CLASS),
    ):
        if value is not None and kind not in kinds:
            raise ValueError(
                f"{option} belongs to --kind {' or '.join(kinds)}. Received: --kind {kind}"
            )
    if photo is None and kind not in ("positions", "filters"):
        raise ValueError(f"--kind {kind} needs a picture. Received: none")
    if out is None and not as_json:
        raise ValueError("Say where the picture goes, -o out.png, or ask for --json.")


def _check_out(path):
    """Raises before any work for a picture that could not be written."""
    from keras_vit.interpret.drawing import new_figure

    try:
        formats = new_figure(1, 1).canvas.get_supported_filetypes()
    except ImportError as error:
        raise ValueError(str(error)) from error
    if path.suffix[1:].lower() not in formats:
        raise ValueError(
            f"--out must end with one of .{', .'.join(sorted(formats))}. Received: {path}"
        )
    writable = os.access(path if path.exists() else path.parent, os.W_OK)
    if not path.parent.is_dir() or path.is_dir() or not writable:
        raise ValueError(
            f"--out must be a file in a folder that exists and can be written. Received: {path}"
        )


def _block(blocks, layer, others=()):
    """The name of a block given by number or by name."""
    if layer is None:
        return blocks[-1]
    if layer.isdigit() and int(layer) < len(blocks):
        return blocks[int(layer)]
    if layer not in blocks and layer not in others:
        raise ValueError(
            f"--layer must be a number from 0 to {len(blocks) - 1}, or one of {', '.join(blocks)}. "
            f"Received: {layer}"
        )
    return layer


def _class_index(model, given):
    """The index of a class given by index or by name, or by one of its names."""
    number = model.num_classes or 0
    if given.isdigit() and int(given) < number:
        return int(given)
    names = [name.lower() for name in model.class_names or []]
    wanted = given.lower()
    found = [i for i, name in enumerate(names) if wanted in (name, *name.split(", "))]
    if len(found) == 1:
        return found[0]
    what, near = "near", difflib.get_close_matches(wanted, names, 3, 0.4)
    with_word = [i for i, name in enumerate(names) if wanted in re.findall(r"\w+", name)]
    if found or with_word:
        what = "of that name" if found else "with that word"
        near = [f"{i} ({model.class_names[i]})" for i in found or with_word]
    raise ValueError(
        f"--class must be an index from 0 to {number - 1}, or the name of one class"
        f"{f'; {what}: ' + ', '.join(near) if near else ''}. Received: {given}"
    )


def _nested(x):
    """An array as lists, with the digits that float32 has."""
    return x.astype("float64").round(8).tolist()
