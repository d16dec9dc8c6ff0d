"""Fused steps of optimizers on PyTorch beside Keras's own; and all that is not fused."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_vit.fast_paths import without_fast_paths
from keras_vit.optimizers import LayerwiseAdamW, LayerwiseSGD, WarmupSchedule, decays, layer_shares
from keras_vit.optimizers.fused import fuse
from tests.helpers import backends, images, tiny_vit, to_numpy

pytestmark = backends("torch")

STEPS = 5


def by_layer(model):
    return {
        "shares": layer_shares(model, 0.5),
        "decays": [decays(v.path) for v in model.trainable_variables],
    }


KINDS = {
    "Adam": lambda model, **given: keras.optimizers.Adam(1e-2, **given),
    "AdamW": lambda model, **given: keras.optimizers.AdamW(1e-2, weight_decay=0.1, **given),
    "AdamW, some excluded": lambda model, **given: excluding(
        keras.optimizers.AdamW(1e-2, weight_decay=0.1, beta_1=0.8, epsilon=1e-4, **given)
    ),
    "LayerwiseAdamW": lambda model, **given: LayerwiseAdamW(
        WarmupSchedule(1e-2, 100, 3), 0.1, **by_layer(model), **given
    ),
    "LayerwiseSGD": lambda model, **given: LayerwiseSGD(
        0.1, weight_decay=0.1, **by_layer(model), **given
    ),
    "LayerwiseSGD, momentum": lambda model, **given: LayerwiseSGD(
        0.1, 0.9, weight_decay=0.1, **by_layer(model), **given
    ),
    "LayerwiseSGD, Nesterov": lambda model, **given: LayerwiseSGD(
        0.1, 0.9, True, weight_decay=0.1, **by_layer(model), **given
    ),
}
SETTINGS = {
    "plain": {},
    "clipped": {"global_clipnorm": 0.5},
    "each clipped": {"clipnorm": 0.01},
    "average": {"use_ema": True, "ema_momentum": 0.9},
    "accumulated": {"gradient_accumulation_steps": 2, "global_clipnorm": 0.5, "use_ema": True},
}


def excluding(optimizer):
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def gradients(model, seed=0):
    """Of very different sizes, one of them not in the order of memory of its variable."""
    draw = np.random.default_rng(seed)
    found = [
        ops.convert_to_tensor(
            (draw.normal(size=v.shape) * 10.0 ** draw.uniform(-8, 0)).astype("float32")
        )
        for v in model.trainable_variables
    ]
    turned = next(i for i, gradient in enumerate(found) if gradient.ndim == 2)
    found[turned] = found[turned].T.contiguous().T
    assert not found[turned].is_contiguous()
    return found


def after_steps(make, model=None, steps=STEPS):
    """All variables of a model and its optimizer after some steps, as NumPy arrays."""
    keras.utils.set_random_seed(0)
    model = model or tiny_vit(depth=2)
    optimizer = make(model)
    fuse(optimizer)
    optimizer.build(model.trainable_variables)
    for step in range(steps):
        optimizer.apply(gradients(model, step), model.trainable_variables)
    return [to_numpy(v) for v in (*model.variables, *optimizer.variables)], optimizer


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_those_of_keras(kind, setting, monkeypatch):
    def make(model):
        return KINDS[kind](model, **SETTINGS[setting])

    with without_fast_paths():
        expected, _ = after_steps(make)
    forbid_steps_of_keras(monkeypatch, type(make(tiny_vit(depth=2))))
    found, _ = after_steps(make)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    assert any(np.abs(now).max() > 0 for now in found)


def forbid_steps_of_keras(monkeypatch, kind):
    def forbidden(*args):
        raise AssertionError("Keras's own step")

    monkeypatch.setattr(kind, "_backend_update_step", forbidden)


@pytest.mark.parametrize("kind", ["AdamW", "LayerwiseAdamW"])
def test_loss_scale(kind):
    """The optimizer inside of a `LossScaleOptimizer` is fused; steps that overflow are skipped."""

    def make(model):
        return keras.optimizers.LossScaleOptimizer(KINDS[kind](model), initial_scale=8.0)

    with without_fast_paths():
        expected, _ = after_steps(make)
    found, optimizer = after_steps(make)
    assert "_backend_update_step" in vars(optimizer.inner_optimizer)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    model = tiny_vit(depth=2)
    optimizer = make(model)
    fuse(optimizer)
    before = [to_numpy(v) for v in model.variables]
    infinite = [ops.full(v.shape, float("inf")) for v in model.trainable_variables]
    optimizer.apply(infinite, model.trainable_variables)
    for now, then in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(to_numpy(now), then)


def test_a_gradient_that_is_not_finite_reaches_all_that_is_clipped():
    model = tiny_vit(depth=2)
    optimizer = KINDS["AdamW"](model, global_clipnorm=1.0)
    fuse(optimizer)
    slopes = gradients(model)
    slopes[0] = slopes[0] * float("inf")
    optimizer.apply(slopes, model.trainable_variables)
    assert all(np.isnan(to_numpy(v)).all() for v in model.trainable_variables)


def test_variables_without_a_gradient_stay():
    model = tiny_vit(depth=2)
    optimizer = KINDS["LayerwiseAdamW"](model)
    slopes = gradients(model)
    slopes[3] = None
    before = [to_numpy(v) for v in model.trainable_variables]
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply(slopes, model.trainable_variables)
    optimizer.apply(gradients(model, 1)[:3], model.trainable_variables[:3])
    moved = [
        not np.array_equal(to_numpy(now), then)
        for now, then in zip(model.trainable_variables, before, strict=True)
    ]
    assert moved[:3] == [True] * 3 and not moved[3]


class Own(keras.optimizers.AdamW):
    pass


class OwnLayerwise(LayerwiseAdamW):
    pass


def test_other_optimizers_stay_as_they_are():
    model = tiny_vit(depth=2)
    for optimizer in (
        Own(),
        OwnLayerwise(**by_layer(model)),
        keras.optimizers.Muon(),
        keras.optimizers.SGD(),
    ):
        fuse(optimizer)
        assert not {"_backend_update_step", "apply"} & set(vars(optimizer))
    fuse(None)


def test_a_method_that_was_replaced_stays():
    optimizer, called = keras.optimizers.AdamW(), []
    apply = optimizer.apply
    optimizer.apply = lambda *args: called.append("apply") or apply(*args)
    optimizer._clip_gradients = lambda gradients: called.append("clip") or gradients
    fuse(optimizer)
    model = tiny_vit(depth=2)
    optimizer.apply(gradients(model), model.trainable_variables)
    assert called == ["apply", "clip"]


@pytest.mark.parametrize("given", [{"dtype": "bfloat16"}, {"amsgrad": True}], ids=str)
def test_what_no_kernel_takes_is_updated_by_keras(given, monkeypatch):
    dtype = given.pop("dtype", "float32")
    model = tiny_vit(depth=2, dtype=dtype)
    optimizer = KINDS["AdamW"](model, **given)
    forbid_steps_of_keras(monkeypatch, type(optimizer))
    fuse(optimizer)
    slopes = [ops.cast(x, dtype) for x in gradients(model)]
    with pytest.raises(AssertionError, match="Keras's own step"):
        optimizer.apply(slopes, model.trainable_variables)


def test_fit_fuses_and_the_switch_turns_it_off(monkeypatch):
    model = tiny_vit(depth=2, num_classes=3)
    x, y = images(model.input_shape[1:3]), np.arange(3) % 3
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-2), loss)
    forbid_steps_of_keras(monkeypatch, type(model.optimizer))
    model.fit(x, y, verbose=0)
    model.train_on_batch(x, y)
    with without_fast_paths(), pytest.raises(AssertionError, match="Keras's own step"):
        model.train_on_batch(x, y)


def test_stateless_apply_changes_nothing_of_its_own():
    model = tiny_vit(depth=2)
    optimizer = KINDS["LayerwiseSGD"](model)
    optimizer.build(model.trainable_variables)
    before = [to_numpy(v) for v in (*model.trainable_variables, *optimizer.variables)]
    given = [v.value for v in model.trainable_variables]
    found, _ = optimizer.stateless_apply(
        [v.value for v in optimizer.variables], gradients(model), [x.clone() for x in given]
    )
    for now, then in zip((*model.trainable_variables, *optimizer.variables), before, strict=True):
        np.testing.assert_array_equal(to_numpy(now), then)
    assert not np.array_equal(to_numpy(found[0]), before[0])


def test_a_fused_optimizer_is_saved_and_goes_on(tmp_path):
    model = tiny_vit(depth=2, num_classes=3)
    x, y = images(model.input_shape[1:3]), np.arange(3) % 3
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-2), loss)
    model.fit(x, y, epochs=3, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is type(model.optimizer)
    assert model.train_on_batch(x, y) == loaded.train_on_batch(x, y)
    assert model.train_on_batch(x, y) == loaded.train_on_batch(x, y)
