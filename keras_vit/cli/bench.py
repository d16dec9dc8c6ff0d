"""keras-vit bench: how fast a model is on this machine."""

import enum
import time
from typing import Annotated

import typer

from keras_vit.cli.common import (
    ImageSize,
    Json,
    as_size,
    is_variant,
    load,
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
            "folder or a file.",
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
    more warm up.

    Examples:

        keras-vit bench ViTBase
        keras-vit bench ViTSmall --batch-size 1,16,64 --dtype mixed_bfloat16
        keras-vit bench runs/digits/model.keras --rounds 100 --json

    JSON has name, model, parameters, image_size, dtype, backend, device,
    versions, results; these have batch_size, first_s, rounds, median_s, p10_s,
    p90_s (seconds of a batch), images_per_s (of the median).
    """
    sizes = _batch_sizes(batch_size)
    overrides = {"dtype": dtype.value}
    if image_size is not None:
        overrides["image_size"] = as_size(image_size)

    import keras
    import numpy as np

    import keras_vit
    from keras_vit.hardware import hardware

    if is_variant(model):
        with progress(f"Building {model}"):
            built = getattr(keras_vit, model)(**overrides)
    else:
        built = load(model, **overrides)
    shape = built.input.shape[1:]
    if None in shape:
        raise ValueError(
            f"{model} takes images of any size: say which, --image-size 224 for example."
        )
    noise = np.random.default_rng(0)
    results = []
    for size in sizes:
        images = noise.uniform(-1, 1, (size, *shape)).astype("float32")
        results.append(measure(lambda x=images: built.predict_on_batch(x), size, rounds))
    found = {
        "name": model,
        "model": type(built).__name__,
        "parameters": built.count_params(),
        "image_size": shape[:2],
        "dtype": dtype.value,
        "backend": keras.backend.backend(),
        "device": hardware(),
        "versions": versions(keras.backend.backend()),
        "results": results,
    }
    if as_json:
        print_json(found)
    else:
        _print(found)


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
    packages = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    typer.echo(
        f"{found['name']}: {found['model']}, {found['parameters']:,} parameters, "
        f"{height} x {width} pixels, {found['dtype']}\n"
        f"{found['backend']} on {found['device']}; {packages}\n"
    )
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
