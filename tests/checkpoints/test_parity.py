"""Full-size models of timm and transformers, live, on the backend of the test run (`-m parity`)."""

import shutil

import pytest

from benchmarks import parity

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("case", parity.CASES, ids=lambda case: case.source)
def test_outputs_are_the_library_s_at_two_sizes(case, tmp_path):
    pytest.importorskip(case.library)
    folder = tmp_path / "model"
    try:
        parity.make_reference(case, folder)
        for number, size in enumerate(case.sizes):
            largest, scale = parity.difference(folder, number, size, "float32")
            assert scale > 0.5  # the noise has not died on its way
            assert largest < 1e-4
    finally:
        shutil.rmtree(folder)  # up to 4.5 GB each
