"""--part and --prefix: which model of a training checkpoint a command takes."""

import pytest

import keras_vit
from tests.cli.helpers import run
from tests.helpers import once

pytestmark = once
COMMANDS = {
    "predict": ("predict", "photo", "--model", "file"),
    "show": ("show", "file"),
    "attend": ("attend", "photo", "--model", "file", "--json"),
    "export": ("export", "file", "-o", "out"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_names_the_choices_and_takes_one(command, photo, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    names = ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight")
    for content, choices in (
        ({x: {n: torch.full((4, 4), i + 1.0) for n in names} for i, x in enumerate("ab")}, "part"),
        ({f"{x}.{n}": torch.ones(4, 4) for n in names for x in "ab"}, "prefix"),
    ):
        torch.save(content, tmp_path / "file.pth")
        places = {"file": tmp_path / "file.pth", "photo": photo, "out": tmp_path / "vit.onnx"}
        arguments = [places.get(x, x) for x in COMMANDS[command]]
        found = run(*arguments)
        assert found.exit_code == 2
        dot = "." if choices == "prefix" else ""
        words = " ".join(found.stderr.split())
        assert f"choose one with --{choices} a{dot} or --{choices} b{dot}." in words
        taken = []

        def loaded(source, taken=taken, **arguments):
            taken.append({x: arguments[x] for x in ("part", "prefix")})
            raise ValueError("that is enough")

        with monkeypatch.context() as patch:
            patch.setattr(keras_vit, "from_pretrained", loaded)
            run(*arguments, f"--{choices}", "b")
        assert taken == [{"part": None, "prefix": None, choices: "b"}]
