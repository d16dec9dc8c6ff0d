"""keras-vit show: what the catalogue knows of a checkpoint."""

import dataclasses
from typing import Annotated

import typer


def show(name: Annotated[str, typer.Argument(help="A name of the list.")]):
    """Show one checkpoint.

    Examples:

        keras-vit show deit_tiny_patch16_224.fb_in1k
    """
    from keras_vit.checkpoints.catalog import catalog, nearest

    if name not in catalog():
        raise ValueError(f"There is no checkpoint {name!r}. Near: {', '.join(nearest(name))}")
    for key, value in dataclasses.asdict(catalog()[name]).items():
        if value is not None:
            typer.echo(f"{key:14} {value}")
