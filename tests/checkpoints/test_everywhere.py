"""The cases that every backend loads reach what all of them reach together."""

import contextlib

import numpy as np
import pytest

from keras_vit.checkpoints.families import tables
from keras_vit.checkpoints.matching import match
from keras_vit.checkpoints.readers.open import open_file
from keras_vit.checkpoints.readers.unstacked import Unstacked
from keras_vit.checkpoints.sources import locate
from keras_vit.checkpoints.tables import as_tuple
from tests.checkpoints import everywhere
from tests.checkpoints.helpers import GOLDEN, source
from tests.helpers import once

pytestmark = once  # names of tensors alone
CHOSEN = {
    "checkpoints": everywhere.VIT,
    "dinov2": [run.partition("-")[0] for run in everywhere.DINOV2],
    "swin": [case for case, _ in everywhere.SWIN],
    "pyramids": everywhere.PYRAMIDS + everywhere.PYRAMIDS_AT_ANY_SIZE,
    "hybrid": everywhere.HYBRID,
    "cait": everywhere.CAIT,
    "resnet": everywhere.RESNET,
    "detr": everywhere.DETR,
    "setr": everywhere.SETR,
    "mae": everywhere.MAE,
}


def matched(case):
    with contextlib.closing(Unstacked(open_file(locate(source(case)).weights))) as reader:
        return match(reader.tensors, case)


def reached(case):
    """Tables, layouts and kinds of weights that a golden case fills."""
    found = matched(case)
    (table,) = [i for i, table in enumerate(tables()) if table is found.table]
    weights = {
        (found.table.family, target) for row, _ in found.found for target in as_tuple(row.targets)
    }
    return {("table", table)} | {row.layout for row, _ in found.found} | weights


@pytest.fixture(scope="module")
def everything():
    """dict of case to what it reaches; `source` takes names from the folder of the first."""
    cases = [path.parent for path in GOLDEN.parent.glob("*/*/expected.npz")]
    return {f"{case.parent.name}/{case.name}": reached(case) for case in cases}


def test_chosen_cases_reach_all_that_golden_files_reach(everything):
    chosen = [everything[f"{folder}/{case}"] for folder, cases in CHOSEN.items() for case in cases]
    assert set().union(*everything.values()) == set().union(*chosen)


def test_golden_files_reach_every_table_but_what_tests_write(everything):
    """That is our own files, a hybrid by flax's older names, and DETRs that were in memory."""
    found = set().union(*everything.values())
    missing = [t.name for i, t in enumerate(tables()) if ("table", i) not in found]
    others = [name for name in missing if name != "keras" and "in memory" not in name]
    assert others == ["vision_transformer hybrid"]


def test_chosen_cases_are_resampled_in_every_way():
    files = [path.parent for path in GOLDEN.glob("*/expected.npz")]
    other = {x.name: matched(x) for x in files if "other_output" in np.load(x / "expected.npz")}
    ways = {name: found.table.position_resample for name, found in other.items()}
    assert {ways[name] for name in everywhere.RESAMPLED} == set(ways.values())
