"""The README and the pages in docs/ say what the library does and what the results files hold."""

import json

import pytest

import keras_vit
from benchmarks import readme
from keras_vit.models.registry import variants
from tests.helpers import once

pytestmark = once  # shapes and counts are the same on every backend

PAGES = {path: path.read_text(encoding="utf-8") for path in readme.pages()}
TEXT = "".join(PAGES.values())
WITH_TABLES = [path for path, text in PAGES.items() if readme.tables_of(text)]


@pytest.mark.parametrize(
    "path", WITH_TABLES, ids=lambda path: path.relative_to(readme.ROOT).as_posix()
)
def test_tables_are_those_of_the_results(path):
    text = PAGES[path]
    for name in readme.tables_of(text):
        if name in readme.TIMED:
            text = readme.replace(text, name, readme.TIMED[name]())
    assert text == PAGES[path], "python -m benchmarks.readme writes them anew"


def test_nothing_that_was_measured_is_left_out():
    shown = set(readme.tables_of(TEXT))
    assert shown == {*readme.COUNTED, *readme.TIMED}
    files = {path.name.rpartition("_")[0] for path in readme.RESULTS.glob("*.csv")}
    assert files == {render.__name__ for render in readme.RENDERERS}


def test_the_models_are_those_that_are_listed():
    table = f"<!-- models -->\n{readme.models()}<!-- end -->"
    assert TEXT.count(table) == TEXT.count("<!-- models -->") > 0
    table = f"<!-- families -->\n{readme.families()}<!-- end -->"
    assert TEXT.count(table) == TEXT.count("<!-- families -->") > 0
    assert f"{len(keras_vit.list_checkpoints())} checkpoints:" in TEXT
    for path in ("README.md", "docs/index.md"):
        assert f"{len(variants())} variants" in PAGES[readme.ROOT / path]


def test_parameter_counts_are_the_golden_ones():
    rows = json.loads((readme.ROOT / "tests/golden/parameter_counts.json").read_text())
    places = [
        place for name in ("models", "variants") for place in TEXT.split(f"<!-- {name} -->")[1:]
    ]
    tables = [place.split("<!-- end -->")[0] for place in places]
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
    places = TEXT.split(">>> keras_vit.shape_flow(keras_vit.ViTBase())\n")[1:]
    assert places
    for shown in (place.split("\n```")[0] for place in places):
        assert [line for line in shown.splitlines() if line != "..."] == flow[:7] + flow[17:]
