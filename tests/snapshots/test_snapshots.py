"""What others rely on is what the files beside this one say."""

import pytest

from tests import snapshots
from tests.helpers import once


@once
@pytest.mark.parametrize("name", snapshots.NAMES)
def test_nothing_changed_by_accident(name):
    differences = snapshots.differences(name)
    assert not differences, f"{name} changed:\n{differences}"


def test_every_module_has_its_file_and_is_compared():
    files = {path.stem for path in snapshots.HERE.glob("*.txt")}
    modules = {x.stem for x in snapshots.HERE.glob("*.py") if "\ndef lines()" in x.read_text()}
    assert modules == files == set(snapshots.NAMES)
