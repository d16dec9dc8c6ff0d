"""Every right export passes: each family, format and precision, default samples, five seeds.

Hundreds of exports, each of some seconds. What a backend writes itself it writes quickest; a table
of differences and limits comes with -s, a part of it with -k, such as -k "swin and litert":

    KERAS_BACKEND=tensorflow python -m pytest -m slow -s tests/test_export_matrix.py
    KERAS_BACKEND=torch python -m pytest -m slow -s tests/test_export_matrix.py
"""

import shutil

import keras
import pytest

import keras_vit
from keras_vit.export.formats import FORMATS, INPUTS, PRECISIONS
from keras_vit.export.samples import noise_pictures
from keras_vit.models.registry import FAMILIES
from tests.exports import EXPORT, build

SEEDS = range(5)
CASES = [
    f"{format} {inputs}"
    for format, x in FORMATS.items()
    for inputs in INPUTS
    if x.backend == keras.backend.backend() and inputs not in x.lacks
]


@pytest.fixture
def copied(monkeypatch, tmp_path):
    """Copies what was written from the same model in float32."""
    write = EXPORT.write

    def write_or_copy(model_file, path, format, inputs, precision):
        kept = tmp_path / path.stem[0] / format / inputs  # the name begins with the model's seed
        if precision == "float32" and kept.exists():
            shutil.copytree(kept, path.parent, dirs_exist_ok=True)
            for file in path.parent.iterdir():
                file.rename(file.with_stem(path.stem))
            return
        write(model_file, path, format, inputs, precision)
        if precision == "float32":
            shutil.copytree(path.parent, kept)

    monkeypatch.setattr(EXPORT, "write", write_or_copy)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", FAMILIES)
def test_right_exports_pass(family, case, tmp_path, copied, in_this_process):
    format, inputs = case.split()
    lacks = FORMATS[format].lacks.keys()
    failed = []
    for seed in SEEDS:
        model = build(f"{family} {seed}")
        for precision in PRECISIONS:
            if lacks & {precision, f"{precision} of {inputs}"}:
                continue
            name = f"{family:8}{format:12}{inputs:8}{precision:14}{seed} "
            try:
                found = export(model, tmp_path / f"{seed}{precision}", format, inputs, precision)
            except ValueError as error:
                failed.append(f"{name}{error}")
            else:
                print(name + found)
    assert not failed, "\n".join(failed)


def export(model, path, format, inputs, precision):
    """In a line what the comparison found."""
    calibration = None
    if precision == "int8_static":
        calibration = noise_pictures([(24, 16)] * 32, seed=1)
        if inputs == "images":
            calibration = [x / 127.5 - 1 for x in calibration]
    path = path.with_suffix(FORMATS[format].suffix)
    report = keras_vit.export(model, path, format, inputs, precision, calibration=calibration)
    return (
        f"{report.difference / report.spread:.2e} of the spread, at most "
        f"{report.limit / report.spread:.2e}; top-1 {report.top1_agreement:.2f}, of "
        f"{report.decided} decided {report.decided_agreement:.2f}"
    )
