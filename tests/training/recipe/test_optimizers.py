import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_vit
from keras_vit.optimizers import LayerwiseAdamW, WarmupSchedule, decays, layer_shares
from tests.helpers import backends, tiny_swin
from training.loop.ema import EvaluateEMA, ema_weights
from training.lora import enable_lora
from training.recipe.optimizers import NAMES, optimizer

MATRICES = {
    "patch_embedding/projection/kernel",
    "block00/attention/qkv/kernel",
    "block00/attention/proj/kernel",
    "block00/mlp/fc1/kernel",
    "block00/mlp/fc2/kernel",
    "head/dense/kernel",
}


def model(**arguments):
    small = dict(
        num_classes=3,
        image_size=8,
        patch_size=4,
        width=8,
        depth=1,
        num_heads=2,
        mlp_dim=16,
        num_registers=2,
        layer_scale=0.1,
        qk_norm=True,
    )
    return keras_vit.VisionTransformer(**{**small, **arguments})


def values(model):
    return {v.path: ops.convert_to_numpy(v).copy() for v in model.trainable_variables}


def apply(found, vit, gradient):
    """One update with the same gradient everywhere."""
    gradients = [ops.full(v.shape, gradient) for v in vit.trainable_variables]
    found.apply(gradients, vit.trainable_variables)


def constant(vit, **arguments):
    return optimizer(vit, total_steps=100, schedule="constant", **arguments)


@pytest.mark.parametrize(
    "arguments", [{"name": name} for name in NAMES] + [{"layer_decay": 0.999999}], ids=str
)
def test_only_matrices_decay(arguments):
    vit = model()
    for variable in vit.trainable_variables:
        variable.assign(np.ones(variable.shape))
    apply(constant(vit, learning_rate=0.1, weight_decay=0.5, **arguments), vit, 0.0)
    after = values(vit)
    assert {path for path, value in after.items() if value.max() < 1} == MATRICES
    np.testing.assert_allclose(after["head/dense/kernel"], 1 - 0.1 * 0.5, rtol=1e-5)


def test_the_probe_of_attention_pooling_does_not_decay():
    vit = model(pooling="map")
    vit.get_layer("pool").probe.assign(np.ones(vit.get_layer("pool").probe.shape))
    apply(constant(vit, learning_rate=0.1, weight_decay=0.5), vit, 0.0)
    assert values(vit)["pool/probe"].min() == 1


def test_every_layer_has_its_rate():
    vit = model(depth=3)
    shares = dict(zip(values(vit), layer_shares(vit, 0.5), strict=True))
    assert shares["head/dense/bias"] == shares["norm/gamma"] == 1
    assert shares["block02/mlp/fc1/kernel"] == 0.5
    assert shares["block00/norm1/beta"] == 0.5**3
    for path in ("patch_embedding/projection/kernel", "class_token/tokens", "registers/tokens"):
        assert shares[path] == 0.5**4
    assert shares["position_embedding/grid"] == 0.5**4

    # The first step of Adam is as long as its rate, whatever the gradient.
    before = values(vit)
    apply(constant(vit, learning_rate=1e-2, layer_decay=0.5), vit, 3.0)
    for path, value in values(vit).items():
        np.testing.assert_allclose(before[path] - value, 1e-2 * shares[path], rtol=1e-3)


@pytest.mark.parametrize("version", [1, 2])
def test_blocks_in_stages_have_theirs_and_biases_of_positions_do_not_decay(version):
    swin = tiny_swin(version=version)
    shares = dict(zip(values(swin), layer_shares(swin, 0.5), strict=True))
    assert shares["head/dense/bias"] == shares["norm/gamma"] == 1
    assert shares["stage1_block01/mlp/fc1/kernel"] == 0.5
    assert shares["stage1_block00/mlp/fc1/kernel"] == 0.5**2
    assert shares["stage1_merging/reduction/kernel"] == 0.5**2  # like the block after it
    assert shares["stage0_block00/attention/qkv/kernel"] == 0.5**4
    assert shares["patch_embedding/projection/kernel"] == shares["patch_norm/beta"] == 0.5**5
    decaying = {path for path in shares if decays(path)}
    assert all(path.endswith("/kernel") for path in decaying)
    assert not any("position_bias" in path for path in decaying)


def test_pyramids_have_theirs_and_every_projection_an_update():
    pvt = keras_vit.PyramidVisionTransformer(
        image_size=(24, 16),
        depths=(1, 2),
        widths=(8, 16),
        num_heads=(1, 2),
        mlp_ratios=(2, 2),
        reductions=(2, 1),
        patch_sizes=(4, 2),
        num_classes=4,
    )
    shares = dict(zip(values(pvt), layer_shares(pvt, 0.5), strict=True))
    assert shares["head/dense/bias"] == shares["norm/gamma"] == 1
    assert shares["stage1_block00/mlp/fc1/kernel"] == shares["class_token/tokens"] == 0.5**2
    assert shares["stage0_block00/attention/reduce/kernel"] == 0.5**3
    assert shares["stage0_position_embedding/grid"] == 0.5**4
    assert all(path.endswith("/kernel") for path in shares if decays(path))

    enable_lora(pvt, 2)
    names = {path.rpartition("/")[0] for path in values(pvt) if "lora" in path}
    query, fused = ("query", "key_value", "proj"), ("qkv", "proj")
    assert names == {f"stage0_block00/attention/{x}" for x in query} | {
        f"stage1_block0{i}/attention/{x}" for i in range(2) for x in fused
    }


