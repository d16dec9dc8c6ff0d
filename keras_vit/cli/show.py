"""keras-vit show: what a model is, layer by layer."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from keras_vit.cli.common import (
    ImageSize,
    Json,
    Part,
    Prefix,
    as_size,
    echo,
    load,
    print_json,
    print_table,
    progress,
    variant,
)
from keras_vit.terminal import printable


def show(
    model: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A name of the catalogue, a variant (ViTBase), a hub id, a folder or a file.",
        ),
    ],
    image_size: ImageSize = None,
    part: Part = None,
    prefix: Prefix = None,
    as_json: Json = False,
):
    """Show shapes, parameters, MACs and activation memory of a model by layer.

    Nothing is downloaded for a name of the catalogue or a variant: how they are
    built is known. Other hub ids are loaded, weights and all.

    Examples:

        keras-vit show deit3_base_patch16_224.fb_in1k
        keras-vit show SwinTiny --image-size 384x512
        keras-vit show google/vit-base-patch16-224 --json

    MACs are multiply-accumulates of one image. Activations are what training
    keeps of it with fused attention.

    JSON has name, checkpoint (as in the list, or null), model, image_size,
    num_classes, parameters, macs, activation_bytes, scores_bytes, layers; these
    have layer, kind, shape (without the batch), parameters, macs,
    activation_bytes.
    """
    from keras_vit.checkpoints.catalog import catalog

    model = variant(model) or model
    name = model.removeprefix("hf://").removeprefix("timm/")
    entry = None if Path(model).exists() else catalog().get(name)
    overrides = {} if image_size is None else {"image_size": as_size(image_size)}
    if entry is None and variant(model) is None:
        built = load(model, part=part, prefix=prefix, **overrides)
    else:
        with progress(f"Building {model}"):
            built = build(name, entry, **overrides)
    with progress("Counting"):
        cost, rows = layers(built)
    found = {
        "name": model,
        "checkpoint": entry and {"name": name, **dataclasses.asdict(entry)},
        "model": type(built).__name__,
        "image_size": cost.image_size,
        "num_classes": built.get_config()["num_classes"],
        "parameters": cost.parameters,
        "macs": cost.macs,
        "activation_bytes": cost.activation_bytes,
        "scores_bytes": cost.scores_bytes,
        "layers": rows,
    }
    if as_json:
        print_json(found)
    else:
        _print(found, built)


def build(name, entry=None, **overrides):
    """A model of zeros: a variant, or what the catalogue's `entry` says."""
    import keras_vit

    arguments = {}
    if entry is not None:
        arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.arguments.items()}
        arguments["image_size"] = entry.image_size
        arguments["num_classes"] = entry.num_classes or None
        name = entry.variant
    if "image_size" in overrides:
        arguments.pop("position_grid", None)
    with keras_vit.layers.initializers.no_initialization():
        return getattr(keras_vit, name)(**{**arguments, **overrides})


def layers(model):
    """(`Complexity`, list of dicts) of a model and its layers."""
    import keras_vit
    from keras_vit.complexity import trace

    cost = keras_vit.complexity(model)
    rows = [
        {
            "layer": layer,
            "kind": type(call.layer).__name__,
            "shape": call.output_shape,
            "parameters": parameters,
            "macs": macs,
            "activation_bytes": activation_bytes,
        }
        for call, (layer, _, parameters, macs, activation_bytes) in zip(
            trace(model), cost.layers, strict=True
        )
    ]
    return cost, rows


def _print(found, model):
    from keras_vit.table import Table

    checkpoint = found["checkpoint"]
    if checkpoint is not None:
        facts = {key: value for key, value in checkpoint.items() if value not in (None, {})}
        facts.update(facts.pop("arguments", {}))
    else:
        facts = {key: found[key] for key in ("name", "model", "num_classes")}
        if model.preprocessor is not None:
            config = model.preprocessor.get_config()
            keys = ("image_size", "resize", "crop_fraction", "interpolation", "mean", "std")
            keys += ("convention",)
            facts.update({key: config[key] for key in keys})
    for key, value in facts.items():
        echo(f"{key:17} {printable(value)}")
    echo()
    columns = ("layer", "kind", "shape", "parameters", "MACs", "activations, MiB")
    table = Table(columns, [])
    for row in found["layers"]:
        shape = "(" + ", ".join(map(str, ("B", *row["shape"]))) + ")"
        mebibytes = row["activation_bytes"] / 2**20
        table.append((row["layer"], row["kind"], shape, row["parameters"], row["macs"], mebibytes))
    total = found["activation_bytes"] / 2**20
    table.append(("total", "", "", found["parameters"], found["macs"], total))
    print_table(table)
    height, width = found["image_size"]
    echo(
        f"\n{height} x {width} pixels: {found['parameters']:,} parameters, "
        f"{found['macs'] / 1e9:.2f} GMACs, {total:.1f} MiB of activations an image "
        f"({found['scores_bytes'] / 2**20:.1f} MiB more where attention scores are written)"
    )
