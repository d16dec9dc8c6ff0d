"""keras-vit train and keras-vit evaluate: the commands of `training`, with all their options.

An installed copy has the folder `training` as `keras_vit.training`.
"""

import traceback
from pathlib import Path

import typer

AS_THEY_ARE = {  # arguments are handed on, --help too
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
    "add_help_option": False,
}


def train(context: typer.Context):
    """Train a model by a recipe, with tf.data and model.fit."""
    _check_installed()
    from keras_vit.training.__main__ import main

    _run(main, context.args)


def evaluate(context: typer.Context):
    """Evaluate any model on the images of any source."""
    _check_installed()
    from keras_vit.training.terminal import packages

    with packages(end=True):
        from keras_vit.training.evaluate import main

    _run(main, context.args)


def _check_installed():
    """Raises in a checkout that nobody installed, also where an installed copy lies elsewhere."""
    from keras_vit import layers  # noqa: F401, its first name runs all of keras_vit/__init__.py

    library = Path(__file__).resolve().parents[1]
    try:
        import keras_vit.training

        found = Path(keras_vit.training.__file__).resolve().parent
    except ModuleNotFoundError:
        found = None
    if found not in (library / "training", library.parent / "training"):
        raise ValueError(
            "This command is that of an installed copy. Expected: pip install -e FOLDER, or "
            f"python -m training in the folder. Received: {library.parent}, which is not installed"
        )


def _run(main, arguments):
    """Ends with the command's exit code; its mistakes of the user are messages already."""
    try:
        code = main(arguments)
    except ValueError:  # a bug, which the group of commands would take for a wrong call
        traceback.print_exc()
        code = 1
    raise typer.Exit(code)
