"""Every right export passes: each family, format and precision, default samples, five seeds.

Hundreds of exports, each of some seconds. What a backend writes itself it writes quickest; a table
of differences and limits comes with -s, a part of it with -k, such as -k "swin and litert":

    KERAS_BACKEND=tensorflow python -m pytest -m slow -s tests/test_export_matrix.py
    KERAS_BACKEND=torch python -m pytest -m slow -s tests/test_export_matrix.py
"""

import keras
import pytest

import keras_vit
from keras_vit.export.formats import FORMATS, INPUTS, PRECISIONS
from keras_vit.export.samples import noise_pictures
from tests.test_export_mutants import FAMILIES, build

SEEDS = range(5)
CASES = [
    f"{format} {inputs} {precision}"
    for format, x in FORMATS.items()
    for inputs in INPUTS
    for precision in PRECISIONS
    if x.backend == keras.backend.backend()
    and not x.lacks.keys() & {inputs, precision, f"{precision} of {inputs}"}
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", FAMILIES)
def test_right_exports_pass(family, case, tmp_path):
    format, inputs, precision = case.split()
    for seed in SEEDS:
        model = build(f"{family} {seed}")
        calibration = None
        if precision == "int8_static":
            calibration = noise_pictures([(24, 16)] * 32, seed=1)
            if inputs == "images":
                calibration = [x / 127.5 - 1 for x in calibration]
        path = tmp_path / f"{seed}{FORMATS[format].suffix}"
        report = keras_vit.export(model, path, format, inputs, precision, calibration=calibration)
        print(
            f"{family:8}{format:12}{inputs:8}{precision:14}{seed} "
            f"{report.difference / report.spread:.2e} of the spread, at most "
            f"{report.limit / report.spread:.2e}; top-1 {report.top1_agreement:.2f}, of "
            f"{report.decided} decided {report.decided_agreement:.2f}"
        )
