import numpy as np
import pytest

from tests.helpers import once
from training.results.metrics import Evaluation, calibration_error, measure

pytestmark = once  # NumPy's numbers


def test_calibration_error_by_hand():
    """Two bins hold the four images: (14/15, 1], and (8/15, 9/15] with both 0.55 and 0.6."""
    confidence, right = np.array([0.99, 0.97, 0.6, 0.55]), np.array([True, False, True, False])
    by_hand = (2 * abs(0.98 - 0.5) + 2 * abs(0.575 - 0.5)) / 4
    assert calibration_error(confidence, right) == pytest.approx(by_hand)
    assert calibration_error(np.ones(3), np.ones(3, bool)) == 0.0
    assert calibration_error(np.zeros(2), np.ones(2, bool)) == 1.0  # the first bin holds 0 too


def test_measures_by_hand():
    probabilities = np.array(
        [
            [0.5, 0.2, 0.1, 0.08, 0.07, 0.05],  # right
            [0.5, 0.2, 0.1, 0.08, 0.07, 0.05],  # the fifth
            [0.5, 0.2, 0.1, 0.08, 0.07, 0.05],  # the sixth
        ]
    )
    found = measure(np.log(probabilities) + [[7.0], [0.0], [-90.0]], np.array([0, 4, 5]))
    assert found.top1 == pytest.approx(1 / 3) and found.top5 == pytest.approx(2 / 3)
    assert found.loss == pytest.approx(-np.log([0.5, 0.07, 0.05]).mean(), rel=1e-5)
    assert found.ece == pytest.approx(0.5 - 1 / 3, rel=1e-5)
    assert (found.images, found.classes) == (3, 6)
    assert str(found) == (
        "top-1 33.33 %, top-5 66.67 %, loss 2.1160, calibration error 16.67 % "
        "on 3 images of 6 classes"
    )


def test_only_some_classes_compete():
    logits = np.log([[0.6, 0.1, 0.2, 0.1], [0.4, 0.1, 0.2, 0.3]])
    found = measure(logits, np.array([2, 3]), classes=np.array([1, 2, 3]))
    assert found.top1 == 1.0 and found.classes == 3
    assert found.loss == pytest.approx(-np.log([0.2 / 0.4, 0.3 / 0.6]).mean(), rel=1e-5)
    with pytest.raises(ValueError, match="among the 3 classes.*Received: 0"):
        measure(logits, np.array([2, 0]), classes=np.array([1, 2, 3]))


def test_any_of_several_labels_is_right():
    found = measure(np.eye(3), [[1, 0], [0, 2], [2]])
    assert found.top1 == pytest.approx(2 / 3)
    assert found.top5 is None and found.loss is None and "loss" not in str(found)


def test_top5_of_few_classes_says_nothing():
    assert measure(np.eye(5), np.arange(5)).top5 is None
    assert measure(np.eye(6), np.arange(6)).top5 == 1.0


def test_a_model_that_knows_nothing_is_right_by_chance():
    """Equal logits count in the order of the classes, for top-1 and top-5 alike."""
    found = measure(np.zeros((10, 10)), np.arange(10))
    assert found.top1 == pytest.approx(0.1) and found.top5 == pytest.approx(0.5)


def test_large_logits_of_16_bits():
    logits = np.array([[60000.0, 0.0], [0.0, 60000.0]], "float16")
    found = measure(logits, np.array([0, 0]))
    assert found == Evaluation(2, 2, 0.5, None, 30000.0, 0.5)


def test_logits_that_are_no_numbers():
    with pytest.raises(ValueError, match="finite.*image 1"):
        measure(np.array([[0.0, 1.0], [np.nan, 1.0]]), np.array([0, 0]))
    with pytest.raises(ValueError, match="0 images"):
        measure(np.zeros((0, 2)), np.array([], int))
