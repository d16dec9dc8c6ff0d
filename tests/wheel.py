"""What is published, looked into: `python -m tests.wheel dist [TAG]`, which `make wheel` runs."""

import sys
import zipfile
from pathlib import Path

import keras_vit

FILES = (
    "py.typed",
    "costs.csv",
    "checkpoints/catalog.toml",
    "checkpoints/imagenet1k.txt",
    "training/recipes/digits.toml",
)


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
