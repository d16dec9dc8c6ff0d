"""Installs a wheel into fresh environments, and uses it there: `make fresh`.

    python -m tests.fresh jax torch tensorflow          # extras, an environment each
    python -m tests.fresh jax,training everything
    python -m tests.fresh --lowest jax torch everything  # with the lower bounds of pyproject.toml

An environment is a new folder in which nothing of this one is seen. steps.py says what is tried.
Downloads gigabytes and takes minutes for each environment, so no test and no workflow calls it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from email import message_from_bytes
from pathlib import Path

from packaging.requirements import Requirement

from tests import wheel

STEPS = Path(__file__).with_name("steps.py")
EVERYTHING = "export,jax,training"
BACKENDS = ("tensorflow", "jax", "torch")


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fresh")
    parser.add_argument("extras", nargs="+", help='such as jax, or jax,training, or "everything"')
    parser.add_argument("--lowest", action="store_true", help="the lower bounds of dependencies")
    parser.add_argument("--constraint", action="append", default=[], help="for pip")
    parser.add_argument("--keep", type=Path, help="a folder for the environments, which stay")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.keep) as folder:
        folder = Path(folder)
        built = wheel.build(folder)
        failed = [x for x in given.extras if not tried(built, x, folder, given)]
    print(f"failed: {' '.join(failed)}" if failed else "all environments work")
    return bool(failed)


def tried(built, extras, folder, given):
    """Whether all works with the wheel and these extras alone."""
    print(f"== {extras}{' --lowest' * given.lowest}", flush=True)
    extras = EVERYTHING if extras == "everything" else extras
    here = (given.keep or folder) / extras.replace(",", "-")
    shutil.rmtree(here, ignore_errors=True)
    work = here / "work"
    work.mkdir(parents=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("KERAS", "PYTHON"))}
    environment["KERAS_HOME"] = str(here / "keras")
    subprocess.run([sys.executable, "-m", "venv", here / "venv"], check=True, env=environment)
    python = here / "venv" / "bin" / "python"

    options = [x for file in given.constraint for x in ("--constraint", file)]
    if given.lowest:
        (here / "lowest.txt").write_text("".join(lowest(built, extras.split(","))))
        options += ["--constraint", here / "lowest.txt"]
    install = [python, "-m", "pip", "install", "--quiet", *options, f"{built}[{extras}]"]
    if subprocess.run(install, cwd=work, env=environment).returncode:
        return False
    subprocess.run([python, "-m", "pip", "check"], cwd=work, env=environment, check=True)
    shutil.copy(STEPS, here / "steps.py")
    codes = [
        subprocess.run(
            [python, here / "steps.py"], cwd=work, env={**environment, "KERAS_BACKEND": backend}
        ).returncode
        for backend in BACKENDS
        if installed(python, backend) and (backend in extras or extras == EVERYTHING)
    ]
    return bool(codes) and not any(codes)


def installed(python, module):
    code = f"import importlib.util, sys; sys.exit(not importlib.util.find_spec({module!r}))"
    return not subprocess.run([python, "-c", code]).returncode


def lowest(built, extras):
    """Lines for pip: each dependency of the wheel with these extras at its lower bound."""
    with zipfile.ZipFile(built) as opened:
        (name,) = (x for x in opened.namelist() if x.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(opened.read(name))
    needs = [Requirement(x) for x in metadata.get_all("Requires-Dist")]
    asked = {""}
    found = set(extras)
    while found - asked:  # an extra may name others of this package
        asked |= found
        for need in needs:
            if need.name == metadata["Name"] and wanted(need, asked):
                found |= need.extras
    for need in needs:
        if need.name != metadata["Name"] and wanted(need, asked):
            (bound,) = (x.version for x in need.specifier if x.operator == ">=")
            yield f"{need.name}=={bound}\n"


def wanted(need, extras):
    return not need.marker or any(need.marker.evaluate({"extra": x}) for x in extras)


if __name__ == "__main__":
    sys.exit(main())
