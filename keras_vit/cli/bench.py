"""keras-vit bench: how fast a model is on this machine."""

import enum
import time
from pathlib import Path
from typing import Annotated

import typer

from keras_vit.cli.common import (
    ImageSize,
    Json,
    as_size,
    build_or_load,
    echo,
    print_json,
    print_table,
    progress,
)

WARM_UP = 2  # calls after the first, which some backends still optimise


class Precision(enum.StrEnum):
    float32 = enum.auto()
    mixed_bfloat16 = enum.auto()
    mixed_float16 = enum.auto()


def bench(
    model: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A variant (ViTBase, with random weights), a name of the catalogue, a hub id, a "
            "folder, a file, or what keras-vit export wrote.",
        ),
    ],
    batch_size: Annotated[
        str, typer.Option(metavar="N,N", help="Batch sizes, with commas between them.")
    ] = "1,8",
    image_size: ImageSize = None,
    dtype: Annotated[Precision, typer.Option(help="What it computes in.")] = Precision.float32,
    rounds: Annotated[int, typer.Option(min=1, help="Timed calls of each batch size.")] = 20,
    as_json: Json = False,
):
    """Measure latency and throughput of inference on this machine.

    What is timed is model.predict_on_batch on an array of noise, compiled, as
    users call it. The first call, which builds and compiles, stands apart; two
    more warm up. Exports run in their own runtime, on the CPU.

    Examples:

        keras-vit bench ViTBase
        keras-vit bench ViTSmall --batch-size 1,16,64 --dtype mixed_bfloat16
        keras-vit bench runs/digits/model.keras --rounds 100 --json
        keras-vit bench vit.onnx --batch-size 1

    JSON has name, model, parameters, image_size, dtype, backend, device,
    versions, results, or for exports name, runtime, image_size, dtype, device,
    results; these have batch_size, first_s, rounds, median_s, p10_s,
    p90_s (seconds of a batch), images_per_s (of the median).
    """
    sizes = _batch_sizes(batch_size)
    overrides = {"dtype": dtype.value}
    if image_size is not None:
        overrides["image_size"] = as_size(image_size)

    export = export_format(Path(model))
    if export is None:
        found = _bench_model(model, sizes, overrides, rounds)
    else:
        found = _bench_export(model, export, sizes, overrides, rounds)
    if as_json:
        print_json(found)
    else:
        _print(found)


def _bench_model(model, sizes, overrides, rounds):
    import keras

    from keras_vit.hardware import hardware

    built = build_or_load(model, **overrides)
    shape = _known(built.input.shape[1:], model)
    return {
        "name": model,
        "model": type(built).__name__,
        "parameters": built.count_params(),
        "image_size": shape[:2],
        "dtype": overrides["dtype"],
        "backend": keras.backend.backend(),
        "device": hardware(),
        "versions": versions(keras.backend.backend()),
        "results": _rows(built.predict_on_batch, shape, "float32", sizes, rounds),
    }


def _bench_export(model, format, sizes, overrides, rounds):
    from keras_vit.export.runtimes import RUNTIMES
    from keras_vit.hardware import hardware

    if overrides["dtype"] != "float32":
        raise ValueError(
            "An export computes in the precision that it was written with: leave --dtype out. "
            f"Received: {overrides['dtype']}"
        )
    with progress(f"Loading {model}"):
        runtime = RUNTIMES[format](model)
    if runtime.dtype == "object":
        raise ValueError(f"{model} takes files, whose decoding depends on them: no noise will do.")
    given = overrides.get("image_size", (None, None))
    sides = [a if a is not None else b for a, b in zip(runtime.shape[1:3], given, strict=True)]
    shape = _known((*sides, runtime.shape[3]), model)
    return {
        "name": model,
        "runtime": runtime.name,
        "image_size": shape[:2],
        "dtype": runtime.dtype,
        "device": hardware(),
        "results": _rows(runtime.run, shape, runtime.dtype, sizes, rounds),
    }


def _known(shape, model):
    if None in shape:
        raise ValueError(
            f"{model} takes images of any size: say which, --image-size 224 for example."
        )
    return shape


def _rows(run, shape, dtype, sizes, rounds):
    """What `measure` finds for batches of noise, (size, *shape)."""
    import numpy as np

    noise = np.random.default_rng(0)
    low, high = (0, 255) if dtype == "uint8" else (-1, 1)
    rows = []
    for size in sizes:
        images = noise.uniform(low, high, (size, *shape)).astype(dtype)
        rows.append(measure(lambda x=images: run(x), size, rounds))
    return rows


def export_format(path):
    """The format of an export, or None for what is none."""
    from keras_vit.export.formats import FORMATS

    if (path / "saved_model.pb").exists():
        return "saved_model"
    suffixes = {x.suffix: name for name, x in FORMATS.items() if x.suffix}
    return suffixes.get(path.suffix) if path.exists() else None


def measure(call, batch_size, rounds):
    """Times a call that runs a whole batch, whatever runs it.

    Args:
        call: function without arguments that returns when its result is there.
        batch_size: int, images in a call.
        rounds: int, timed calls.

    Returns:
        dict with batch_size, first_s, rounds, median_s, p10_s, p90_s, images_per_s.

    Example:
        >>> measure(lambda: model.predict_on_batch(images), len(images), 20)["images_per_s"]
        41.9
    """
    import numpy as np

    seconds = []
    with progress(f"Batches of {batch_size}", total=1 + WARM_UP + rounds) as advance:
        for _ in range(1 + WARM_UP + rounds):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
            advance()
    timed = seconds[1 + WARM_UP :]
    p10, median, p90 = (float(x) for x in np.percentile(timed, (10, 50, 90)))
    return {
        "batch_size": batch_size,
        "first_s": seconds[0],
        "rounds": rounds,
        "median_s": median,
        "p10_s": p10,
        "p90_s": p90,
        "images_per_s": batch_size / median,
    }


def versions(backend):
    """dict of package to version, of what was measured."""
    from importlib.metadata import version

    import keras_vit

    return {"keras_vit": keras_vit.__version__, **{x: version(x) for x in ("keras", backend)}}


def _batch_sizes(text):
    sizes = [int(x) if x.isdecimal() else 0 for x in text.split(",")]
    if min(sizes) < 1:
        raise ValueError(
            f"--batch-size must be whole numbers with commas between them. Received: {text!r}"
        )
    return sizes


def _print(found):
    from keras_vit.table import Table

    height, width = found["image_size"]
    if "runtime" in found:
        what, where = "", f"{found['runtime']} on {found['device']}"
    else:
        what = f"{found['model']}, {found['parameters']:,} parameters, "
        packages = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
        where = f"{found['backend']} on {found['device']}; {packages}"
    echo(f"{found['name']}: {what}{height} x {width} pixels, {found['dtype']}\n{where}\n")
    columns = ("batch", "first call, s", "median, ms", "p10, ms", "p90, ms", "images / s")
    print_table(
        Table(
            columns,
            [
                (
                    row["batch_size"],
                    row["first_s"],
                    *(1000 * row[key] for key in ("median_s", "p10_s", "p90_s")),
                    row["images_per_s"],
                )
                for row in found["results"]
            ],
        )
    )