def test_rates_by_layer_without_decay_are_adamw():
    plain, layered = model(), model()
    for ours, theirs in zip(plain.weights, layered.weights, strict=True):
        theirs.assign(ops.copy(ours))
    settings = dict(learning_rate=1e-2, weight_decay=0.1, clip_norm=1.0)
    one, other = constant(plain, **settings), constant(layered, **settings, layer_decay=0.9)
    assert isinstance(other, LayerwiseAdamW)
    other.shares = [1.0] * len(other.shares)
    for gradient in (0.3, -0.1, 0.2):
        apply(one, plain, gradient)
        apply(other, layered, gradient)
    for path, value in values(plain).items():
        np.testing.assert_allclose(values(layered)[path], value, atol=1e-6, err_msg=path)


def test_rates_by_layer_train_and_are_saved(tmp_path):
    vit = model()
    vit.compile(constant(vit, layer_decay=0.5, weight_decay=0.1), "mse")
    images, targets = np.ones((4, 8, 8, 3), "float32"), np.ones((4, 3), "float32")
    vit.fit(images, targets, verbose=0)
    vit.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == vit.optimizer.get_config()
    vit.fit(images, targets, verbose=0)
    loaded.fit(images, targets, verbose=0)
    for path, value in values(vit).items():
        np.testing.assert_allclose(values(loaded)[path], value, atol=1e-6, err_msg=path)
    with pytest.raises(ValueError, match="an entry for each trainable variable. Received: 2"):
        LayerwiseAdamW(shares=[1, 1], decays=[True, True]).build(vit.trainable_variables)


@backends("torch", "tensorflow")
@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_learns(name):
    vit = model()
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(32, 8, 8, 3)).astype("float32"), rng.integers(0, 3, 32)
    rate = {"adamw": 1e-2, "lion": 3e-3, "muon": 1e-2, "sgd": 1e-1}[name]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    vit.compile(constant(vit, name=name, learning_rate=rate, clip_norm=1.0), loss)
    history = vit.fit(images, labels, batch_size=16, epochs=20, verbose=0).history["loss"]
    assert history[-1] < 0.9 * history[0]


