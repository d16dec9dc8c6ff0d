"""An installed copy: what a wheel holds, and the commands of `training` in it."""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import keras_vit
from keras_vit import listing
from keras_vit.checkpoints.catalog import catalog
from tests import wheel
from tests.helpers import once
from training import __main__ as training
from training import evaluate

ROOT = Path(__file__).parents[1]
pytestmark = once  # how it is packed; a process of its own has this backend


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return wheel.build(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def site(built, tmp_path_factory):
    """A folder of installed packages with nothing but this one."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(built) as file:
        file.extractall(folder)
    return folder


@pytest.fixture
def run(site, tmp_path):
    """Runs Python in a folder with a `training.py` of somebody's own, which must not be taken."""
    (tmp_path / "training.py").write_text("raise SystemExit('the wrong training')")

    def run(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(site)}
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return run


def metadata(file):
    with zipfile.ZipFile(file) as opened:
        (name,) = (x for x in opened.namelist() if x.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(opened.read(name))


def test_the_wheel_has_all_of_keras_vit_and_no_other_name(built):
    assert not list(wheel.faults(built))
    names = set(zipfile.ZipFile(built).namelist())
    ours = [x for x in (ROOT / "keras_vit").rglob("*.py") if "training" not in x.parts]
    ours = {x.relative_to(ROOT).as_posix() for x in ours}
    training = [x for x in (ROOT / "training").rglob("*") if x.suffix in (".py", ".toml")]
    ours |= {f"keras_vit/{x.relative_to(ROOT).as_posix()}" for x in training}
    data = {f"keras_vit/{x}" for x in wheel.FILES}
    assert {x for x in names if not x.startswith("keras_vision_transformers-")} == ours | data


def test_the_metadata(built):
    found = metadata(built)
    assert found["Name"] == "keras-vision-transformers"
    assert found["Version"] == keras_vit.__version__
    assert found["Author"] == "The keras_vit authors"
    assert found["Description-Content-Type"] == "text/markdown"
    assert found.get_payload().strip().startswith("# keras_vit")
    scripts = zipfile.ZipFile(built).read(
        f"keras_vision_transformers-{keras_vit.__version__}.dist-info/entry_points.txt"
    )
    assert "keras-vit = keras_vit.__main__:main" in scripts.decode()


def test_links_are_made_of_the_address_that_stands_in_one_place(tmp_path):
    """PyPI shows the page without the files beside it."""
    address = "https://example.org/somebody/something"
    found = metadata(wheel.build(tmp_path, address))
    tag = f"v{keras_vit.__version__}"
    assert f"Changelog, {address}/blob/{tag}/CHANGELOG.md" in found.get_all("Project-URL")
    page = found.get_payload(decode=True).decode()
    links = re.findall(r"\]\(([^)\s]+)\)", page) + re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    assert links and all(re.match("https?:|#", link) for link in links)
    ours = [x.removeprefix(address) for x in links if x.startswith(address)]
    for link in ours:
        view, path = re.fullmatch(rf"/(blob|raw)/{tag}/([^#]+)(?:#.*)?", link).groups()
        assert (ROOT / path).exists(), link
        assert (view == "raw") == (Path(path).suffix in (".webp", ".png", ".svg")), link
    assert len(ours) >= 5
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    address = project["tool"]["keras_vit"]["repository"]
    for file in (ROOT / "README.md", ROOT / "CITATION.cff", ROOT / "setup.py"):
        assert not address or address not in file.read_text(encoding="utf-8")


# Calls of the command in one process, in which somebody's own `training` is imported too.
CALLS = """
import json, sys, types
sys.modules["training"] = types.ModuleType("training")
from typer.testing import CliRunner
from keras_vit.cli import app
import keras_vit, keras_vit.training.evaluate
from keras_vit import listing
from keras_vit.checkpoints import catalog
from keras_vit.training import recipe

def called(*arguments):
    found = CliRunner().invoke(app, arguments)
    return {"code": found.exit_code, "out": found.stdout, "err": found.stderr}

found = {" ".join(call): called(*call) for call in (
    ("train", "--help"), ("evaluate", "--help"), ("train", "digit"), ("train",),
    ("evaluate", "run", "--json"))}
def main(arguments): raise ValueError("broken")
keras_vit.training.evaluate.main = main
found["bug"] = called("evaluate", "run")
found["files"] = [
    keras_vit.__file__, str(recipe.find("digits")), len(listing.costs()),
    len(catalog.catalog()), len(catalog.imagenet_names())]
del sys.modules["training"]
sys.path.append(sys.argv[1])
try:
    import training.cnn
except ImportError as error:
    found["twice"] = str(error)
print(json.dumps(found))
"""


def test_train_and_evaluate(run, site, tmp_path):
    """Beside a training.py; the report and the recipe name the command that was used."""
    done = run("-m", "keras_vit", "train", "cifar10_teacher", "--smoke", "--run-dir", "run")
    assert done.returncode == 0, done.stderr
    assert "largest difference" in done.stdout  # exported by a process that knows the class
    report = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "keras-vit train run/recipe.toml --run-dir run --resume" in report
    assert "keras-vit evaluate run --source" in report and "-m training" not in report
    first = (tmp_path / "run" / "recipe.toml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# As run by keras-vit train with keras_vit")

    done = run("-P", "-c", CALLS, ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["evaluate run --json"]["code"] == 0
    assert json.loads(found["evaluate run --json"]["out"])["model"] == "run"

    # Options and exit codes are those of the modules.
    for command, module in (("train", training), ("evaluate", evaluate)):
        shown = found[f"{command} --help"]
        assert shown["code"] == 0 and f"usage: keras-vit {command} " in shown["out"]
        assert f"keras-vit {command}" in shown["out"].partition("examples:")[2]
        assert "python -m" not in shown["out"]
        assert options(shown["out"]) == options(module._parser().format_help())
    assert found["train"]["code"] == found["train digit"]["code"] == 2
    assert found["train digit"]["err"].startswith("error: Unknown recipe 'digit'")
    assert found["bug"]["code"] == 1
    assert "Traceback" in found["bug"]["err"] and "error: broken" not in found["bug"]["err"]

    # What is read lies in the wheel.
    library, recipe, *counts = found["files"]
    assert Path(library).is_relative_to(site) and Path(recipe).is_relative_to(site)
    assert counts == [len(listing.costs()), len(catalog()), 1000]
    assert "Expected: keras_vit.training, which is imported already" in found["twice"]


def options(text):
    """What a command takes, of its --help."""
    return re.findall(r"^  (-\S+|\w+)", text.partition("examples:")[0], re.MULTILINE)


def test_a_checkout_that_is_not_installed_says_what_to_do(tmp_path):
    """Nor does it take the training of an installed copy elsewhere."""
    (tmp_path / "keras_vit").symlink_to(ROOT / "keras_vit")
    shutil.copytree(ROOT / "keras_vit", tmp_path / "copy" / "keras_vit")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "copy")}
    command = [sys.executable, "-m", "keras_vit", "train", "digits"]
    found = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True)
    assert found.returncode == 2, found.stderr
    assert "Expected: pip install -e FOLDER, or python -m training" in found.stderr
