"""The commands: their arguments, exit codes and errors of calls, and the keys of --json."""

import argparse
import contextlib
import enum
import inspect
import io
import json
import tempfile
import typing
from pathlib import Path
from unittest import mock

import numpy as np
import typer
from PIL import Image

import keras_vit
from keras_vit.cli import app
from tests.cli.helpers import run
from tests.helpers import tiny_vit
from tests.snapshots.keys import keys
from training import __main__ as training
from training import evaluate, show_augmentations

MODULES = {
    "python -m training": training,
    "python -m training.evaluate": evaluate,
    "python -m training.show_augmentations": show_augmentations,
}

# Whose options are those of a module, which is called `keras_vit.training` there.
FORWARDED = {"train": "python -m training", "evaluate": "python -m training.evaluate"}

# Calls in a folder with a model, an export of it, a photo and a broken one; what they print with
# --json is in the file too. What a training ends with is in run_folder.txt.
CALLS = (
    "keras-vit --help",
    "keras-vit --version",
    "keras-vit",
    "keras-vit shows",
    "keras-vit list deit_tiny_patch16_224.fb_in1k --json",
    "keras-vit list vit_base_patch16_siglip* --json",
    "keras-vit list ViT --models --json",
    "keras-vit list vittiny --json",
    "keras-vit list alexnet",
    "keras-vit show model --json",
    "keras-vit show deit_tiny_patch16_224.fb_in1k --json",
    "keras-vit show vittiny --image-size 32 --json",
    "keras-vit show ViTTiny --image-size 25",
    "keras-vit show nothing",
    "keras-vit predict photo.png --model model --json",
    "keras-vit predict photo.png broken.png --model model --json",
    "keras-vit predict nothing.png --model model",
    "keras-vit predict photo.png --model nothing.keras",
    "keras-vit predict photo.png --model model --top 5",
    "keras-vit predict photo.png --model model.keras",
    "keras-vit predict photo.png",
    "keras-vit attend photo.png --model model --json",
    "keras-vit attend photo.png --model model --kind rollout --json",
    "keras-vit attend photo.png --model model --kind attribution --class bee --json",
    "keras-vit attend photo.png --model model --kind grad-cam --class bee --json",
    "keras-vit attend --model model --kind positions --json",
    "keras-vit attend --model model --kind filters --json",
    "keras-vit attend photo.png --model model --kind attribution --class cats --json",
    "keras-vit attend photo.png --model model",
    "keras-vit segment photo.png --model model -o out",
    "keras-vit export model -o model.pt2 --json",
    "keras-vit export model -o model.pt2",
    "keras-vit export model -o model.doc",
    "keras-vit export model -o model.onnx --inputs jpeg",
    "keras-vit bench model --batch-size 1 --rounds 1 --json",
    "keras-vit bench model.pt2 --batch-size 1 --rounds 1 --json",
    "keras-vit bench model --batch-size none",
    "python -m training --help",
    "python -m training",
    "python -m training digit",
    "python -m training digits --resume --new",
    "WORLD_SIZE=2 python -m training digits",
    "python -m training.evaluate --help",
    "python -m training.evaluate model.keras --source digits --json",
    "python -m training.evaluate model.keras",
    "python -m training.evaluate nothing --source digits",
    "python -m training.show_augmentations --help",
    "python -m training.show_augmentations photo.png photo.png --recipe digits -o drawn.png",
    "python -m training.show_augmentations photo.png broken.png",
    "python -m training.show_augmentations photo.png",
)


def lines():
    """The arguments of all commands, a line each, and then the calls with what they end with."""
    functions = {x.name or x.callback.__name__: x.callback for x in app.registered_commands}
    for name, command in typer.main.get_command(app).commands.items():
        yield f"# keras-vit {name}"
        if name in FORWARDED:
            yield f"those of {FORWARDED[name]}"
        annotations = inspect.signature(functions[name]).parameters
        for parameter in command.params:
            yield of_typer(parameter, annotations[parameter.name].annotation)
        yield ""
    for name, module in MODULES.items():
        yield f"# {name}"
        yield from of_argparse(module.main)
        yield ""
    yield "# Exit codes, the errors of keras-vit, and the keys of --json"
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        fill(Path(folder))
        for call in CALLS:
            code, printed, said = called(call)
            yield f"{code}  {call}"
            if code == 2 and call.startswith("keras-vit") and said.startswith("error: "):
                yield f"       {said.splitlines()[0]}"
            elif call.endswith("--json"):
                yield from (f"       {key}" for key in keys(json.loads(printed)))


def of_typer(parameter, annotation):
    """A line for an argument or an option of `keras-vit`."""
    said = [", ".join(parameter.opts), kind(annotation.__origin__)]
    if parameter.required:
        said.append("required")
    elif parameter.default is not None and parameter.default is not False:
        said.append(f"= {parameter.default!s}")
    return " ".join(said)


def kind(annotation):
    """The type of an argument in words, or what there is to choose from."""
    for one in (annotation, *typing.get_args(annotation)):
        if isinstance(one, type) and issubclass(one, enum.Enum):
            return "|".join(one)
    if annotation is bool:
        return "flag"
    return annotation.__name__ if type(annotation) is type else str(annotation)


class Parsing(Exception):
    """A command has made its parser, which is the argument."""


def of_argparse(main):
    """A line for an argument or an option of a command with argparse."""

    def parse_args(parser, *arguments):
        raise Parsing(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", parse_args):
        try:
            main()
        except Parsing as found:
            (parser,) = found.args
    for action in parser._actions:
        said = [", ".join(action.option_strings) or action.dest]
        said.append(getattr(action.type, "__name__", "flag" if action.nargs == 0 else "text"))
        several = action.nargs == "*" or isinstance(action, argparse._AppendAction)
        if several:
            said.append("several")
        elif action.required:
            said.append("required")
        elif action.nargs != 0 and action.default is not None:
            said.append(f"= {str(action.default)!r}")
        yield " ".join(said)


def fill(folder):
    """What the calls are about."""
    names = ["ant", "bee", "cat", "dog"]
    preprocessor = keras_vit.Preprocessor((24, 16), "squash", 1.0)
    model = tiny_vit(width=32, preprocessor=preprocessor, class_names=names)
    keras_vit.save_pretrained(model, folder / "model", "hf")
    digits = dict(image_size=8, patch_size=4, num_channels=1, num_classes=10)
    tiny_vit(**digits, include_preprocessing=True).save(folder / "model.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3)).astype("uint8")
    Image.fromarray(pixels).save(folder / "photo.png")
    (folder / "broken.png").write_bytes((folder / "photo.png").read_bytes()[:100])


def called(call):
    """(exit code, what it prints, what it says on stderr) of a call, made in this process."""
    setting, _, command = call.rpartition("python -m ")
    program, *arguments = command.split()
    if program == "keras-vit":
        found = run(*arguments)
        return found.exit_code, found.stdout, found.stderr
    main = MODULES[f"python -m {program}"].main
    with (
        mock.patch("sys.argv", [program, *arguments]),
        mock.patch.dict("os.environ", [x.split("=") for x in setting.split()]),
        contextlib.redirect_stdout(io.StringIO()) as printed,
        contextlib.redirect_stderr(io.StringIO()) as said,
    ):
        try:
            code = main()
        except SystemExit as end:
            code = end.code
    return code, printed.getvalue(), said.getvalue()
