"""Every source's format gives its own library's numbers."""

import keras
import numpy as np
import pytest

import keras_vit
from tests.checkpoints import everywhere
from tests.checkpoints.helpers import CASES, GOLDEN, arguments, source
from tests.helpers import once_but, run

RESAMPLED = [case for case in CASES if "other_output" in np.load(GOLDEN / case / "expected.npz")]


@pytest.mark.parametrize("case", once_but(CASES, *everywhere.VIT))
def test_equals_the_library_that_wrote_it(case):
    expected = dict(np.load(GOLDEN / case / "expected.npz"))
    images = expected["images"]
    model = keras_vit.from_pretrained(source(case), **arguments(case))
    assert not model.load_report.fresh, model.load_report
    layers = [name for name in expected if name.startswith("block") or name == "norm"]
    outputs = dict(model.feature_model(layers).output)
    outputs["logits" if "logits" in expected else "pre_logits"] = model.output
    if "logits" in expected and "pre_logits" in expected:
        outputs["pre_logits"] = model.get_layer("head").input
    found = run(keras.Model(model.input, outputs), images)
    if "distillation" in expected:
        found |= run(model.distillation_model(), images)
    assert set(found) == set(expected) - {"made_with", "images", "other_images", "other_output"}
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("case", once_but(RESAMPLED, *everywhere.RESAMPLED))
def test_another_size_is_resampled_as_the_library_does(case):
    expected = np.load(GOLDEN / case / "expected.npz")
    images = expected["other_images"]
    size = images.shape[1:3]
    model = keras_vit.from_pretrained(source(case), **{**arguments(case), "image_size": size})
    assert model.load_report.resampled == ["position_embedding/grid"]
    np.testing.assert_allclose(run(model, images), expected["other_output"], atol=1e-4)