def test_accumulated_batches_are_one_large_one():
    """Also under a schedule, whose steps are batches."""
    whole, parts = model(), model()
    for ours, theirs in zip(whole.weights, parts.weights, strict=True):
        theirs.assign(ops.copy(ours))
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 8, 8, 3)).astype("float32")
    targets = rng.normal(size=(8, 3)).astype("float32")
    settings = dict(total_steps=40, schedule="constant", learning_rate=1e-2, clip_norm=1.0)
    whole.compile(optimizer(whole, **settings), "mse")
    parts.compile(optimizer(parts, **settings, accumulate=4), "mse")
    whole.fit(images, targets, batch_size=8, epochs=3, shuffle=False, verbose=0)
    parts.fit(images, targets, batch_size=2, epochs=3, shuffle=False, verbose=0)
    for path, value in values(whole).items():
        np.testing.assert_allclose(values(parts)[path], value, atol=2e-5, err_msg=path)
    linear = optimizer(parts, total_steps=40, schedule="linear", learning_rate=1.0, accumulate=4)
    linear.build(parts.trainable_variables)
    for _ in range(10):
        apply(linear, parts, 0.0)
    np.testing.assert_allclose(float(linear.learning_rate), 0.75, rtol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_average_is_evaluated_and_left_at_the_end(accumulate):
    vit = model()
    found = constant(vit, learning_rate=1e-2, ema=0.5, accumulate=accumulate)
    vit.compile(found, "mse")
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 8, 8, 3)).astype("float32")
    targets = rng.normal(size=(8, 3)).astype("float32")
    seen, averages = [], []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if accumulate > 1 and batch % 2 == 0:
                return
            if keras.backend.backend() == "jax":
                vit.jax_state_sync()
            seen.append(values(vit)["head/dense/kernel"])

        def on_epoch_end(self, epoch, logs=None):
            averages.append(logs["val_loss"])

    arguments = dict(batch_size=8 // (2 * accumulate), shuffle=False, verbose=0)
    vit.fit(
        images,
        targets,
        epochs=3,
        validation_data=(images, targets),
        callbacks=[Watch(), EvaluateEMA()],
        **arguments,
    )
    expected = seen[0]
    for value in seen[1:]:
        expected = 0.5 * expected + 0.5 * value
    if accumulate == 1:
        np.testing.assert_allclose(values(vit)["head/dense/kernel"], expected, atol=1e-5)
    # What fit left is what the last validation saw, and is not what training went on with.
    np.testing.assert_allclose(vit.evaluate(images, targets, verbose=0), averages[-1], rtol=1e-5)
    assert np.abs(values(vit)["head/dense/kernel"] - seen[-1]).max() > 1e-4
    for variable in found.variables:  # nor was any of them given away with the model's arrays
        assert np.isfinite(ops.convert_to_numpy(variable)).all()


def test_evaluating_an_average_needs_one():
    vit = model()
    vit.compile("adam", "mse")
    with pytest.raises(ValueError, match="use_ema=True. Received: Adam"), ema_weights(vit):
        pass


def test_schedules():
    def rates(steps, *arguments, **named):
        return [float(WarmupSchedule(*arguments, **named)(step)) for step in steps]

    found = rates((0, 5, 10, 35, 60, 110), 2.0, 110, 10)
    np.testing.assert_allclose(found, [0, 1, 2, 1 + np.cos(np.pi / 4), 1, 0], atol=1e-6)
    np.testing.assert_allclose(rates((0, 25, 100), 2.0, 100, shape="linear"), [2, 1.5, 0])
    found = rates((0, 50, 90, 95, 100), 2.0, 100, shape="constant", cooldown_steps=10)
    np.testing.assert_allclose(found, [2, 2, 2, 1, 0])
    found = rates((5, 10, 110, 310), 2.0, 1000, 10, "rsqrt", timescale=100)
    np.testing.assert_allclose(found, [1, 2, 2 / np.sqrt(2), 1], rtol=1e-6)
    schedule = WarmupSchedule(2.0, 100, 10, "rsqrt", 5)
    assert WarmupSchedule.from_config(schedule.get_config()).get_config() == schedule.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"warmup_steps": 60, "cooldown_steps": 40},
            "warmup_steps=60, cooldown_steps=40, total_steps=100",
        ),
        ({"schedule": "stairs"}, "optimizer.schedule must be one of cosine.*Received: 'stairs'"),
        ({"name": "adam"}, "optimizer.name must be one of adamw.*Received: 'adam'"),
        ({"name": "lion", "layer_decay": 0.9}, "layer_decay needs optimizer.name='adamw'"),
        ({"name": "muon", "beta_2": 0.9}, "beta_2 needs.*Received: beta_2=0.9, name='muon'"),
    ],
)
def test_bad_input_is_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        optimizer(model(), 100, **arguments)


def test_the_whole_gradient_is_clipped():
    assert optimizer(model(), 10, clip_norm=0.5).global_clipnorm == 0.5
    assert optimizer(model(), 10).global_clipnorm is None


def test_arguments_that_change_nothing_are_said_or_refused():
    for wrong, message in (
        ({"learning_rate": -1.0}, "learning_rate must be 0 or more"),
        ({"learning_rate": float("nan")}, "learning_rate must be 0 or more"),
        ({"warmup_steps": -1}, "0 or more.*warmup_steps=-1"),  # it would climb the loss
        ({"cooldown_steps": -1}, "0 or more.*cooldown_steps=-1"),
        ({"timescale": 0}, "timescale=0"),
        ({"shape": "stairs"}, "shape must be one of 'cosine'.*Received: shape='stairs'"),
    ):
        with pytest.raises(ValueError, match=message):
            WarmupSchedule(**{"learning_rate": 1.0, "total_steps": 10, **wrong})
    with pytest.warns(UserWarning, match="timescale=5 has no effect with shape='cosine'"):
        WarmupSchedule(1.0, 10, timescale=5)
    with pytest.warns(UserWarning, match="drop_at=0.5 has no effect with shape='cosine'"):
        WarmupSchedule(1.0, 10, drop_at=0.5)
    for share in (-1, float("nan")):
        with pytest.raises(ValueError, match="shares must be 0 or more"):
            LayerwiseAdamW(shares=[1, share], decays=[True, True])
    # Saved files may hold these, so they stay warnings.
    with pytest.warns(UserWarning, match="layer.trainable=False"):
        LayerwiseAdamW(shares=[1, 0], decays=[True, True])
    with pytest.warns(UserWarning, match="Nothing is learned"):
        WarmupSchedule(0.0, 10)
    weights = model().trainable_variables[:1]
    with pytest.raises(ValueError, match=r"decays=\[...\]"):
        LayerwiseAdamW(shares=[1], decays=[True]).exclude_from_weight_decay(var_list=weights)
    with pytest.warns(UserWarning, match="weight_decay=0.1 has no effect"):
        LayerwiseAdamW(weight_decay=0.1, shares=[1], decays=[False]).build(weights)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        LayerwiseAdamW(weight_decay=0.1, shares=[1], decays=[True]).build(weights)
        WarmupSchedule(1.0, 10, 2, "rsqrt", timescale=5)
