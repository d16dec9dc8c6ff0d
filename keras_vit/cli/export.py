"""keras-vit export: a model as a file that others run, which was run itself before this says so."""

import enum
from pathlib import Path
from typing import Annotated

import typer

from keras_vit.cli.common import (
    ImageSize,
    Json,
    Like,
    Part,
    Prefix,
    as_size,
    build_or_load,
    check_preprocessing,
    echo,
    print_json,
    progress,
    variant,
)
from keras_vit.cli.predict import find, say_what_is_left_out


class Inputs(enum.StrEnum):
    images = enum.auto()
    pixels = enum.auto()
    jpeg = enum.auto()


class Precision(enum.StrEnum):
    float32 = enum.auto()
    float16 = enum.auto()
    bfloat16 = enum.auto()
    int8_weights = enum.auto()
    int8_dynamic = enum.auto()
    int8_static = enum.auto()


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A name of the catalogue, a hub id, a folder, a file, or a variant (random "
            "weights).",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="What to write: .onnx, .tflite (LiteRT), .xml (OpenVINO), .pt2 (PyTorch), or a "
            "folder (SavedModel).",
        ),
    ],
    inputs: Annotated[
        Inputs, typer.Option(help="images as the model takes them, or pictures of any size.")
    ] = Inputs.images,
    precision: Annotated[Precision | None, typer.Option(help="By default the model's own.")] = None,
    samples: Annotated[
        list[str] | None,
        typer.Option(help="Pictures to compare on: files, folders, patterns; by default noise."),
    ] = None,
    calibration: Annotated[
        list[str] | None, typer.Option(help="Pictures that int8_static finds its ranges on.")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0, help="Difference allowed, relative to what outputs vary by between samples."
        ),
    ] = None,
    image_size: ImageSize = None,
    like: Like = None,
    part: Part = None,
    prefix: Prefix = None,
    as_json: Json = False,
):
    """Write a model for another runtime, run it there, and compare.

    With pixels (uint8 pictures) or jpeg (the bytes of files, SavedModel alone)
    resizing, normalisation and softmax are part of what is written, and the
    names of the classes lie beside it as JSON. What is not near enough to the
    model is not kept.

    Examples:

        keras-vit export google/vit-base-patch16-224 -o vit.onnx --inputs pixels
        keras-vit export runs/digits/model.keras -o digits.tflite --precision int8_dynamic
        keras-vit export my_folder -o vit.xml --precision int8_static --calibration photos
        keras-vit export my_folder -o served/vit/1 --inputs jpeg --samples photos

    JSON has path, format, inputs, precision, runtime, max_difference,
    top1_agreement, size_bytes, latency_s, model_latency_s (seconds of a sample),
    and what was judged: difference, limit, spread, answers, decided,
    decided_agreement.
    """
    overrides = {} if image_size is None else {"image_size": as_size(image_size)}

    import keras_vit
    from keras_vit.checkpoints.variants import best_checkpoint
    from keras_vit.export.formats import format_of

    format_of(output)  # raises before anything is downloaded
    if output.exists():
        raise ValueError(
            f"--output must not exist yet: choose another or remove it. Received: {output}"
        )
    made = not output.parent.exists()
    built = build_or_load(model, like, part, prefix, **overrides)
    if name := variant(model):
        best = best_checkpoint(name)
        trained = f"; {best} is its best known checkpoint" if best else ""
        echo(f"{name} has random weights{trained}", err=True)
    pictures = {"samples": samples, "calibration": calibration}
    if inputs != Inputs.images or any(pictures.values()):
        check_preprocessing(built, model)
    for key, given in pictures.items():
        if given:
            say_what_is_left_out(given)
            pictures[key] = _prepared(built, [y for x in given for y in find(x)], inputs)
    try:
        with progress(f"Writing and running {output.name}"):
            report = keras_vit.export(
                built,
                output,
                inputs=inputs.value,
                precision=precision,
                tolerance=tolerance,
                **pictures,
            )
    finally:
        if made and output.parent.is_dir():
            echo(f"The folder {output.parent} is new", err=True)
    if as_json:
        print_json({**report._asdict(), "path": str(report.path)})
    else:
        echo(report)


def _prepared(model, paths, inputs):
    """What the export takes, of pictures: the files, or an array for inputs="images"."""
    import keras
    import numpy as np

    from keras_vit.preprocessing import load_image

    if inputs != Inputs.images:
        return paths
    prepared = [model.picture_preprocessor(load_image(path)) for path in paths]
    return np.stack([keras.ops.convert_to_numpy(x) for x in prepared])
