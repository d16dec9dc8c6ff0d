"""Boxes: formats, intersection over union, generalised IoU."""

import numpy as np
from keras import ops

from keras_vit.ops.boxes import area, center_to_corners, corners_to_center, generalized_iou, iou
from tests.helpers import to_numpy

# The unit square, one a quarter of it over, one beside it, one far away, one inside.
A = np.array([[0, 0, 1, 1]], "float32")
B = np.array(
    [[0.5, 0.5, 1.5, 1.5], [1, 0, 2, 1], [3, 0, 4, 1], [0, 0, 0.5, 0.5], [0, 0, 1, 1]], "float32"
)


def test_values_by_hand():
    a, b = ops.convert_to_tensor(A), ops.convert_to_tensor(B)
    np.testing.assert_allclose(to_numpy(iou(a, b)), [0.25 / 1.75, 0, 0, 0.25, 1], rtol=1e-6)
    # the hulls are 2.25, 2, 4, 1 and 1, the unions 1.75, 2, 2, 1 and 1
    expected = [0.25 / 1.75 - 0.5 / 2.25, 0, -0.5, 0.25, 1]
    np.testing.assert_allclose(to_numpy(generalized_iou(a, b)), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(to_numpy(area(b)), [1, 1, 1, 0.25, 1])


def test_all_pairs_and_order():
    rng = np.random.default_rng(0)
    a, b = (center_to_corners(rng.uniform(0.1, 1, (n, 4)).astype("float32")) for n in (3, 5))
    for function in (iou, generalized_iou):
        pairs = to_numpy(function(a[:, None], b[None]))
        assert pairs.shape == (3, 5)
        np.testing.assert_allclose(pairs.T, to_numpy(function(b[:, None], a[None])), atol=1e-6)
        np.testing.assert_allclose(np.diag(to_numpy(function(a[:, None], a[None]))), 1, atol=1e-6)
    assert (
        to_numpy(generalized_iou(a[:, None], b[None])) <= to_numpy(iou(a[:, None], b[None]))
    ).all()


def test_formats_are_inverse_and_x_comes_first():
    boxes = np.array([[0.4, 0.5, 0.2, 0.6]], "float32")
    corners = center_to_corners(boxes)
    np.testing.assert_allclose(to_numpy(corners), [[0.3, 0.2, 0.5, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(to_numpy(corners_to_center(corners)), boxes, rtol=1e-6)


def test_empty_boxes_have_no_nan():
    empty, others = ops.zeros((1, 4)), ops.convert_to_tensor(B)
    for function in (iou, generalized_iou):
        assert to_numpy(function(empty, empty)) == 0
        assert np.isfinite(to_numpy(function(empty, others))).all()
