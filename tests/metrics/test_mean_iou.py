"""MeanIoU beside the definition of scikit-learn's confusion matrix, in NumPy."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.metrics.mean_iou import DIGIT
from tests.helpers import compile_model, once

K = 5


def definition(labels, predicted, num_classes=K):
    """C[i, j] is the number of pixels with the label i and the prediction j."""
    found = np.zeros((num_classes, num_classes), "int64")
    for i in range(num_classes):
        for j in range(num_classes):
            found[i, j] = ((labels == i) & (predicted == j)).sum()
    return found


def maps(rng, size=(3, 7, 6)):
    """Labels with ignored pixels and a class, 3, that occurs in neither; logits."""
    labels = rng.choice([0, 1, 2, 4, 255], size)
    logits = rng.normal(size=(*size, K)).astype("float32")
    logits[..., 3] = -100
    return labels, logits


def test_the_counts_of_all_batches_are_those_of_the_definition(rng):
    metric, expected = keras_vit.metrics.MeanIoU(K), 0
    for _ in range(3):
        labels, logits = maps(rng)
        metric.update_state(labels, logits)
        expected = expected + definition(labels, logits.argmax(-1))
    assert metric.confusion.dtype == "int64"
    np.testing.assert_array_equal(metric.confusion, expected)
    both, rows, columns = expected.diagonal(), expected.sum(1), expected.sum(0)
    with np.errstate(invalid="ignore"):
        iou = both / (rows + columns - both)
        found = metric.per_class()
        np.testing.assert_allclose(found["iou"], iou)
        np.testing.assert_allclose(found["dice"], 2 * both / (rows + columns))
        np.testing.assert_allclose(found["accuracy"], both / rows)
    assert np.isnan(found["iou"][3]) and np.isfinite(np.delete(found["iou"], 3)).all()
    np.testing.assert_allclose(float(metric.result()), np.nanmean(iou), rtol=1e-6)
    metric.reset_state()
    assert metric.confusion.sum() == 0 and float(metric.result()) == 0


def test_class_maps_and_logits_of_another_size(rng):
    labels = rng.integers(0, K, (2, 8, 12))
    predicted = rng.integers(0, K, (2, 8, 12))
    metric = keras_vit.metrics.MeanIoU(K)
    metric.update_state(labels, predicted)
    np.testing.assert_array_equal(metric.confusion, definition(labels, predicted))
    # A class for each half: enlarged, the border stays in the middle of the labels.
    logits = np.zeros((1, 4, 6, 2), "float32")
    logits[:, :, :3, 0] = logits[:, :, 3:, 1] = 1
    halves = np.repeat(np.arange(12)[None, None] >= 6, 8, axis=1).astype("int32")
    metric = keras_vit.metrics.MeanIoU(2)
    metric.update_state(halves, logits)
    np.testing.assert_array_equal(metric.confusion, [[48, 0], [0, 48]])


def test_a_void_class_behind_the_last_is_not_counted_into_it():
    """`np.histogram(x, bins=range(K + 1))` has K in its last bin, which is closed."""
    labels, predicted = np.array([[[4, 5, 5, 0]]]), np.array([[[4, 4, 0, 0]]])
    assert np.histogram(labels, bins=range(K + 1))[0][4] == 3  # the trap
    metric = keras_vit.metrics.MeanIoU(K)
    metric.update_state(labels, predicted)
    np.testing.assert_array_equal(metric.confusion, definition(labels, predicted))
    assert metric.confusion.sum() == 2 and float(metric.result()) == 1


def test_a_class_that_is_ignored():
    metric = keras_vit.metrics.MeanIoU(2, ignore_class=0)
    metric.update_state([[[0, 1, 1]]], [[[1, 1, 0]]])
    np.testing.assert_array_equal(metric.confusion, [[0, 0], [1, 1]])


def test_counts_stay_exact_beyond_float32(rng):
    """Above 2^24 float32 would lose single pixels; an int32 ends at 2^31."""
    metric = keras_vit.metrics.MeanIoU(2)
    metric.high.assign(np.full((2, 2), 2**13, "int32"))  # 2^33 pixels a cell
    metric.low.assign(np.full((2, 2), DIGIT - 1, "int32"))
    metric.update_state([[[0, 0, 1]]], [[[0, 0, 1]]])
    before = 2**33 + DIGIT - 1
    np.testing.assert_array_equal(metric.confusion, [[before + 2, before], [before, before + 1]])
    np.testing.assert_allclose(float(metric.result()), 1 / 3, rtol=1e-6)


def test_it_works_in_fit_and_evaluate(rng):
    model = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(K, 1)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    compile_model(model, "sgd", loss)
    model.compile(
        "sgd", loss, metrics=[keras_vit.metrics.MeanIoU(K)], jit_compile=model.jit_compile
    )
    x = rng.normal(size=(5, 6, 6, 3)).astype("float32")
    y = rng.choice([0, 1, 2, 4, 255], (5, 6, 6))
    history = model.fit(x, y, batch_size=2, epochs=2, validation_data=(x, y), verbose=0).history
    confusion = definition(y, model.predict(x, verbose=0).argmax(-1))
    both = confusion.diagonal()
    with np.errstate(invalid="ignore"):
        expected = np.nanmean(both / (confusion.sum(0) + confusion.sum(1) - both))
    found = model.evaluate(x, y, batch_size=2, verbose=0, return_dict=True)["mean_iou"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(history["val_mean_iou"][-1], expected, rtol=1e-6)


@once
def test_its_config_and_what_it_refuses():
    metric = keras_vit.metrics.MeanIoU(3, ignore_class=None, name="iou")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config() and again.name == "iou"
    with pytest.raises(ValueError, match="num_classes must be 2 or more"):
        keras_vit.metrics.MeanIoU(1)
    with pytest.raises(ValueError, match="takes as many logits"):
        metric.update_state(np.zeros((1, 2, 2)), np.zeros((1, 2, 2, 4)))
    with pytest.raises(ValueError, match=r"labels \(B, H, W\)"):
        metric.update_state(np.zeros((1, 2)), np.zeros((1, 2, 2, 3)))
    with pytest.raises(ValueError, match="no sample weights"):
        metric.update_state(np.zeros((1, 2, 2)), np.zeros((1, 2, 2, 3)), np.ones(1))
