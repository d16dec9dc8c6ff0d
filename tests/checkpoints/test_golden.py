"""Every source's format gives its own library's numbers."""

import keras
import numpy as np
import pytest

import keras_vit
from tests.checkpoints.helpers import CASES, GOLDEN, arguments, source
from tests.helpers import to_numpy

RESAMPLED = [case for case in CASES if "other_output" in np.load(GOLDEN / case / "expected.npz")]


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
