"""Every source's format gives its own library's numbers."""

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from tests.helpers import to_numpy

GOLDEN = Path(__file__).parent.parent / "golden" / "checkpoints"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/expected.npz"))
RESAMPLED = [case for case in CASES if "other_output" in np.load(GOLDEN / case / "expected.npz")]


def source(case):
    """The folder where a configuration says what the model is, else the file of weights."""
    folder = GOLDEN / case
    if (folder / "config.json").is_file():
        return folder
    (file,) = (x for x in folder.iterdir() if x.name != "expected.npz")
    return file


def arguments(case):
    """What the source itself does not say: the heads of a width that nobody published."""
    configured = (GOLDEN / case / "config.json").is_file() and not case.startswith("timm")
    flax = case.startswith(("bv_", "vt_"))
    found = {} if configured or flax else {"num_heads": 4}
    if case.startswith(("torch", "safetensors")):
        found["image_size"] = (24, 16)  # six positions make no square
    if case == "bv_sincos":
        found["image_size"] = 24  # computed for any size
    return found


@pytest.mark.parametrize("case", CASES)
def test_equals_the_library_that_wrote_it(case):
    expected = dict(np.load(GOLDEN / case / "expected.npz"))
    images = expected["images"]
    model = keras_vit.from_pretrained(source(case), **arguments(case))
    assert not model.load_report.fresh, model.load_report
    layers = [name for name in expected if name.startswith("block") or name == "norm"]
    features = model.features(images, layers)
    for name in layers:
        np.testing.assert_allclose(to_numpy(features[name]), expected[name], atol=1e-4)
    found = to_numpy(model(images))
    np.testing.assert_allclose(
        found, expected["logits" if "logits" in expected else "pre_logits"], atol=1e-4
    )
    if "distillation" in expected:
        heads = model.distillation_model()(images)
        for name in ("class", "distillation"):
            np.testing.assert_allclose(to_numpy(heads[name]), expected[name], atol=1e-4)
    if "logits" in expected and "pre_logits" in expected:
        inner = keras.Model(model.input, model.get_layer("head").input)
        np.testing.assert_allclose(to_numpy(inner(images)), expected["pre_logits"], atol=1e-4)


@pytest.mark.parametrize("case", RESAMPLED)
def test_another_size_is_resampled_as_the_library_does(case):
    expected = np.load(GOLDEN / case / "expected.npz")
    images = expected["other_images"]
    size = images.shape[1:3]
    model = keras_vit.from_pretrained(source(case), **{**arguments(case), "image_size": size})
    assert model.load_report.resampled == ["position_embedding/grid"]
    np.testing.assert_allclose(to_numpy(model(images)), expected["other_output"], atol=1e-4)
