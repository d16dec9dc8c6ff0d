"""The transforms of pictures with boxes: the authors' sizes, boxes that stay on their objects."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import once
from training.augment import detection
from training.augment.joint import Motion, move_boxes, move_picture
from training.recipe.schema import AugmentTable, DataTable

pytestmark = once  # tf.data, on every backend

DATA = DataTable("x", fit_into=(200, 120))
SCALES = AugmentTable(
    flip=True, short_sides=(60, 90, 120), crop_sides=(40, 90), crop_short_sides=(64, 100)
)


def of_the_authors(height, width, size, longest):
    """`get_size_with_aspect_ratio` of DETR's datasets/transforms.py, as it is defined there."""
    w, h = width, height
    if longest is not None:
        least, most = float(min(w, h)), float(max(w, h))
        if most / least * size > longest:
            size = int(round(longest * least / most))
    if (w <= h and w == size) or (h <= w and h == size):
        return h, w
    if w < h:
        return int(size * h / w), size
    return size, int(size * w / h)


def test_the_size_is_the_authors(rng):
    cases = [(480, 640, 800), (640, 427, 800), (574, 305, 800), (800, 800, 800), (333, 500, 480)]
    cases += [(*rng.integers(30, 900, 2).tolist(), int(rng.integers(30, 900))) for _ in range(300)]
    resized = tf.function(detection.resized)
    for height, width, short in cases:
        for longest in (1333, 500, None):
            arguments = (tf.constant(x) for x in (height, width, short))
            found = tuple(x.numpy() for x in resized(*arguments, longest))
            assert found == of_the_authors(height, width, short, longest), (height, width, short)
    assert of_the_authors(574, 305, 800, 1333) == (1332, 708)  # not the unrounded 1333


def block(height=100, width=150):
    """A dark picture with a bright rectangle, and its box."""
    picture = np.zeros((height, width, 3), "uint8")
    picture[30:70, 40:110] = 255
    corners = np.array([[40, 30, 110, 70]], "float32")
    return picture, (tf.constant(corners), tf.constant([2]), tf.constant([height, width]))


def bright(image):
    """The corners of what is bright in an image, in pixels."""
    inside = np.asarray(image).mean(axis=-1) > 127
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def corners_of(target, image):
    height, width = image.shape[:2]
    x, y, w, h = target["boxes"].numpy()[0] * ([width, height] * 2)
    return np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"flip": False, "crop_sides": (), "crop_short_sides": ()},
        {"short_sides": ()},
        {"crop_short_sides": ()},
    ],
    ids=["all", "scales", "crops", "crops of the picture"],
)
def test_a_box_stays_around_what_is_bright(changed):
    """Whatever is drawn: scaled, cropped, mirrored."""
    augment = dataclasses.replace(SCALES, **changed)
    picture, label = block()
    example = tf.function(detection.training_example(augment, DATA))
    kinds = set()
    for draw in range(60):
        image, target = example(tf.constant(picture), label, tf.constant([0, draw]))
        assert max(image.shape[:2]) <= 200
        if bright(image).size and len(target["labels"]):
            np.testing.assert_allclose(corners_of(target, image), bright(image), atol=1.6)
            assert target["labels"].numpy().tolist() == [2]
            x, y, w, h = target["boxes"].numpy()[0]
            assert w > 0 and h > 0
            assert x - w / 2 > -1e-6 and x + w / 2 < 1 + 1e-6 and 0 <= y <= 1
            kinds.add((image.shape[0], image.shape[1], bool(x < 0.5)))
    assert len(kinds) >= (3 if changed.get("crop_sides") == () else 9)


def test_a_draw_is_a_function_of_the_seed():
    picture, label = block()
    example = tf.function(detection.training_example(SCALES, DATA))
    one, other = (example(tf.constant(picture), label, tf.constant([3, 5])) for _ in range(2))
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1]["boxes"], other[1]["boxes"])
    eager = detection.training_example(SCALES, DATA)(picture, label, tf.constant([3, 5]))
    np.testing.assert_allclose(one[0], eager[0], atol=1)


def test_half_are_mirrored_and_half_are_cropped():
    size, flips, crops, shorts = tf.constant([100, 150]), 0, 0, set()
    draw = tf.function(lambda seed: detection.draw(size, seed, SCALES, DATA.fit_into))
    for i in range(300):
        motion = draw(tf.constant([1, i]))
        flips += bool(motion.mirrored)
        cropped = tuple(int(x) for x in motion[:2]) != tuple(int(x) for x in motion.window)
        crops += cropped
        height, width = (int(x) for x in motion.window)
        if not cropped:
            shorts.add(min(height, width))
        assert int(motion.top) + height <= int(motion.height)
        assert int(motion.left) + width <= int(motion.width)
        assert min(int(motion.top), int(motion.left)) >= 0
    assert 120 < flips < 180 and 110 < crops < 180
    assert shorts == {60, 90, 120}


def test_boxes_out_of_a_crop_are_dropped_and_others_cut_off():
    corners = tf.constant([[0.0, 0, 10, 10], [40, 40, 60, 60], [10, 10, 30, 30], [70, 70, 90, 90]])
    size = tf.constant([100, 100])
    motion = Motion(100, 100, 20, 20, (40, 40), tf.constant(False))
    moved = move_boxes(corners, size, motion).numpy()
    np.testing.assert_allclose(moved[1], [20, 20, 40, 40])
    np.testing.assert_allclose(moved[2], [0, 0, 10, 10])
    for outside in (0, 3):
        assert np.prod(moved[outside, 2:] - moved[outside, :2]) == 0
    targets = detection._targets(corners, tf.constant([1, 2, 3, 4]), size, motion)
    assert targets["labels"].numpy().tolist() == [2, 3]
    np.testing.assert_allclose(targets["boxes"][0], [0.75, 0.75, 0.5, 0.5])
    mirrored = move_boxes(corners, size, motion._replace(mirrored=tf.constant(True))).numpy()
    np.testing.assert_allclose(mirrored[2], [30, 0, 40, 10])
    # Twice as large, in a window that is padded below and to the right.
    larger = Motion(200, 200, 120, 0, (100, 300), tf.constant(True))
    picture = np.zeros((100, 100, 3), "float32")
    picture[70:90, 70:90] = 255
    image = move_picture(tf.constant(picture), larger, (0.0,) * 3).numpy()
    np.testing.assert_allclose(move_boxes(corners, size, larger)[3], bright(image), atol=1.01)


def test_evaluation_shows_the_whole_picture():
    picture, label = block()
    image, target = detection.evaluation_example(DATA)(tf.constant(picture), label)
    assert image.shape == (120, 180, 3)
    np.testing.assert_allclose(target["boxes"][0], [0.5, 0.5, 70 / 150, 0.4], atol=1e-6)
    own, _ = detection.evaluation_example(DataTable("x"))(tf.constant(picture), label)
    np.testing.assert_array_equal(own, picture)
    empty = (tf.zeros((0, 4)), tf.zeros((0,), tf.int32), label[2])
    _, target = detection.evaluation_example(DATA)(tf.constant(picture), empty)
    assert target["boxes"].shape == (0, 4) and target["labels"].shape == (0,)
