"""What the comparison lets through, and what it does not, in numbers alone."""

import ml_dtypes
import numpy as np
import pytest

from keras_vit.export.compare import LIMITS, Limits, compare
from keras_vit.export.formats import PRECISIONS
from keras_vit.export.report import refusal
from tests.exports import judge
from tests.helpers import once

pytestmark = once  # NumPy alone


def outputs(samples=16, classes=1000, seed=0, shared=1.0):
    """Logits, the first sample again at the end; classes differ more than samples do."""
    rng = np.random.default_rng(seed)
    logits = shared * 2 * rng.normal(size=classes) + rng.normal(size=(samples, classes))
    return np.concatenate([logits, logits[:1]])


@pytest.mark.parametrize("inputs", ["images", "pixels"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_outputs_that_are_not_the_image_s_fall_in_every_precision(precision, inputs):
    """With 1000 classes, of which each has a probability near 0.001."""
    logits = outputs()
    assert judge(logits, logits, precision, inputs).passed
    wrong = {
        "zeros": 0 * logits,
        "the mean": np.broadcast_to(logits.mean(0), logits.shape),
        "the first": np.broadcast_to(logits[0], logits.shape),
        "rolled classes": np.roll(logits, 1, 1),
        "another sample's": np.roll(logits, 1, 0),
        "NaN": np.where(logits == logits.max(), np.nan, logits),
    }
    for what, actual in wrong.items():
        assert not judge(logits, actual, precision, inputs).passed, what


def test_a_constant_falls_although_classes_differ_much_more_than_samples():
    logits = outputs(shared=50)
    constant = np.broadcast_to(logits.mean(0), logits.shape)
    for precision in ("float32", "float16"):  # which is within the rounding of fewer bits
        assert not judge(logits, constant, precision).passed


def test_rolled_classes_fall_although_samples_differ_in_what_all_classes_share():
    logits = outputs(shared=0) + 100 * np.arange(17)[:, None]
    assert not judge(logits, np.roll(logits, 1, 1)).passed


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_rounding_passes_however_little_outputs_vary(precision):
    """Fewer bits than float32's round away what outputs vary by, where they hardly do."""
    dtype = np.dtype(getattr(ml_dtypes, precision, precision))
    constant = np.broadcast_to(outputs()[:1], (17, 1000))
    shared = outputs(shared=0) + 100 * np.arange(1, 18)[:, None]  # as of a regression
    for right in (constant, outputs(shared=100), shared):
        assert judge(right, right.astype(dtype), precision).passed
        assert not judge(right, right.astype(dtype)).passed  # not in float32
        assert not judge(right, 0 * right, precision).passed


def test_an_offset_of_all_logits_falls_but_has_no_probabilities():
    logits = outputs()
    assert not judge(logits, logits + 0.01).passed
    assert judge(logits, logits + 0.01, inputs="pixels").passed


def test_one_class_of_a_thousand_and_one_size_of_four_fall_in_float32():
    logits = outputs()
    one = logits.copy()
    one[:, 7] += 1
    few = logits.copy()
    few[::4] = np.roll(few[::4], 1, 0)
    for actual in (one, few):
        assert not judge(logits, actual, inputs="pixels").passed


def test_probabilities_that_vanish_say_what_they_can():
    """Beyond float32's smallest there is nothing to be compared; a class that moved still shows."""
    logits = outputs(classes=10)
    logits[:, 3] -= 200
    softer = logits.copy()
    softer[:, 3] += 20
    assert judge(logits, softer, inputs="pixels").passed
    assert np.isfinite(judge(logits, softer, inputs="pixels").difference)
    softer[:, 3] = logits[:, 4]
    assert not judge(logits, softer, "int8_dynamic", inputs="pixels").passed


def test_answers_are_judged_where_the_model_is_decided():
    logits = np.zeros((17, 200))
    logits[np.arange(17), np.arange(17)] = 5  # decided, each for its own
    limits = Limits(0.9, 0.9, 0.0)
    moved = logits.copy()
    moved[:4, 100] += 5.1  # one class alone: hardly any difference, but four other answers
    found = compare({"y": logits}, {"y": moved}, limits)
    assert found.difference <= found.limit and not found.passed
    assert (found.answers, found.decided) == (16, 16)
    assert found.agreement == found.decided_agreement == 12 / 16
    text = refusal(found, limits, "int8_dynamic")
    assert "25 % of the answers differ: compare on photographs of your own (samples=..." in text
    assert "same top-1 on 90 % of the 16 decided answers" in text and "75 %" in text


def test_where_nothing_is_decided_the_difference_decides_alone():
    logits = outputs()
    logits[:, 0] = logits[:, 1:].max(1) - 1e-3
    found = judge(logits, logits, "int8_static")
    assert found.decided == 0 and found.passed
    wrong = judge(logits, 0 * logits, "int8_static")
    assert not wrong.passed
    assert "decided answers" not in refusal(wrong, LIMITS["int8_static"], "int8_static")


def test_outputs_that_never_vary_must_be_the_same_to_rounding():
    same = np.broadcast_to(np.arange(4.0), (17, 4))
    assert judge(same, same + 1e-6).passed
    assert not judge(same, same + 1e-3).passed
    assert not judge(same, same + 0.1, "int8_static").passed


def test_features_and_single_outputs():
    rng = np.random.default_rng(0)
    maps, one = rng.normal(size=(5, 4, 4, 8)), rng.normal(size=(5, 1))
    expected = {"maps": maps, "one": one}
    assert compare(expected, expected, LIMITS["float32"]).passed
    for name in expected:
        wrong = {**expected, name: expected[name][::-1]}
        found = compare(expected, wrong, LIMITS["int8_static"])
        assert not found.passed and found.difference > 0.5
    with pytest.raises(ValueError, match="outputs of other names or shapes.*Expected: .*one"):
        compare(expected, {"maps": maps, "one": None}, LIMITS["float32"])
