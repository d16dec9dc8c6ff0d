"""What exports are compared on where nobody says, or says little."""

import numpy as np
import pytest

import keras_vit
from keras_vit.export.export import _with_calibration
from keras_vit.export.samples import DEFAULT_SAMPLES, FEW, SAMPLES, noise_pictures
from tests.exports import build
from tests.helpers import images, once, tiny_vit

pytestmark = once  # NumPy and PIL alone


def kept(model, samples, inputs="images"):
    """The arrays that an export is run on."""
    return SAMPLES[inputs](model, samples)[0]


def test_few_images_are_joined_by_noise_and_many_are_not():
    model, any_size = tiny_vit(), tiny_vit(image_size=None)
    for number, expected in ((3, 3 + DEFAULT_SAMPLES), (FEW, FEW)):
        x = images(batch=number)
        found = kept(model, x)
        np.testing.assert_array_equal(found["0"][:number], x)
        assert len(found["0"]) == expected
        np.testing.assert_array_equal(found["1"], x[:1])  # again, and timed
    assert kept(any_size, images((40, 16), 2))["0"].shape == (18, 40, 16, 3)
    assert kept(model, None)["0"].min() >= -1 and kept(model, None)["0"].max() <= 1
    raw = kept(tiny_vit(include_preprocessing=True), None)["0"]
    assert raw.min() >= 0 and raw.max() > 200


def test_pictures_are_of_four_sizes_and_files_of_two_kinds():
    model = tiny_vit(preprocessor=keras_vit.Preprocessor((24, 16)))
    own = noise_pictures([(50, 60)], seed=3)
    found = [*kept(model, own, "pixels").values()]
    np.testing.assert_array_equal(found[0][0], own[0])
    np.testing.assert_array_equal(found[-1], found[0])
    sizes = {x.shape for x in found[1:-1]}
    assert sizes == {(1, 24, 16, 3), (1, 48, 48, 3), (1, 72, 16, 3), (1, 12, 16, 3)}
    starts = {file.tobytes()[:2] for file in kept(model, None, "jpeg").values()}
    assert starts == {b"\xff\xd8", b"\x89P"}


def test_static_ranges_are_judged_on_what_they_were_found_on():
    calibration = [*images(batch=30)]
    assert _with_calibration(None, calibration) == calibration
    few, many = images(batch=2, seed=1), images(batch=FEW, seed=1)
    assert len(_with_calibration(few, calibration)) == 32
    assert _with_calibration(many, calibration) is many
    assert _with_calibration(None, None) is None and _with_calibration("a.jpg", few) == "a.jpg"


@pytest.mark.slow
def test_a_real_model_answers_them_differently():
    """KERAS_BACKEND=torch python -m pytest -m slow tests/test_export_samples.py"""
    model = build("real")
    found = kept(model, None)["0"]
    white = np.random.default_rng(0).uniform(-1, 1, found.shape)
    spreads = []
    for x in (found, white):
        logits = model.predict(x, verbose=0)
        spreads.append(np.sqrt(logits.var(0).mean()))
        answers = len(set(logits.argmax(1)))
        assert answers >= 8 or x is white
    assert spreads[0] > 3 * spreads[1]
