"""What the commands share: JSON, tables, progress, models by name."""

import contextlib
import json
import sys
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout instead.")]


def print_json(value):
    """Prints one JSON document."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(table):
    """Prints a `keras_vit.table.Table`; on a terminal with a bold header, and cells that wrap."""
    if not sys.stdout.isatty():
        typer.echo(str(table))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from keras_vit.table import cell_text

    columns = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in zip(table.header, table[-1] if table else table.header, strict=True):
        justify = "right" if isinstance(value, (int, float)) else "left"
        columns.add_column(Text(name), justify=justify, overflow="fold")
    for row in table:
        columns.add_row(*(Text(cell_text(value)) for value in row))
    Console(highlight=False).print(columns)


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
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = [TextColumn("{task.description}"), BarColumn()]
    columns += [MofNCompleteColumn()] if total is not None else []
    console = Console(stderr=True)
    bar = Progress(
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(description, total=total)
        yield lambda steps=1: bar.advance(task, steps)
