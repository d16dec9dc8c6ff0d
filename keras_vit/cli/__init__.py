"""The command `keras-vit`: a command a file, each a plain function, registered by one line here.

What is wrong with a call is a ValueError, raised anywhere in the library, or an OSError that names
a file; it becomes one line on stderr, in the words of the command, and exit code 2. A warning is a
line too. Exit code 1 says that some of the work failed. Commands import what they need when they
run, so that help and lists are there at once (`keras_vit/waiting.py`).
"""

import warnings
from typing import Annotated

import typer
from typer.core import TyperGroup

from keras_vit.cli.attend import attend
from keras_vit.cli.bench import bench
from keras_vit.cli.detect import detect
from keras_vit.cli.export import export
from keras_vit.cli.list_ import list_
from keras_vit.cli.predict import predict
from keras_vit.cli.segment import segment
from keras_vit.cli.show import show
from keras_vit.cli.train import AS_THEY_ARE, evaluate, train
from keras_vit.cli.wording import in_flags
from keras_vit.terminal import printable
from keras_vit.version import __version__

HELP = """Vision Transformers for Keras 3.

Exit codes: 0 all went well; 1 some of the work failed, which is named; 2 the
call was wrong. With --json stdout is one JSON document.
"""


class Commands(TyperGroup):
    """Turns what was wrong with a call into a message and exit code 2."""

    def invoke(self, ctx):
        def say(kind, message):
            command = self.get_command(ctx, ctx.invoked_subcommand)
            text = printable(in_flags(str(message), command), lines=True)
            typer.echo(f"{kind}: {text}", err=True)

        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: say("warning", message)
            try:
                return super().invoke(ctx)
            except ValueError as error:
                say("error", error)
                raise typer.Exit(2) from error
            except OSError as error:
                if error.filename is None:
                    raise
                say("error", f"{error.filename}: {error.strerror}")
                raise typer.Exit(2) from error


def print_version(wanted: bool):
    """Prints the version and ends the command."""
    if wanted:
        typer.echo(f"keras-vit {__version__}")
        raise typer.Exit


def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=print_version, help="Print the version and exit."
        ),
    ] = False,
):
    """What stands before a command."""


app = typer.Typer(
    cls=Commands,
    callback=options,
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("list")(list_)
app.command()(show)
app.command()(predict)
app.command()(attend)
app.command()(segment)
app.command()(detect)
app.command()(export)
app.command()(bench)
app.command(**AS_THEY_ARE)(train)
app.command(**AS_THEY_ARE)(evaluate)
