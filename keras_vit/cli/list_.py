"""keras-vit list: the checkpoints that are known by name, and the variants."""

import dataclasses
from typing import Annotated

import typer

from keras_vit.cli.common import Json, print_json, print_table


def list_(
    pattern: Annotated[
        str, typer.Argument(help="Part of a name, or the whole of it with * and ?; or a variant.")
    ] = "*",
    models: Annotated[
        bool, typer.Option("--models", help="The variants that can be built instead.")
    ] = False,
    as_json: Json = False,
):
    """List the known checkpoints, or the models.

    Examples:

        keras-vit list
        keras-vit list 'vit_base*augreg*'
        keras-vit list ViTTiny
        keras-vit list swin --models --json

    JSON is a list. Checkpoints have name, variant, arguments (of the variant,
    where they are not its defaults), source (hub id), licence, accuracy,
    image_size, patch_size, num_classes, mean, std, crop_fraction,
    interpolation, resize, original, sha256_start. Models have variant, family,
    pixels, parameters, gmacs, accuracy, checkpoint.
    """
    if models:
        import keras_vit

        found = keras_vit.list_models(pattern)
        keys = ("variant", "family", "pixels", "parameters", "gmacs", "accuracy", "checkpoint")
        rows = [dict(zip(keys, row, strict=True)) for row in found]
        for row in rows:
            row["pixels"], row["gmacs"] = int(row["pixels"]), float(row["gmacs"])
            row["accuracy"] = float(row["accuracy"]) if row["accuracy"] else None
            row["checkpoint"] = row["checkpoint"] or None
    else:
        from keras_vit.checkpoints.catalog import catalog, list_checkpoints

        found = list_checkpoints(pattern)
        rows = [{"name": row[0], **dataclasses.asdict(catalog()[row[0]])} for row in found]
    if not found:
        kind = "model" if models else "checkpoint"
        raise ValueError(
            f"No {kind} is named like the pattern; keras-vit list{' --models' * models} shows all. "
            f"Received: {pattern!r}"
        )
    if as_json:
        print_json(rows)
    else:
        print_table(found)
