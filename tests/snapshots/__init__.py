"""What others rely on, as text: a change of it is a line in a file that a reviewer sees.

    python -m tests.snapshots   # writes the files anew; git diff shows what others would notice

Each module has `lines()`, the text of the file beside it: what this version has of that kind.
"""

import difflib
import importlib
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("commands", "recipes", "run_folder", "signatures", "weights")
COMMAND = "python -m tests.snapshots"


def text(name):
    """What this version has of a kind, as the text of the file."""
    found = importlib.import_module(f"{__name__}.{name}").lines()
    return "\n".join(found).rstrip("\n") + "\n"


def file(name):
    """The file that keeps it."""
    return HERE / f"{name}.txt"


def differences(name):
    """What differs from the file, in lines, with the command that writes it; "" for nothing."""
    kept = file(name).read_text(encoding="utf-8").splitlines()
    found = text(name).splitlines()
    names = file(name).name, "this version"
    changed = list(difflib.unified_diff(kept, found, *names, n=1, lineterm=""))
    if not changed:
        return ""
    return "\n".join([*changed, "", f"If that is meant: {COMMAND} {name}"])
