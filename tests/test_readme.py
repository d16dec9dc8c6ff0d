"""The README says what the library does and what the results files hold."""

import json

import keras_vit
from benchmarks import readme
from tests.helpers import once

pytestmark = once  # shapes and counts are the same on every backend

TABLES = ("models", "variants")
TEXT = readme.README.read_text(encoding="utf-8")


def test_tables_are_those_of_the_results():
    text = TEXT
    for name, render in readme.TIMED.items():
        text = readme.replace(text, name, render())
    assert text == TEXT, "python -m benchmarks.readme writes them anew"


def test_the_models_are_those_that_are_listed():
    assert f"<!-- models -->\n{readme.models()}<!-- end -->" in TEXT
    assert f"{len(keras_vit.list_checkpoints())} checkpoints:" in TEXT


def test_parameter_counts_are_the_golden_ones():
    rows = json.loads((readme.ROOT / "tests/golden/parameter_counts.json").read_text())
    tables = [TEXT.split(f"<!-- {name} -->")[1].split("<!-- end -->")[0] for name in TABLES]
    for row in rows:
        arguments = ", ".join(f"{name}={value}" for name, value in row["arguments"].items())
        shown = [f"| `{row['variant']}({arguments})` |"]
        shown += [] if arguments else [f"| `{row['variant']}` |"]
        lines = [
            line for line in "".join(tables).splitlines() if any(name in line for name in shown)
        ]
        assert lines or arguments
        assert all(f"| {row['parameters']:,} |" in line for line in lines)


def test_shape_flow_is_what_is_printed(no_initialization):
    flow = str(keras_vit.shape_flow(keras_vit.ViTBase())).splitlines()
    shown = TEXT.split(">>> keras_vit.shape_flow(keras_vit.ViTBase())\n")[1].split("\n```")[0]
    assert [line for line in shown.splitlines() if line != "..."] == flow[:7] + flow[17:]
