"""What spoke for a class: gradients by differences, weighting by hand, nothing changed."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.interpret.gradients import class_gradients
from tests.helpers import (
    backends,
    images,
    once,
    randomize,
    run,
    tiny_cait,
    tiny_hybrid,
    tiny_swin,
    tiny_vit,
    to_numpy,
)

not_jax = backends("torch", "tensorflow")  # JAX compiles every operation of it


def deep_cait():
    """A CaiT whose branches have a say."""
    return tiny_cait(depth=2, class_depth=2, layer_scale=0.5)


@pytest.mark.parametrize(
    "make",
    [tiny_vit, pytest.param(deep_cait, marks=not_jax)],
    ids=lambda make: make.__name__,
)
def test_gradients_are_the_slopes_of_the_logit(make):
    """Central differences: a score is moved, the rest of the network runs on."""
    model = make()
    randomize(model)
    pixels = images(batch=2)
    maps = keras_vit.attention_maps(model, pixels)
    gradients = class_gradients(model, pixels, maps, [3, 1], scores=True)
    step, checked = 1e-2, 0
    for name in maps:
        block = model.get_layer(name)
        tail = keras.Model(block.output, model.output)
        x = keras.Model(model.input, block.input)(pixels)
        for index in [(0, 1, 0, 2), (1, 0, 0, 5), (1, 1, min(maps[name].shape[2] - 1, 4), 0)]:
            logits = []
            for sign in (1, -1):
                offset = np.zeros(maps[name].shape, "float32")
                offset[index] = sign * step
                logits.append(run(tail, to_numpy(block.call_with_offset(x, offset))))
            slope = (logits[0] - logits[1])[index[0], [3, 1][index[0]]] / (2 * step)
            np.testing.assert_allclose(gradients[name][index], slope, atol=2e-3 * abs(slope) + 1e-4)
            checked += abs(slope) > 1e-3
    assert checked >= 4


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({}, marks=once),  # sums of NumPy on the gradients, which are compared above
        pytest.param({"pooling": "gap"}, marks=once),
        {"pooling": "map"},  # gradients of every kind of score
        pytest.param({"distillation_token": True}, marks=once),
    ],
    ids=str,
)
def test_attribution_is_the_weighted_rollout(arguments):
    model = tiny_vit(**arguments)
    randomize(model)
    pixels = images()
    found = keras_vit.attention_attribution(model, pixels, classes=[2, 0, 3])
    assert found.shape == (3, 3, 2) and found.dtype == np.float32 and found.min() >= 0
    pool = ["pool"] if arguments.get("pooling") == "map" else []
    maps = keras_vit.attention_maps(model, pixels, ["block00", "block01", *pool])
    gradients = class_gradients(model, pixels, maps, [2, 0, 3], scores=True)
    a0, a1, *ap = [np.maximum(maps[x] * gradients[x], 0).mean(1)[1] for x in maps]
    whole = np.eye(len(a0)) + a0
    whole = whole + a1 @ whole
    if pool:
        row = (ap[0] @ whole)[0]
    elif arguments.get("pooling") == "gap":
        row = (whole - np.eye(6)).mean(0)
    else:
        row = whole[0] if not arguments else whole[:2].mean(0)
    expected = row[model.num_prefix_tokens :].reshape(3, 2)
    np.testing.assert_allclose(found[1], expected, rtol=1e-4, atol=1e-6)


@not_jax
def test_classes_differ_and_the_predicted_one_is_the_default():
    model = tiny_vit()
    randomize(model)
    pixels = images()
    best = to_numpy(model(pixels)).argmax(1)
    for function in (keras_vit.attention_attribution, keras_vit.grad_cam):
        predicted = function(model, pixels)
        np.testing.assert_array_equal(predicted, function(model, pixels, classes=best))
        each = [function(model, pixels, classes=k) for k in range(4)]
        assert all(np.abs(each[0] - x).max() > 1e-4 for x in each[1:])
        np.testing.assert_allclose(function(model, pixels, [2, 0, 1])[1], each[0][1], atol=1e-6)


def test_nothing_of_the_model_changes(tmp_path):
    model = tiny_vit(dropout_rate=0.1)
    randomize(model)
    model.compile("sgd", lambda y, p: keras.ops.mean((y - p) ** 2))  # a loss that nothing can save
    pixels = images()
    before = [keras.ops.convert_to_numpy(x) for x in (*model.weights, model(pixels))]
    names = [layer.name for layer in model.layers]
    optimizer = model.optimizer
    keras_vit.attention_attribution(model, pixels)
    keras_vit.grad_cam(model, pixels)
    keras_vit.attention_rollout(model, pixels)
    after = [keras.ops.convert_to_numpy(x) for x in (*model.weights, model(pixels))]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    assert names == [layer.name for layer in model.layers] and model.optimizer is optimizer
    assert not model.optimizer.built or model.optimizer.iterations == 0
    if keras.backend.backend() == "torch":
        assert all(p.grad is None for p in model.parameters())
        assert all(
            v.value.requires_grad == v.trainable for v in model.weights if "seed" not in v.path
        )
    model.compile("sgd", "mse")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(to_numpy(again(pixels)), before[-1], atol=1e-6)


@not_jax
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_is_near(policy):
    exact, half = tiny_vit(), tiny_vit(dtype=policy)
    randomize(exact)
    for ours, theirs in zip(half.weights, exact.weights, strict=True):
        ours.assign(to_numpy(theirs))
    for function in (keras_vit.attention_rollout, keras_vit.attention_attribution):
        arguments = {} if function is keras_vit.attention_rollout else {"classes": 1}
        a, b = (function(model, images(), **arguments) for model in (exact, half))
        assert b.dtype == np.float32
        assert np.abs(a - b).max() < 0.05 * a.max()


@pytest.mark.parametrize(
    "make",
    [
        tiny_vit,
        pytest.param(tiny_swin, marks=not_jax),
        pytest.param(tiny_hybrid, marks=not_jax),
    ],
    ids=lambda make: make.__name__,
)
def test_grad_cam_is_what_moving_the_map_does(make):
    """The weight of a channel is how the logit answers when the channel rises everywhere."""
    model = make()
    randomize(model)
    pixels = images(model.input.shape[1:3], batch=1)
    layer = {"tiny_vit": "block00", "tiny_swin": "stage0_block01", "tiny_hybrid": "dropout"}
    layer = layer[make.__name__]
    found = keras_vit.grad_cam(model, pixels, classes=1, layer=layer)
    x = to_numpy(model.features(pixels, [layer])[layer])
    grid = to_numpy(model.features(pixels, [layer], grid=True)[layer])[0]
    tail = keras.Model(model.get_layer(layer).output, model.output)
    step, weights = 3e-2, []
    for channel in range(x.shape[-1]):
        moved = []
        for sign in (1, -1):
            y = x.copy()
            y[..., model.num_prefix_tokens if y.ndim == 3 else 0 :, channel] += sign * step
            moved.append(run(tail, y)[0, 1])
        weights.append((moved[0] - moved[1]) / (2 * step) / (grid.shape[0] * grid.shape[1]))
    expected = np.maximum(grid @ np.array(weights), 0)
    assert found.shape == (1, *grid.shape[:2])
    np.testing.assert_allclose(found[0], expected, atol=0.02 * np.abs(grid @ weights).max())


@once  # shapes
def test_grad_cam_of_every_family_has_the_last_grid():
    default = keras_vit.grad_cam
    assert default(tiny_vit(), images()).shape == (3, 3, 2)
    assert default(tiny_swin(), images((32, 32))).shape == (3, 4, 4)
    assert default(tiny_cait(), images()).shape == (3, 3, 2)
    assert default(tiny_hybrid(), images()).shape == (3, 3, 2)
    assert default(tiny_vit(pooling="gap"), images()).shape == (3, 3, 2)
    pvt = dict(depths=(1, 1), widths=(8, 16), num_heads=(1, 2), mlp_ratios=(2, 2), num_classes=4)
    first = keras_vit.PyramidVisionTransformer(
        image_size=(24, 16), reductions=(2, 1), patch_sizes=(4, 2), **pvt
    )
    assert default(first, images()).shape == (3, 3, 2)
    second = keras_vit.PyramidVisionTransformerV2(
        image_size=None, reductions=(2, 1), patch_sizes=(3, 3), strides=(4, 2), **pvt
    )
    assert default(second, images((23, 17))).shape == (3, 3, 3)
    # The last stage of the first kind is a Transformer of its own.
    alone = keras_vit.attention_rollout(first, images(), layers=["stage1_block00"])
    assert alone.shape == (3, 3, 2)


def test_bad_input_is_explained():
    swin, model, pixels = tiny_swin(), tiny_vit(), images()
    for function in (keras_vit.attention_rollout, keras_vit.attention_attribution):
        with pytest.raises(ValueError, match="Use keras_vit.grad_cam.*with stage0_block00"):
            function(swin, images((32, 32)))
        with pytest.raises(ValueError, match="block00, block01. Received: \\['head'\\]"):
            function(model, pixels, layers=["head"])
        with pytest.raises(ValueError, match="class_block00'. Received: blocks of 6 tokens"):
            function(tiny_cait(), pixels, layers=["block00"])
        with pytest.raises(ValueError, match="families only"):
            function(keras.Model(model.input, model.output), pixels)
    for function in (keras_vit.grad_cam, keras_vit.attention_attribution):
        for classes in (4, -1, [0, 1], ["cat"] * 3, 1.0):
            with pytest.raises(ValueError, match="index from 0 to 3.*Received"):
                function(model, pixels, classes)
        with pytest.raises(ValueError, match="a model with a head"):
            function(tiny_vit(num_classes=None), pixels)
    with pytest.raises(ValueError, match="layer must be one of .*block00.*Received: 'block9'"):
        keras_vit.grad_cam(model, pixels, layer="block9")
    with pytest.raises(ValueError, match="layers that give tokens.*'head'"):
        keras_vit.grad_cam(model, pixels, layer="head")
