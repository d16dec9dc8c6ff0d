"""The command `keras-vit`: what checkpoints there are, what one is, what it sees on pictures."""

import dataclasses
from typing import Annotated

import typer

app = typer.Typer(
    help="Vision Transformers for Keras 3.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command("list")
def list_(pattern: Annotated[str, typer.Argument(help="part of a name, or with * and ?")] = "*"):
    """List the known checkpoints: keras-vit list 'vit_base*augreg*'"""
    from keras_vit.checkpoints.catalog import list_checkpoints

    found = list_checkpoints(pattern)
    if not found:
        _fail(f"No checkpoint is named like {pattern!r}; keras-vit list shows all.")
    typer.echo(str(found))


@app.command()
def show(name: Annotated[str, typer.Argument(help="a name of the list")]):
    """Show one checkpoint: keras-vit show deit_tiny_patch16_224.fb_in1k"""
    from keras_vit.checkpoints.catalog import catalog, nearest

    if name not in catalog():
        _fail(f"There is no checkpoint {name!r}. Near: {', '.join(nearest(name))}")
    for key, value in dataclasses.asdict(catalog()[name]).items():
        if value is not None:
            typer.echo(f"{key:14} {value}")


@app.command()
def predict(
    pictures: Annotated[list[str], typer.Argument(help="picture files")],
    model: Annotated[str, typer.Option(help="a name, hub id, folder or file")],
    top: Annotated[int, typer.Option(min=1, help="classes to name")] = 5,
):
    """Name what is on pictures: keras-vit predict cat.jpg --model google/vit-base-patch16-224"""
    import keras_vit

    failed = False
    try:
        loaded = keras_vit.from_pretrained(model)
    except ValueError as error:
        _fail(str(error))
    for picture in pictures:
        try:
            (found,) = loaded.predict_images([picture], top=top)
        except ValueError as error:
            typer.echo(f"error: {error}", err=True)
            failed = True
            continue
        typer.echo(picture)
        for label, probability in found:
            typer.echo(f"  {100 * probability:5.1f} %  {label}")
    if failed:
        raise typer.Exit(1)


def _fail(message):
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)


def main():
    app()
