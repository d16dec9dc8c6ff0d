"""Every recipe of the package in its smoke form: ten steps, and the losses that were recorded.

    KERAS_BACKEND=tensorflow python -m tests.training.recipe.test_recipes

records them anew in tests/golden/recipes.json.
"""

import csv
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.helpers import once
from training import recipe
from training.loop import run

GOLDEN = Path(__file__).parents[2] / "golden" / "recipes.json"
NAMES = sorted(path.stem for path in recipe.RECIPES.glob("*.toml"))
# Of SETR's recipes two run by default, PUP and MLA; in their smoke form the others differ from them
# in rates, or in the decoder, which other tests have.
SLOW = [name for name in NAMES if name.startswith("setr_") and name != "setr_mla_ade20k"]
SLOW += ["mae_vit_base_imagenet1k", "mae_linear_probe"]  # in their smoke form as others here
# Of DETR's the one that is measured here; test_detection.py runs what the others have besides.
SLOW += [name for name in NAMES if name.startswith("detr_") and name != "detr_digits"]
SMOKE = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NAMES]


def losses(name, folder):
    """Training and validation loss of both epochs, five steps each."""
    job = run.prepare(name, run_dir=folder, smoke=True)
    run.fit(job)
    with open(job.folder.metrics, newline="") as file:
        rows = list(csv.DictReader(file))
    return [float(row[key]) for row in rows for key in ("loss", "val_loss")]


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="initial weights are the backend's own"
)
@pytest.mark.parametrize("name", SMOKE)
def test_smoke_form_gives_the_recorded_losses(name, tmp_path):
    recorded = json.loads(GOLDEN.read_text())[name]
    found = losses(name, tmp_path / "run")
    np.testing.assert_allclose(found, recorded, rtol=2e-4)


@once
@pytest.mark.parametrize("name", NAMES)
def test_the_head_of_the_page_says_what_was_measured(name):
    head = (recipe.RECIPES / f"{name}.toml").read_text().split("[model]")[0]
    for word in ("Paper", "Command", "Hardware", "Time", "Result", "Measured"):
        assert f"# {word:10}" in head, word


def main():
    import tempfile

    found = {}
    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = [round(x, 5) for x in losses(name, Path(folder) / "run")]
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
