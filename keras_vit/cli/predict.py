"""keras-vit predict: what is on pictures."""

from typing import Annotated

import typer


def predict(
    pictures: Annotated[list[str], typer.Argument(help="picture files")],
    model: Annotated[str, typer.Option(help="a name, hub id, folder or file")],
    top: Annotated[int, typer.Option(min=1, help="classes to name")] = 5,
):
    """Name what is on pictures.

    Examples:

        keras-vit predict cat.jpg --model google/vit-base-patch16-224
    """
    import keras_vit

    failed = False
    loaded = keras_vit.from_pretrained(model)
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
