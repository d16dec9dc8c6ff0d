"""Training without its packages names the extra that brings them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import once
from training.terminal import packages

pytestmark = once  # no model is built

DIGITS = ["digits", "--smoke", "--run-dir"]
EXTRA = "'keras-vision-transformers[training]'"


def without(package, module, *arguments, cwd):
    """The finished `python -m MODULE ARGUMENTS` where a package is not installed."""
    code = (
        f"import runpy, sys; sys.modules[{package!r}] = None; sys.argv[0] = {module!r}\n"
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("package", "module", "arguments"),
    [
        ("tensorflow", "training", DIGITS),
        ("tomli_w", "training", DIGITS),
        ("tensorflow", "training.evaluate", ["model.keras", "--source", "digits"]),
        ("tensorflow", "training.show_augmentations", []),
    ],
)
def test_a_command_is_one_line_and_exit_code_2(package, module, arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    arguments = [*arguments, tmp_path / "run"] if arguments == DIGITS else arguments
    found = without(package, module, *arguments, cwd=tmp_path)
    assert found.returncode == 2 and found.stdout == ""
    said = f"error: Training needs {package}, which is not installed: pip install "
    assert found.stderr.startswith(f"{said}{EXTRA}. Received: "), found.stderr
    assert len(found.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("package", "source"), [("sklearn.datasets", "digits"), ("tensorflow_datasets", "tfds:mnist")]
)
def test_a_source_s_package(package, source, monkeypatch, tmp_path, capsys):
    """It is imported when the data is read, so that other sources do without."""
    from training import __main__ as training

    monkeypatch.setitem(sys.modules, package, None)
    run = ["digits", "--set", f"data.source={source}", "--run-dir", str(tmp_path / "run")]
    assert training.main(run) == 2
    said = f"error: Training needs {package.partition('.')[0]}, which is not installed: pip install"
    assert capsys.readouterr().err.startswith(said)


def test_what_is_no_missing_package_is_not_hidden():
    for error in (
        ModuleNotFoundError("No module named 'training.none'", name="training.none"),
        ImportError("cannot import name 'x' from 'numpy'", name="numpy"),
    ):
        with pytest.raises(ImportError) as raised, packages(end=True):
            raise error
        assert raised.value is error
    with pytest.raises(ImportError, match="Training needs scipy, .* Received: none"), packages():
        raise ModuleNotFoundError("none", name="scipy.linalg")
    with pytest.raises(SystemExit), packages(end=True):
        raise ImportError("jax is installed: set KERAS_BACKEND=jax")  # as keras_vit says it
