"""Errors of the library, as a command says them."""

import ast
from pathlib import Path

import pytest
import typer

import keras_vit
from keras_vit.cli import app
from keras_vit.cli.wording import PHRASES, in_flags
from tests.cli.helpers import run
from tests.helpers import once

pytestmark = once


@pytest.mark.parametrize(
    ("command", "text", "expected"),
    [
        (
            "export",
            "precision='int8_static' needs calibration=..., some dozens. Received: None",
            "--precision int8_static needs --calibration, some dozens. Received: None",
        ),
        (
            "export",
            "onnx decodes no JPEG: send pixels, inputs='pixels'. Received: format='onnx', "
            "inputs='jpeg', precision=None, compute_dtype='float32'",
            "onnx decodes no JPEG: send pixels, --inputs pixels. Received: format='onnx', "
            "--inputs jpeg, compute_dtype='float32'",
        ),
        ("export", "precision=<Precision.int8: 'int8'>.", "--precision int8."),
        (
            "export",
            "path must end in .onnx. Received: x",
            "--output must end in .onnx. Received: x",
        ),
        ("show", "path must end", "path must end"),  # it has no such flag
        (
            "show",
            "image_size must be a multiple. Received: image_size=(225, 224), patch_size=16.",
            "--image-size must be a multiple. Received: --image-size 225x224, patch_size=16.",
        ),
        ("show", "my_image_size=3", "my_image_size=3"),
        ("predict", "a name (keras_vit.list_checkpoints())", "a name (keras-vit list)"),
        (
            "attend",
            "heads must be from 0 to 3. Received: heads=[4]",
            "--head must be from 0 to 3. Received: --head [4]",
        ),
        (
            "attend",
            "Use keras_vit.grad_cam(model, images), or attention_maps of single blocks.",
            "Use --kind grad-cam, or --kind heads of single blocks.",
        ),
        (
            "show",
            "x does not say how many heads its attention has: pass num_heads=. Received: 3",
            "x does not say how many heads its attention has: pass num_heads=. Received: 3 In "
            "Python keras_vit.from_pretrained takes that, and keras_vit.save_pretrained writes a "
            "folder that says it.",
        ),
    ],
)
def test_arguments_become_flags(command, text, expected):
    commands = typer.main.get_command(app).commands
    assert in_flags(text, commands[command]) == expected


def test_errors_of_the_library_come_in_flags():
    for arguments, said in [
        (["show", "ViTTiny", "--image-size", "25"], "--image-size 25x25"),
        (["show", "ViTTiny", "--image-size", "0"], "error: --image-size must be a positive"),
        (["bench", "ViTTiny", "--image-size", "25"], "--image-size 25x25"),
        (["export", "ViTTiny", "-o", "x.onnx", "--image-size", "25"], "--image-size 25x25"),
        (["predict", "x.jpg", "--model", "ViTTiny", "--top", "0"], "--top"),
        (["predict", "x.jpg", "--model", "ViTTiny", "--batch-size", "a"], "--batch-size"),
    ]:
        found = run(*arguments)
        assert found.exit_code == 2 and said in found.stderr, found.stderr
        assert "image_size=" not in found.stderr


def test_a_warning_is_a_line(monkeypatch):
    import warnings

    from keras_vit.checkpoints import catalog

    def table(pattern):
        warnings.warn("image_size=(2, 3) is odd", stacklevel=2)
        return list(catalog.catalog())[:0]

    monkeypatch.setattr(catalog, "list_checkpoints", table)
    found = run("list", "nothing")
    assert found.stderr.startswith("warning: image_size=(2, 3) is odd\nerror: No checkpoint")


def test_the_library_says_every_phrase():
    """A phrase that the library words anew would reach the user as it is."""
    texts = []
    for file in Path(keras_vit.__file__).parent.rglob("*.py"):
        if file.name != "wording.py":
            tree = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            parts = (x.values if isinstance(x, ast.JoinedStr) else [x] for x in tree)
            texts += ["".join(getattr(x, "value", "") for x in y if _is_text(x)) for y in parts]
    for phrase, _ in PHRASES:
        assert any(phrase in text for text in texts), phrase


def _is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
