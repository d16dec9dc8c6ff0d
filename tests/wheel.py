"""The wheel, built and looked into: `make wheel` runs `python -m tests.wheel dist [TAG]`."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras_vit

ROOT = Path(__file__).parents[1]
SOURCES = (
    "keras_vit",
    "training",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "pyproject.toml",
    "setup.py",
)
FILES = (
    "py.typed",
    "costs.csv",
    "checkpoints/catalog.toml",
    "checkpoints/imagenet1k.txt",
    "training/recipes/digits.toml",
)


def build(folder, repository=None):
    """The wheel of this checkout, built in `folder`; with the repository's address if given."""
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    if repository:
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
        text = re.sub(r'^repository = ".*?"', f'repository = "{repository}"', text, flags=re.M)
        (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", folder / "dist"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, folder], check=True)
    (found,) = (folder / "dist").iterdir()
    return found


def faults(wheel):
    """What is wrong with a wheel, one text each.

    Args:
        wheel: `Path` of the .whl file.
    """
    names = set(zipfile.ZipFile(wheel).namelist())
    top = {name.partition("/")[0] for name in names}
    top = {name for name in top if not name.endswith(".dist-info")}
    if top != {"keras_vit"}:
        yield f"The only top-level name must be keras_vit. Received: {sorted(top)}"
    for file in FILES:
        if f"keras_vit/{file}" not in names:
            yield f"A file is missing: keras_vit/{file}"


def main(folder, tag=""):
    version = keras_vit.__version__
    if tag not in ("", f"v{version}"):
        return f"The tag must be that of the version, v{version}. Received: {tag}"
    built = sorted(Path(folder).iterdir())
    kinds = sorted(path.suffix for path in built)
    if kinds != [".gz", ".whl"]:
        return f"One wheel and one source distribution are expected. Received: {built}"
    return "\n".join(x for path in built if path.suffix == ".whl" for x in faults(path))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) or None)
