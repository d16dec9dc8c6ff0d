"""How tests call the command."""

from typer.testing import CliRunner

from keras_vit import cli


def run(*arguments):
    """The result of `keras-vit ARGUMENTS`, in this process."""
    return CliRunner().invoke(cli.app, list(map(str, arguments)))
