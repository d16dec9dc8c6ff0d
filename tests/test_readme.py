"""The README says what the library does and what the results files hold."""

import json

import keras_vit
from benchmarks import readme

TEXT = readme.README.read_text(encoding="utf-8")


def test_tables_are_those_of_the_results():
    text = TEXT
    for name, render in readme.TIMED.items():
        text = readme.replace(text, name, render())
    assert text == TEXT, "python -m benchmarks.readme writes them anew"


def test_parameter_counts_are_the_golden_ones():
    rows = json.loads((readme.ROOT / "tests/golden/parameter_counts.json").read_text())
    for row in rows:
        arguments = ", ".join(f"{name}={value}" for name, value in row["arguments"].items())
        (line,) = [x for x in TEXT.splitlines() if f"| `{row['variant']}({arguments})` |" in x]
        assert f"| {row['parameters']:,} |" in line


def test_shape_flow_is_what_is_printed(no_initialization):
    flow = str(keras_vit.shape_flow(keras_vit.ViTBase())).splitlines()
    shown = TEXT.split(">>> keras_vit.shape_flow(keras_vit.ViTBase())\n")[1].split("\n```")[0]
    assert [line for line in shown.splitlines() if line != "..."] == flow[:7] + flow[17:]
