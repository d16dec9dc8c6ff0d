"""Public interfaces as text files, so that a reviewer sees each change of them as a changed line.

    python -m tests.snapshots   # rewrites the files; git diff then shows the changes

Each module has `lines()`, which returns the text of the file beside it for this version.
"""

import difflib
import importlib
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("commands", "recipes", "run_folder", "signatures", "weights")
COMMAND = "python -m tests.snapshots"


def text(name):
    """The text of a file for this version."""
    found = importlib.import_module(f"{__name__}.{name}").lines()
    return "\n".join(found).rstrip("\n") + "\n"


def file(name):
    """`Path` of the file."""
    return HERE / f"{name}.txt"


def differences(name):
    """The lines that differ from the file, and the command that rewrites it; "" if none do."""
    kept = file(name).read_text(encoding="utf-8").splitlines()
    found = text(name).splitlines()
    names = file(name).name, "this version"
    changed = list(difflib.unified_diff(kept, found, *names, n=1, lineterm=""))
    if not changed:
        return ""
    return "\n".join([*changed, "", f"If this is intended, run: {COMMAND} {name}"])
