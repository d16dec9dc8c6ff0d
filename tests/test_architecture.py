"""The rules of the house: which way imports point, and what an import costs."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import keras_vit
from tests.helpers import once

ROOT = Path(keras_vit.__file__).parent
BACKENDS = {"tensorflow", "jax", "torch"}

# A module may import from its own level and from those before it.
LEVELS = [
    "version",
    "backends",
    "waiting",
    "hardware",
    "fast_paths",
    "callers",
    "scratch",
    "ops",
    "layers",
    "optimizers",
    "metrics",
    "terminal",
    "table",
    "picture_files",
    "preprocessing",
    "models",
    "losses",
    "tasks",
    "teacher",
    "distillation",
    "checkpoints",
    "complexity",
    "listing",
    "interpret",
    "export",
    "cli",
    "__main__",
]


# The one file of the library that calls training/, which stands on the library.
COMMANDS_OF_TRAINING = ROOT / "cli" / "train.py"

# The same of training/: its rooms, what they stand on and the commands.
TRAINING_LEVELS = [
    "files",
    "terminal",
    "lora",
    "cnn",
    "recipe",
    "data",
    "augment",
    "devices",
    "results",
    "tasks",
    "loop",
    "evaluate",
    "show_augmentations",
    "__main__",
]


def imports(file, top_level_only=False):
    """Names of the modules that a file imports."""
    tree = ast.parse(file.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield source(file, node)


def source(file, node):
    """The module of `from MODULE import ...`, which may be relative."""
    package = file.relative_to(ROOT.parent).parent.parts
    above = package[: len(package) + 1 - node.level] if node.level else ()
    return ".".join([*above, *filter(None, [node.module])])


@once
@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_one_way(file):
    here = file.relative_to(ROOT).parts[0].removesuffix(".py")
    for name in imports(file):
        root, *rest = name.split(".")
        assert root != "training", f"{file} imports training"
        if rest[:1] == ["training"]:
            assert file == COMMANDS_OF_TRAINING, f"{file} imports training"
            continue
        if root == "keras_vit" and rest and here != "__init__":
            assert LEVELS.index(rest[0]) <= LEVELS.index(here), f"{file} imports {name}"
    assert not BACKENDS & {name.split(".")[0] for name in imports(file, top_level_only=True)}
    assert len(file.read_text().splitlines()) <= 400


@once
def test_imports_of_training_point_one_way():
    """Between rooms; within a room the files are in no circle either."""
    training = ROOT.parent / "training"
    for file in sorted(training.rglob("*.py")):
        here = file.relative_to(training).parts[0].removesuffix(".py")
        for name in imports(file):
            root, *rest = name.split(".")
            if root == "training" and here != "__init__":
                # `from .. import data` names a room too.
                for room in rest[:1] or rooms_named(file):
                    order = TRAINING_LEVELS.index
                    assert order(room) <= order(here), f"{file} imports training.{room}"
        assert len(file.read_text().splitlines()) <= 400


@once
def test_training_imports_itself_by_relative_names():
    """An installed copy calls it `keras_vit.training`."""
    for file in sorted((ROOT.parent / "training").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            roots = {name.split(".")[0] for name in names}
            assert "training" not in roots, f"{file}, line {node.lineno}"


@once
def test_messages_of_training_name_the_command_that_was_used():
    """`TRAIN` and `EVALUATE` of training/terminal.py; in docstrings it is that of a checkout."""
    for file in sorted((ROOT.parent / "training").rglob("*.py")):
        tree = ast.parse(file.read_text())
        docstrings = {
            ast.get_docstring(x, clean=False)
            for x in ast.walk(tree)
            if isinstance(x, (ast.Module, ast.ClassDef, ast.FunctionDef))
        }
        for node in ast.walk(tree):
            text = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and text not in docstrings and file.name != "terminal.py":
                assert "-m training" not in text, f"{file}, line {node.lineno}"


def rooms_named(file):
    """What a file imports of `training` itself."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and source(file, node) == "training":
            yield from (alias.name for alias in node.names)


def files_behind(file, modules):
    """The files that a file imports, wherever in it; for `TYPE_CHECKING` alone does not count."""
    tree = ast.parse(file.read_text())
    unreal = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            unreal.update(id(x) for x in ast.walk(node))
    for node in ast.walk(tree):
        if id(node) in unreal:
            continue
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):  # of a package: its modules, or what it hands on
            outer = source(file, node)
            inner = [f"{outer}.{alias.name}" for alias in node.names]
            names = [name if name in modules else outer for name in inner]
        yield from (modules[name] for name in names if name in modules)


@once
def test_no_files_import_each_other_in_a_circle():
    modules = {}
    for folder in (ROOT, ROOT.parent / "training"):
        for file in folder.rglob("*.py"):
            parts = file.relative_to(ROOT.parent).with_suffix("").parts
            modules[".".join(parts).removesuffix(".__init__")] = file
    graph = {file: set(files_behind(file, modules)) for file in modules.values()}
    assert sum(map(len, graph.values())) > 500  # arrows were found
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which has the circle


def test_import_brings_nothing_that_keras_has_not_brought():
    """Keras imports its backend; keras_vit adds itself and parts of the standard library."""
    code = (
        "import sys, keras; before = set(sys.modules); import keras_vit;"
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    added = set(out.stdout.split()) - set(sys.stdlib_module_names)
    assert added == {"keras_vit"}
