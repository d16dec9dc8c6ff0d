"""Continuous integration runs what a desk can run: make targets, and nothing else."""

import re
import tomllib
from pathlib import Path

import yaml

from tests.helpers import once

ROOT = Path(__file__).parents[1]
TRIED = {"3.11"}  # versions of Python

pytestmark = once  # files alone


def steps():
    for file in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        for name, job in yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].items():
            for step in job["steps"]:
                yield f"{file.name}, {name}", step


def test_every_step_that_runs_something_is_a_make_target():
    targets = set(re.findall(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), re.M)[0].split())
    commands = [(where, step["run"]) for where, step in steps() if "run" in step]
    assert {command.split()[1] for _, command in commands} >= {"lint", "test", "wheel"}
    for where, command in commands:
        make, target, *arguments = command.split()
        assert make == "make" and target in targets, where
        assert "\n" not in command.strip(), where
        assert all(re.match("[A-Z]+=", x) for x in arguments[:1]), where


def test_only_versions_of_python_that_were_tried_are_claimed():
    used = {step["with"]["python-version"] for _, step in steps() if "setup-python" in str(step)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    said = {x.rpartition(" ")[2] for x in project["classifiers"] if re.search(r":: 3\.\d+$", x)}
    assert used == said == TRIED
    assert project["requires-python"] == ">=3.11"
