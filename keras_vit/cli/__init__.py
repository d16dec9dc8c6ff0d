"""The command `keras-vit`: a command a file, each a plain function, registered by one line here.

What is wrong with a call is a ValueError, raised anywhere in the library; it becomes one line on
stderr and exit code 2. Exit code 1 says that some of the work failed. Commands import what they
need when they run, so that help and lists are there at once (`keras_vit_command.py`).
"""

import typer
from typer.core import TyperGroup

from keras_vit.cli.attend import attend
from keras_vit.cli.bench import bench
from keras_vit.cli.export import export
from keras_vit.cli.list_ import list_
from keras_vit.cli.predict import predict
from keras_vit.cli.show import show
from keras_vit.terminal import printable

HELP = """Vision Transformers for Keras 3.

Exit codes: 0 all went well; 1 some of the work failed, which is named; 2 the
call was wrong. With --json stdout is one JSON document.
"""


class Commands(TyperGroup):
    """Turns what was wrong with a call into a message and exit code 2."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except ValueError as error:
            typer.echo(f"error: {printable(error, lines=True)}", err=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=Commands,
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("list")(list_)
app.command()(show)
app.command()(predict)
app.command()(attend)
app.command()(export)
app.command()(bench)
