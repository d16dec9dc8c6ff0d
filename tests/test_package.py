"""What is installed: its name, its version, and what a wheel holds."""

import re
import tomllib
from pathlib import Path

import keras_vit
from tests.helpers import once

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAME = "keras-vision-transformers"
# Where a person reads what to install; CHANGELOG.md and this file name the other project.
FOLDERS = ("keras_vit", "training", "benchmarks", "docs", "notebooks", "tests", ".github")
SUFFIXES = (".py", ".md", ".toml", ".ipynb", ".yml", ".rst")
NAMED = re.compile(
    r"\b(keras[-_]v[-\w]*)\\*\[(?=[\w{$])|pip install (?:-\S+ )*[\"'\\]*(keras[-_]v[-\w]*)"
)

pytestmark = once  # files alone


def texts():
    files = [x for folder in FOLDERS for x in (ROOT / folder).rglob("*") if x.suffix in SUFFIXES]
    for file in [*ROOT.glob("*.md"), ROOT / "pyproject.toml", ROOT / "Makefile", *files]:
        if file.name not in ("CHANGELOG.md", Path(__file__).name):
            yield file, file.read_text(encoding="utf-8")


def named(text):
    """The distributions that a text says are to be installed, with extras or by pip."""
    return {extra or installed for extra, installed in NAMED.findall(text)}


def test_every_message_names_this_distribution():
    assert PROJECT["name"] == NAME
    found = {file: named(text) for file, text in texts() if named(text)}
    assert {name for names in found.values() for name in names} == {NAME}, found
    for file in ("keras_vit/export/formats.py", "notebooks/02_finetune.ipynb", "pyproject.toml"):
        assert found[ROOT / file] == {NAME}  # they are looked into


def test_another_name_is_found():
    for text in (
        'pip install "keras-vit[jax]"',
        "pip install 'keras_vit[{FORMATS[format].extra}]'",
        'match=f"keras_vit\\\\[{x.extra}\\\\]"',
        "pip install -U keras-vit",
        '"`pip install \\"keras-vit[training]\\"`"',
    ):
        assert named(text) in ({"keras-vit"}, {"keras_vit"}), text


def test_every_extra_that_is_named_exists():
    known = set(PROJECT["optional-dependencies"])
    for file, text in texts():
        for extras in re.findall(rf"{NAME}\\*\[([a-z][\w,-]*)\\*\]", text):
            assert set(extras.split(",")) <= known, file


def test_the_changelog_and_the_citation_are_of_this_version():
    version = keras_vit.__version__
    first = re.search(r"^## (\S+) \(.+\)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert first[1] == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_training_does_not_need_keras_cv():
    extras = PROJECT["optional-dependencies"]
    assert not any("keras-cv" in x for x in extras["training"])
    assert any("keras-cv" in x for x in extras["test"])
    files = [x for folder in ("keras_vit", "training") for x in (ROOT / folder).rglob("*.py")]
    assert not [file for file in files if "keras_cv" in file.read_text(encoding="utf-8")]
