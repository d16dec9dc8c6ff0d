"""What the commands share: text, JSON, tables, progress, models by name."""

import contextlib
import json
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from keras_vit.terminal import printable

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout instead.")]

ImageSize = Annotated[
    str | None,
    typer.Option(metavar="N|HxW", help="Pixels, such as 384 or 384x512; by default its own size."),
]


def as_size(text):
    """(H, W) of "384" or "384x512"."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not found:
        raise ValueError(
            f"The image size must be pixels, such as 384 or 384x512 (height x width). "
            f"Received: {text!r}"
        )
    return int(found[1]), int(found[2] or found[1])


def is_variant(name):
    """Whether it is the name of a variant, such as ViTBase, and of no file or folder."""
    import keras_vit

    return not Path(name).exists() and name in {row[0] for row in keras_vit.list_models()}


def load(source, **overrides):
    """`keras_vit.from_pretrained`; what it says goes to stderr."""
    import keras_vit
    from keras_vit.checkpoints.sources import locate

    if not Path(source).exists():
        locate(source)  # first, because a download shows bars of its own
    with contextlib.redirect_stdout(sys.stderr), progress(f"Loading {source}"):
        return keras_vit.from_pretrained(source, **overrides)


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
