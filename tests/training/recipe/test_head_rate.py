"""The optimizer of SETR's recipes: plain SGD, a poly schedule, the head at ten times the rate."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_vit
from keras_vit.optimizers import WarmupSchedule, head_shares
from tests.helpers import once, randomize, tiny_vit
from training.recipe.optimizers import optimizer


def segmenter():
    encoder = tiny_vit(num_classes=None)
    return keras_vit.SETR(encoder, "naive", num_classes=3, decoder_width=4)


def moved(model, **arguments):
    """dict of path to how far one update with gradients of 1 moves a variable."""
    before = {v.path: ops.convert_to_numpy(v).copy() for v in model.trainable_variables}
    found = optimizer(model, total_steps=10, schedule="constant", **arguments)
    gradients = [ops.ones(v.shape) for v in model.trainable_variables]
    found.apply(gradients, model.trainable_variables)
    return {
        v.path: float(np.mean(before[v.path] - ops.convert_to_numpy(v)))
        for v in model.trainable_variables
    }


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_decoder_and_auxiliary_heads_learn_ten_times_as_fast(name):
    found = moved(segmenter(), name=name, learning_rate=0.01, head_rate=10.0, nesterov=False)
    heads = [p for p in found if p.startswith(("decoder/", "auxiliary_head"))]
    assert {p.partition("/")[0] for p in heads} >= {"decoder", "auxiliary_head0"}
    assert 0 < len(heads) < len(found)
    for path, distance in found.items():
        assert distance == pytest.approx(0.1 if path in heads else 0.01, rel=1e-3), path


@once
def test_the_head_of_a_classifier_and_decay_at_its_rate():
    model = tiny_vit()
    randomize(model)
    kernel = ops.convert_to_numpy(model.get_layer("head").dense.kernel).copy()
    found = optimizer(
        model, 10, "sgd", 0.1, "constant", weight_decay=0.5, head_rate=10.0, nesterov=False
    )
    found.apply([ops.zeros(v.shape) for v in model.trainable_variables], model.trainable_variables)
    after = ops.convert_to_numpy(model.get_layer("head").dense.kernel)
    np.testing.assert_allclose(after, kernel * (1 - 0.1 * 10 * 0.5), rtol=1e-5)
    assert set(head_shares(model, 10.0)) == {1.0, 10.0}
    with pytest.raises(ValueError, match="head_rate needs optimizer.name='adamw' or 'sgd'"):
        optimizer(model, 10, "lion", head_rate=10.0)


@once
def test_rates_by_layer_and_by_head_multiply():
    model = segmenter()
    found = optimizer(model, 10, "adamw", layer_decay=0.5, head_rate=10.0)
    shares = dict(zip([v.path for v in model.trainable_variables], found.shares, strict=True))
    assert shares["auxiliary_head0/classifier/kernel"] == shares["decoder/classifier/bias"] == 10
    depth = sum(
        layer.name.startswith("block") and layer.name[5:].isdecimal() for layer in model.layers
    )
    assert shares["patch_embedding/projection/kernel"] == 0.5 ** (depth + 1)


def test_momentum_without_nesterov_is_that_of_torch():
    """v = 0.9 v + g; w = w - rate v: mmsegmentation trains with torch.optim.SGD."""
    model = segmenter()
    weight = model.trainable_variables[-1]
    start = ops.convert_to_numpy(weight).copy()
    found = optimizer(model, 10, "sgd", 0.01, "constant", head_rate=2.0, nesterov=False)
    velocity = distance = 0.0
    for _ in range(3):
        gradients = [ops.ones(v.shape) for v in model.trainable_variables]
        found.apply(gradients, model.trainable_variables)
        velocity = 0.9 * velocity + 1
        distance += 0.02 * velocity
    np.testing.assert_allclose(start - ops.convert_to_numpy(weight), distance, rtol=1e-5)


def test_poly_is_that_of_mmsegmentation():
    schedule = WarmupSchedule(0.01, 100, shape="poly", min_learning_rate=1e-4)
    for step in (0, 1, 50, 99, 100):
        expected = (0.01 - 1e-4) * (1 - step / 100) ** 0.9 + 1e-4
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert float(again(30)) == float(schedule(30))
    assert float(WarmupSchedule(1.0, 11, 1, "poly")(6)) == pytest.approx(0.5**0.9, rel=1e-5)


@once
def test_what_poly_refuses():
    with pytest.raises(ValueError, match="at most learning_rate"):
        WarmupSchedule(0.01, 100, shape="poly", min_learning_rate=0.1)
    with pytest.warns(UserWarning, match="no effect with shape='cosine'"):
        WarmupSchedule(0.01, 100, min_learning_rate=0.001)


@once
def test_the_optimizer_of_a_saved_run_loads(tmp_path):
    model = segmenter()
    model.compile(optimizer(model, 10, "sgd", head_rate=10.0, schedule="poly", ema=0.9))
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.optimizer.shares == model.optimizer.shares
    assert again.optimizer.get_config() == model.optimizer.get_config()
