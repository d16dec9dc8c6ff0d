"""What the commands share: text, JSON, tables, progress, models by name."""

import contextlib
import json
import re
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from keras_vit.terminal import printable

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout instead.")]

ImageSize = Annotated[
    str | None,
    typer.Option(metavar="N|HxW", help="Pixels, such as 384 or 384x512; by default its own size."),
]

Like = Annotated[
    str | None,
    typer.Option(help="A name of the catalogue, whose preprocessing a bare file takes."),
]

Part = Annotated[
    str | None,
    typer.Option(help="Of a training checkpoint with several models: the dict to load."),
]
Prefix = Annotated[
    str | None,
    typer.Option(help="What stands before the names of the model to load, such as module."),
]


def as_size(text):
    """(H, W) of "384" or "384x512"."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not found:
        raise ValueError(
            "--image-size must be pixels, such as 384 or 384x512 (height x width). "
            f"Received: {text!r}"
        )
    return int(found[1]), int(found[2] or found[1])


def variant(name):
    """The variant of this name in any case, such as ViTBase; None for others, files and folders."""
    from keras_vit.checkpoints.variants import find_variant

    return None if Path(name).exists() else find_variant(name)


def load(source, like=None, part=None, prefix=None, **overrides):
    """`keras_vit.from_pretrained`; what it says goes to stderr."""
    import keras_vit
    from keras_vit.checkpoints.sources import locate

    if not Path(source).exists():
        locate(source)  # first, because a download shows bars of its own
    with (
        contextlib.redirect_stdout(sys.stderr),
        warnings.catch_warnings(),
        progress(f"Loading {source}"),
    ):
        # `check_preprocessing` says it where pictures are prepared.
        warnings.filterwarnings("ignore", message=".* says nothing of preprocessing")
        return keras_vit.from_pretrained(source, like=like, part=part, prefix=prefix, **overrides)


def build_or_load(source, like=None, part=None, prefix=None, **overrides):
    """A variant with random weights, or what `load` gives of any other source."""
    name = variant(source)
    if name is None:
        return load(source, like, part, prefix, **overrides)
    import keras_vit
    from keras_vit.checkpoints.like import borrowed, entry_like

    with progress(f"Building {name}"):
        model = getattr(keras_vit, name)(**overrides)
    if like is not None:
        model.preprocessor = borrowed(entry_like(like), model.get_config())["preprocessor"]
    return model


def check_preprocessing(model, source):
    """Raises for a model of which nobody knows how pictures are prepared for it."""
    if model.preprocessor is None:
        raise ValueError(
            f"{source} says nothing of preprocessing, which pictures need. Expected: --like and a "
            "name of keras-vit list that was trained with the same. Received: no --like"
        )


def echo(text="", err=False):
    """Prints lines, on stderr if `err`, with nothing in them that steers a terminal."""
    typer.echo(printable(text, lines=True), err=err)


def print_json(value):
    """Prints one JSON document."""
    typer.echo(json.dumps(value, indent=2))


def print_table(table):
    """Prints a `keras_vit.table.Table`, on a terminal with a bold header."""
    header, *rows = str(table).splitlines()
    typer.echo("\n".join([typer.style(header, bold=True), *rows]))  # echo keeps style off pipes


@contextlib.contextmanager
def progress(description, total=None):
    """A bar on stderr that vanishes at the end, on a terminal alone; without `total` it swings.

    Returns:
        Context manager that gives a function to call after every step.

    Example:
        >>> with progress("Looking", total=len(pictures)) as advance:
        ...     advance()
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = [TextColumn("{task.description}"), BarColumn()]
    columns += [MofNCompleteColumn()] if total is not None else []
    console = Console(stderr=True)
    bar = Progress(
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # or what goes into a file would go to the terminal
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(escape(printable(description)), total=total)
        yield lambda steps=1: bar.advance(task, steps)


def print_entries(entries, total, doing, as_json, show):
    """Prints what was found in pictures, one after the other; exits with 1 if some have an error.

    Args:
        entries: iterable of dicts, one per picture; "error" is a key where it could not be read.
        total: int, number of pictures.
        doing: str, what the progress bar says.
        as_json: bool, whether to print one list of JSON.
        show: function that prints an entry otherwise.
    """
    failed = 0
    with progress(doing, total=total) as advance:
        for number, entry in enumerate(entries):
            failed += "error" in entry
            if as_json:
                typer.echo(("[\n" if number == 0 else ",\n") + json.dumps(entry), nl=False)
            else:
                show(entry)
            advance()
    if as_json:
        typer.echo("\n]")
    if failed:
        if total > 1:
            echo(f"error: {failed} of {total} pictures could not be read", err=True)
        raise typer.Exit(1)
