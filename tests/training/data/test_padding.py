"""Batches of pictures of different sizes: few shapes, and nothing but padding is added."""

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import once
from training.data.padding import padded, said, sides_of
from training.recipe.schema import AugmentTable, DataTable

pytestmark = once

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)


def examples(sizes, counts):
    def generate():
        rng = np.random.default_rng(0)
        for (height, width), count in zip(sizes, counts, strict=True):
            boxes = rng.uniform(0.1, 0.9, (count, 4)).astype("float32")
            target = {"boxes": boxes, "labels": np.arange(1, count + 1, dtype="int32")}
            yield rng.uniform(0, 255, (height, width, 3)).astype("float32"), target

    boxes = {
        "boxes": tf.TensorSpec((None, 4), tf.float32),
        "labels": tf.TensorSpec((None,), tf.int32),
    }
    spec = (tf.TensorSpec((None, None, 3), tf.float32), boxes)
    return tf.data.Dataset.from_generator(generate, output_signature=spec)


def test_a_batch_has_pictures_masks_and_objects():
    sizes, counts = [(20, 30), (31, 12), (8, 9)], [2, 0, 5]
    shown = examples(sizes, counts)
    plain = list(shown.as_numpy_iterator())
    (inputs, targets), last = padded((32, 48), 3, MEAN, STD)(shown, 2).as_numpy_iterator()
    assert inputs["images"].shape == (2, 32, 32, 3) and inputs["images"].dtype == "float32"
    for i, (height, width) in enumerate(sizes[:2]):
        normalised = (plain[i][0] / 255 - MEAN) / STD
        image = inputs["images"][i]
        np.testing.assert_allclose(image[:height, :width], normalised, atol=1e-5)
        assert not image[height:].any() and not image[:, width:].any()
        valid = inputs["valid"][i]
        assert valid[:height, :width].all() and valid.sum() == height * width
    assert targets["count"].tolist() == [2, 0] and targets["boxes"].shape == (2, 3, 4)
    np.testing.assert_array_equal(targets["boxes"][0, :2], plain[0][1]["boxes"])
    assert not targets["boxes"][0, 2:].any() and not targets["boxes"][1].any()
    assert targets["labels"].tolist() == [[1, 2, 0], [0, 0, 0]]
    # Of more objects than there is room for, the first ones stay.
    assert last[1]["count"].tolist() == [3] and last[1]["labels"].tolist() == [[1, 2, 3]]
    assert last[0]["images"].shape == (1, 32, 32, 3)


def test_pixels_are_padded_with_what_a_model_takes_to_zero():
    batches = padded((32,), 1, 0.0, 1 / 255, (127.5, 102.0, 76.5))(examples([(20, 30)], [1]), 1)
    inputs, _ = next(batches.as_numpy_iterator())
    np.testing.assert_allclose(inputs["images"][0, 25, 5], [127.5, 102.0, 76.5])
    assert inputs["images"][0, :20, :30].max() > 200


def test_many_sizes_become_a_handful():
    rng = np.random.default_rng(1)
    sizes = rng.integers(20, 97, (60, 2))
    sides = sides_of(DataTable("x"), AugmentTable(), sizes)
    shown = examples(sizes, [1] * 60)
    shapes = {x["images"].shape[1:3] for x, _ in padded(sides, 1, MEAN, STD)(shown, 2)}
    assert len({tuple(x) for x in sizes}) > 50 and 2 <= len(shapes) <= len(sides) ** 2 <= 9
    assert all(side % 32 == 0 for side in sides)
    assert str(len(sides) ** 2) in said(sides)


def test_the_sides_follow_from_the_settings():
    sizes = np.array([[300, 500], [480, 640]])
    coco = DataTable("x", fit_into=(1333, 800))
    assert sides_of(coco, AugmentTable(), sizes) == (800, 1088, 1344)
    scaled = AugmentTable(short_sides=(480, 832))
    assert sides_of(coco, scaled, sizes)[0] == 832
    assert sides_of(DataTable("x"), AugmentTable(), np.array([[64, 64]] * 3)) == (64,)
    assert said((64,)) == "batches are padded to one size, with sides of 64 pixels"
    own = DataTable("x", fit_into=(100, 50), pad_to=(128, 64))
    assert sides_of(own, AugmentTable(), sizes) == (64, 128)
    with pytest.raises(ValueError, match=r"that of a picture, 100, or more. Received.*\[64\]"):
        sides_of(DataTable("x", fit_into=(100, 50), pad_to=(64,)), AugmentTable(), sizes)
