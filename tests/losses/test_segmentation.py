"""Losses of segmentation: the numbers of PyTorch and of plain loops, weights, ignored pixels."""

import keras
import numpy as np
import pytest
import torch
from torch.nn import functional

from keras_vit.losses import SegmentationCrossEntropy, SegmentationDice
from tests.helpers import once, to_numpy

K = 4


@pytest.fixture
def data(rng):
    """(labels (2, 3, 5) of classes 0..2, some ignored; logits of K = 4 classes)."""
    labels = rng.integers(0, 3, (2, 3, 5)).astype("int32")
    labels[0, 0] = 255
    return labels, rng.normal(0, 2, (2, 3, 5, K)).astype("float32")


def torch_loss(labels, logits, **arguments):
    x = torch.tensor(logits.transpose(0, 3, 1, 2))
    target = torch.tensor(labels.astype("int64"))
    return float(functional.cross_entropy(x, target, ignore_index=255, **arguments))


def test_cross_entropy_is_that_of_torch(data):
    labels, logits = data
    weights = [0.5, 2.0, 1.0, 0.0]
    found = SegmentationCrossEntropy()(labels, logits)
    np.testing.assert_allclose(found, torch_loss(labels, logits), rtol=1e-6)
    found = SegmentationCrossEntropy(class_weights=weights)(labels, logits)
    expected = torch_loss(labels, logits, weight=torch.tensor(weights))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_over_all_pixels_ignored_ones_count_as_zero(data):
    labels, logits = data
    found = SegmentationCrossEntropy(average="all")(labels, logits)
    total = torch_loss(labels, logits, reduction="sum")
    np.testing.assert_allclose(found, total / labels.size, rtol=1e-6)
    assert float(found) < float(SegmentationCrossEntropy()(labels, logits))


def test_balanced_classes_count_the_same(data):
    labels, logits = data
    found = SegmentationCrossEntropy(class_weights="balanced")(labels, logits)
    each = [
        torch_loss(np.where(labels == k, labels, 255), logits) for k in range(3)
    ]  # mean of each class that occurs
    np.testing.assert_allclose(found, np.mean(each), rtol=1e-5)


def test_dice_is_that_of_a_loop(data):
    labels, logits = data
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    valid = labels != 255
    dice = []
    for k in range(3):  # the fourth class does not occur
        truth, guess = (labels == k)[valid], p[..., k][valid]
        both = (truth * guess).sum()
        dice.append((2 * both + 1) / (truth.sum() + guess.sum() + 1))
    found = SegmentationDice()(labels, logits)
    np.testing.assert_allclose(found, 1 - np.mean(dice), rtol=1e-5)
    weighted = SegmentationDice(class_weights=[1, 0, 3, 9])(labels, logits)
    expected = ((1 - dice[0]) + 3 * (1 - dice[2])) / 4
    np.testing.assert_allclose(weighted, expected, rtol=1e-5)


def test_a_perfect_prediction_has_no_loss(data):
    labels, _ = data
    logits = 50 * np.eye(K, dtype="float32")[np.where(labels == 255, 3, labels)]
    for loss in (SegmentationCrossEntropy(), SegmentationDice()):
        np.testing.assert_allclose(loss(labels, logits), 0, atol=1e-5)


@pytest.mark.parametrize("average", ["valid", "all"])
@pytest.mark.parametrize("weights", [None, "balanced", [1.0] * K])
def test_only_ignored_pixels_give_zero(average, weights):
    labels = np.full((1, 2, 2), 255, "int32")
    logits = np.ones((1, 2, 2, K), "float32")
    loss = SegmentationCrossEntropy(class_weights=weights, average=average)
    assert float(loss(labels, logits)) == 0
    assert float(SegmentationDice()(labels, logits)) == 0


@once
def test_ignored_pixels_have_no_gradient(data):
    labels, logits = data
    for loss in (
        SegmentationCrossEntropy(class_weights="balanced"),
        SegmentationDice(),
        SegmentationCrossEntropy(average="all"),
    ):
        x = torch.tensor(logits, requires_grad=True)
        loss(labels, x).backward()
        assert (x.grad[0, 0] == 0).all() and (x.grad[0, 1] != 0).any()


@pytest.mark.parametrize("label", [-1, K, 254])
def test_a_label_that_is_no_class_gives_nan(label, data):
    labels, logits = data
    wrong = np.where(labels == 2, label, labels)
    for kind in (SegmentationCrossEntropy, SegmentationDice):
        assert np.isnan(to_numpy(kind()(wrong, logits)))
        assert np.isfinite(to_numpy(kind()(labels, logits)))


@once
def test_a_label_that_is_no_class_has_no_gradient(data):
    labels, logits = data
    for kind in (SegmentationCrossEntropy, SegmentationDice):
        found = []
        for label in (K, 255):
            x = torch.tensor(logits, requires_grad=True)
            kind()(np.where(labels == 2, label, labels), x).backward()
            found.append(x.grad)
        torch.testing.assert_close(*found, rtol=0, atol=0)


@once
def test_another_label_can_be_the_ignored_one(data):
    labels, logits = data
    other = np.where(labels == 255, -1, labels)
    for kind in (SegmentationCrossEntropy, SegmentationDice):
        found = kind(ignore_class=-1)(other, logits)
        np.testing.assert_allclose(found, kind()(labels, logits), rtol=1e-6)


@once
def test_half_precision_logits_are_computed_in_float32(data):
    labels, logits = data
    found = SegmentationCrossEntropy()(labels, torch.tensor(logits * 20, dtype=torch.bfloat16))
    assert found.dtype == torch.float32
    expected = torch_loss(labels, torch.tensor(logits * 20).bfloat16().float().numpy())
    np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-5)


@once
@pytest.mark.parametrize(
    "loss",
    [
        SegmentationCrossEntropy(254, [1, 2, 3, 4], "all"),
        SegmentationCrossEntropy(class_weights="balanced"),
        SegmentationDice(254, [1, 2, 3, 4], 0.5),
    ],
)
def test_configuration(loss, data):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    labels, logits = data
    labels = np.where(labels == 255, loss.ignore_class, labels)
    np.testing.assert_array_equal(again(labels, logits), loss(labels, logits))


@once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_weights": "some"}, "class_weights must be None, 'balanced', or"),
        ({"class_weights": [1, -1]}, "class_weights must be"),
        ({"class_weights": []}, "class_weights must be"),
        ({"average": "mean"}, "average must be one of"),
        ({"ignore_class": 1.5}, "ignore_class must be"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SegmentationCrossEntropy(**arguments)


@once
def test_bad_data(data):
    labels, logits = data
    with pytest.raises(ValueError, match="one number for each class"):
        SegmentationCrossEntropy(class_weights=[1, 2])(labels, logits)
    with pytest.raises(ValueError, match="one number for each class"):
        SegmentationDice(class_weights=[1])(labels, logits)
    with pytest.raises(ValueError, match="Labels must have the shape"):
        SegmentationCrossEntropy()(labels[..., None], logits)
    with pytest.raises(ValueError, match="same height and width"):
        SegmentationDice()(labels[:, 1:], logits)
    with pytest.raises(ValueError, match="class_weights must be None, or one"):
        SegmentationDice(class_weights="balanced")
    with pytest.raises(ValueError, match="smooth must be above 0"):
        SegmentationDice(smooth=0)
