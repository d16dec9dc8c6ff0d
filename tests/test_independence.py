"""A test can be read, moved and run alone: what several share is a helper."""

import ast
import re
from pathlib import Path

import pytest

from tests.helpers import once

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "tests").rglob("*.py"))


def imported(text, package):
    """The modules that a text of Python imports, as far as they go by name."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def of_tests(text, package):
    """The test modules among them, also those in strings, which processes run."""
    found = set(imported(text, package))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(re.findall(r"\b(?:from|import)\s+(tests\.[\w.]+)", node.value))
            for module, names in re.findall(r"\bfrom\s+(tests[\w.]*)\s+import\s+(.+)", node.value):
                found |= {f"{module}.{name}" for name in re.findall(r"\w+", names)}
    return {name for name in found if re.match(r"tests\.(\w+\.)*test_", name)}


@once
@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT / "tests")))
def test_no_file_imports_a_test(file):
    package = file.relative_to(ROOT).parent.parts
    found = of_tests(file.read_text(encoding="utf-8"), package)
    assert not found, "what it takes from there belongs into a helpers.py"


@once
@pytest.mark.parametrize(
    "text",
    [
        "from TESTS.models import test_pvt",
        "from TESTS.models.test_pvt import tiny",
        "import TESTS.models.test_pvt as pvt",
        "from .test_pvt import tiny",
        "from . import helpers, test_pvt",
        "from ..models.test_pvt import tiny",
        "def f():\n    from TESTS.models.test_pvt import tiny",
        "code = 'import sys; from TESTS.models.test_pvt import tiny'",
        "code = 'from TESTS.models import helpers, test_pvt'",
    ],
)
def test_every_way_to_import_one_is_seen(text):
    found = of_tests(text.replace("TESTS", "tests"), ("tests", "models"))  # or it would find itself
    assert any(x.startswith("tests.models.test_pvt") for x in found)


@once
def test_helpers_are_no_tests():
    text = "from tests.helpers import once\nfrom tests.cli.helpers import run\nx = 'import tests'"
    assert not of_tests(text, ("tests", "cli"))
