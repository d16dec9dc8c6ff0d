"""Measures of a detector: beside COCO's evaluation, and cases that are worked out by hand."""

import numpy as np
import pytest

from tests.helpers import once
from training.data.boxes import Boxes
from training.results import box_figures
from training.results.detections import (
    ERRORS,
    Detections,
    average_precision,
    iou,
    kinds_of,
    match,
)

pytestmark = once
pytest.importorskip("faster_coco_eval")


def drawn(rng, pictures=30, classes=3, crowds=0.1):
    """`Detections` of drawn objects, moved a little, doubled, of other classes, and of nothing."""
    objects, sizes = [], []
    for _ in range(pictures):
        own = []
        for _ in range(rng.integers(0, 5)):
            x, y, w, h = rng.uniform(5, 60, 4)
            own.append(([x, y, w, h], int(rng.integers(classes)), rng.random() < crowds, w * h))
        objects.append(own)
        sizes.append((130, 130))
    boxes = Boxes.of_pictures(objects, sizes, np.arange(pictures), [4, 8, 15])
    found = Detections(boxes)
    for i, own in enumerate(objects):
        shown, labels = [rng.uniform(0, 60, 4)], [0]
        for box, label, *_ in own:
            for _ in range(rng.integers(0, 3)):
                shown.append(np.array(box) * rng.normal(1, 0.1, 4))
                labels.append(label if rng.random() < 0.8 else int(rng.integers(classes)))
        shown = np.array(shown)
        shown[:, 2:] += shown[:, :2]
        found.add(i, shown, np.round(rng.random(len(shown)), 3), np.array(labels))
    return found


def pictures_of(found):
    return [found.picture(i) for i in range(len(found.boxes))]


def test_matching_gives_cocos_average_precision(rng):
    found = drawn(rng)
    pictures = pictures_of(found)
    matched = [match(x) for x in pictures]
    once_each = np.ones((1, len(pictures)), int)
    (value,) = average_precision(pictures, matched, 3, once_each)
    assert value == pytest.approx(found.metric.result()["AP50"], abs=1e-12)
    assert 0.2 < value < 0.9
    result = found.measure()
    assert result.numbers_of_coco == found.metric.result()
    low, high = result.interval
    assert low < value < high < 1 and high - low > 0.03
    # Pictures that count twice are as if they were there twice.
    twice = average_precision(pictures, matched, 3, 2 * once_each)
    assert twice == pytest.approx(value, abs=1e-12)
    some = (rng.random((1, len(pictures))) < 0.5).astype(int)
    part = np.flatnonzero(some[0])
    boxes = found.boxes[part]
    alone = Detections(boxes)
    for place, i in enumerate(part):
        x = pictures[i]
        alone.add(place, x.boxes, x.scores, x.classes)
    (value,) = average_precision(pictures, matched, 3, some)
    assert value == pytest.approx(alone.metric.result()["AP50"], abs=1e-12)


def test_the_objects_themselves_are_a_perfect_result(rng):
    found = drawn(rng, crowds=0)
    perfect = Detections(found.boxes)
    for i, x in enumerate(pictures_of(found)):
        perfect.add(i, x.truth, np.full(len(x.truth), 0.9), x.labels)
    result = perfect.measure()
    assert result.numbers_of_coco["AP"] == pytest.approx(1)
    assert result.precision == result.recall == 1 and not any(result.errors.values())
    assert (result.of_pictures == 1).all()
    assert all(x["AP"] == pytest.approx(1) for x in result.by_class.values())
    assert "AP 100.00 %, AP50 100.00 %" in str(result)


def one_picture():
    """An object of each of two classes, and a crowd."""
    boxes = Boxes.of_pictures(
        [
            [
                ([0, 0, 10, 10], 0, 0, 100),
                ([50, 50, 10, 10], 1, 0, 100),
                ([100, 0, 20, 20], 1, 1, 400),
            ]
        ],
        [(130, 130)],
        [0],
        [0, 1],
    )
    return boxes, Detections(boxes)


def test_every_kind_of_error():
    boxes, found = one_picture()
    shown = [
        ([0, 0, 10, 10], 0, 0.9),  # right
        ([0, 0, 10, 9], 0, 0.8),  # a duplicate
        ([50, 50, 60, 60], 0, 0.7),  # another class
        ([55, 50, 65, 60], 1, 0.6),  # a third of the object
        ([56, 50, 66, 60], 0, 0.5),  # and of another class
        ([80, 80, 90, 90], 1, 0.4),  # nothing there
        ([101, 1, 110, 10], 1, 0.3),  # in a crowd, which does not count
        ([0, 0, 10, 10], 1, 0.2),  # below the threshold
    ]
    columns = (np.array(x) for x in zip(*shown, strict=True))
    corners, classes, scores = columns
    found.add(0, corners.astype(float), scores, classes)
    kinds, missed = kinds_of(found.picture(0), 0.25)
    assert kinds.tolist() == [
        "right",
        "duplicate",
        "class",
        "localisation",
        "both",
        "background",
    ]
    assert missed == 1 and set(kinds) | {"missed"} == {*ERRORS, "right"}
    result = found.measure()
    assert result.threshold == 0.9 and (result.precision, result.recall) == (1, 0.5)
    assert result.objects == 2 and result.counts.tolist() == [1, 1]
    assert result.errors["missed"] == 1 and sum(result.errors.values()) == 1
    assert result.of_pictures.tolist() == [pytest.approx(2 / 3)]
    numbers = result.numbers()
    assert numbers["AP_large"] is None and numbers["class_AP"] == [pytest.approx(1), 0]


def test_overlap():
    one = np.array([[0.0, 0, 10, 10], [5, 5, 5, 5]])
    other = np.array([[5.0, 0, 15, 10], [0, 0, 20, 20]])
    np.testing.assert_allclose(iou(one, other), [[1 / 3, 0.25], [0, 0]])
    np.testing.assert_allclose(iou(one, other, np.array([False, True])), [[1 / 3, 1], [0, 0]])


def test_pictures_without_anything():
    boxes = Boxes.of_pictures([[], []], [(9, 9)] * 2, [0, 1], [0, 1])
    found = Detections(boxes)
    for i in range(2):
        found.add(i, np.zeros((i, 4)), np.full(i, 0.5), np.zeros(i, int))
    result = found.measure()
    assert result.recall == 0 and result.interval == (0, 0)
    assert result.numbers()["AP"] is None
    # Of classes that the data do not have nothing counts.
    found = Detections(boxes)
    found.add(0, np.zeros((2, 4)), np.ones(2), np.array([-1, 7]))
    assert not len(found.picture(0).scores)


def test_figures_of_boxes(rng, tmp_path):
    from PIL import Image

    result = drawn(rng).measure()
    box_figures.precision_recall(result.curves, tmp_path / "curves.png")
    assert min(Image.open(tmp_path / "curves.png").size) > 300
    picture = np.full((40, 60, 3), 90, "uint8")
    cell = (picture, np.array([[10.0, 5, 30, 25]]), np.array([1]), np.array([0.7]))
    path = tmp_path / "sheet.png"
    box_figures.sheet([("a", [cell, cell])], ["one", "two"], "title", 3, path, ["x", "y", "z"])
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).astype(int)
    green = np.abs(pixels - [0, 128, 0]).max(axis=-1) < 12  # VOC's second colour
    assert green.sum() > 100
