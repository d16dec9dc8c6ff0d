"""The Vision Transformer: every argument acts, tokens are where they should be, errors explain."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_vit
from keras_vit.interpret.images import shown_pixels
from tests.helpers import compile_model, images, once, randomize, tiny_vit, to_numpy


@once  # an argument is read when the graph is made
@pytest.mark.parametrize(
    "arguments",
    [
        {"pooling": "gap"},
        {"pooling": "map"},
        {"pooling": "token_gap"},
        {"pre_norm": True},
        {"fc_norm": True},
        {"patch_bias": False},
        {"representation_size": 16},
        {"mlp": "quick_gelu"},
        {"num_registers": 1},
        {"position_embedding": "learned_patches"},
        {"position_embedding": "sincos"},
        {"position_embedding": None},
        {"mlp": "gelu_tanh"},
        {"mlp": "swiglu"},
        {"qkv_bias": False},
        {"qk_norm": True},
        {"layer_scale": 0.5},
        {"norm_epsilon": 0.1},
        {"include_preprocessing": True},
        {"position_grid": (6, 6)},
    ],
    ids=str,
)
def test_no_architecture_argument_is_ignored(arguments):
    """The same random numbers, another argument: other outputs."""
    plain, other = tiny_vit(), tiny_vit(**arguments)
    for model in (plain, other):
        for i, weight in enumerate(model.weights):
            rng = np.random.default_rng([i, *map(ord, weight.path)])
            weight.assign(rng.normal(0, 0.5, weight.shape))
    difference = to_numpy(plain(images())) - to_numpy(other(images()))
    assert np.abs(difference).max() > 1e-5


@pytest.mark.parametrize("image_size", [(29, 21), None])
def test_pixels_that_fill_no_patch_can_be_left_out(image_size):
    whole = tiny_vit()
    model = tiny_vit(image_size=image_size, position_grid=(3, 2), drop_remainder=True)
    model.set_weights(whole.get_weights())
    pixels = images((29, 21))
    expected = to_numpy(whole(pixels[:, :24, :16]))
    np.testing.assert_allclose(to_numpy(model(pixels)), expected, atol=1e-6)
    np.testing.assert_allclose(model.predict(pixels, verbose=0), expected, atol=1e-6)
    assert model.grid_size == (None if image_size is None else (3, 2))
    grid = model.features(pixels, ["block01"], grid=True)["block01"]
    assert tuple(grid.shape) == (3, 3, 2, 16)
    assert keras_vit.attention_rollout(model, pixels).shape == (3, 3, 2)
    assert shown_pixels(model, pixels).shape == (3, 24, 16, 3)
    with pytest.raises(ValueError, match="at least patch_size"):
        model.predict(images((29, 7)), verbose=0)


@pytest.mark.parametrize("rate", ["dropout_rate", "attention_dropout_rate", "drop_path_rate"])
def test_rates_act_in_training_only(rate):
    model = tiny_vit(**{rate: 0.5})
    randomize(model)
    inference = to_numpy(model(images()))
    np.testing.assert_array_equal(to_numpy(model(images(), training=False)), inference)
    drawn = [to_numpy(model(images(), training=True)) for _ in range(4)]
    assert max(np.abs(x - inference).max() for x in drawn) > 1e-3


@once
def test_drop_path_grows_linearly_from_zero():
    model = tiny_vit(depth=5, drop_path_rate=0.4)
    rates = [model.get_layer(f"block{i:02d}").drop_path1.rate for i in range(5)]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3, 0.4])


def test_preprocessing_takes_pixels():
    with_it, without = tiny_vit(include_preprocessing=True), tiny_vit()
    for ours, theirs in zip(with_it.weights, without.weights, strict=True):
        theirs.assign(ops.copy(ours))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 24, 16, 3)).astype("uint8")
    np.testing.assert_allclose(
        to_numpy(with_it(pixels)), to_numpy(without(pixels / 127.5 - 1)), atol=1e-5
    )


@once
def test_token_layout_is_known():
    model = tiny_vit(num_registers=3)
    assert model.grid_size == (3, 2)
    assert model.num_prefix_tokens == 4
    assert tiny_vit(pooling="gap").num_prefix_tokens == 0
    assert tiny_vit(image_size=None).grid_size is None


def test_features_as_tokens_or_grid():
    model = tiny_vit(num_registers=2)
    pixels = images()
    features = model.features(pixels, ["patch_embedding", "registers", "block00", "norm"])
    assert [x.shape[1] for x in features.values()] == [6, 8, 9, 9]
    grids = model.features(pixels, list(features), grid=True)
    for name, tokens in features.items():
        expected = to_numpy(tokens)[:, -6:].reshape(3, 3, 2, 16)  # row by row, non-square
        np.testing.assert_allclose(to_numpy(grids[name]), expected, atol=1e-6)
    assert list(model.features(pixels)) == ["block00", "block01"]

    anysize = tiny_vit(image_size=None)
    grid = anysize.features(images((32, 40)), ["block01"], grid=True)["block01"]
    assert tuple(grid.shape) == (3, 4, 5, 16)
    with pytest.raises(ValueError, match="No such layer: block99"):
        model.features(pixels, ["block99"])
    with pytest.raises(ValueError, match="layers that give tokens.*'pool'"):
        model.features(pixels, ["pool"], grid=True)


def test_a_feature_model_trains_the_weights_it_shares():
    model = tiny_vit()
    features = model.feature_model(["norm"], grid=True)
    before = to_numpy(model.get_layer("patch_embedding").projection.kernel)
    pooled = keras.layers.GlobalAveragePooling2D()(features.output["norm"])
    segmenter = keras.Model(features.input, keras.layers.Dense(1)(pooled))
    compile_model(segmenter)
    segmenter.fit(images(), np.ones((3, 1)), verbose=0)
    after = to_numpy(model.get_layer("patch_embedding").projection.kernel)
    assert np.abs(after - before).max() > 0


def test_frozen_layers_stay_frozen_after_loading(tmp_path):
    model = tiny_vit()
    model.get_layer("block00").trainable = False
    compile_model(model)
    model.fit(images(), np.ones((3, 4)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [x.path for x in loaded.trainable_weights] == [x.path for x in model.trainable_weights]
    assert len(loaded.trainable_weights) < len(loaded.weights)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_reaches_every_layer_and_trains(policy):
    model = tiny_vit(dtype=policy, layer_scale=0.5, pooling="map", num_registers=1)
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if layer.weights and "head" not in layer.path:
            assert layer.compute_dtype == policy.removeprefix("mixed_"), layer.path
    assert all(weight.dtype == "float32" for weight in model.weights)
    pixels, labels = images(batch=16), np.arange(16) % 4
    for image, label in zip(pixels, labels, strict=True):
        image[6 * label : 6 * label + 6] += 2  # a bright band tells the class
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    compile_model(model, keras.optimizers.Adam(1e-2), loss)
    if policy == "mixed_float16":
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    losses = model.fit(pixels, labels, epochs=12, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert keras.backend.standardize_dtype(model(pixels).dtype) == "float32"


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_normalization_statistics_stay_accurate(policy):
    """A mean of 300 is beyond what 16 bits keep beside a variance of 1."""
    rng = np.random.default_rng(0)
    tokens = (300 + rng.normal(size=(1, 2, 768)) * 8).astype("float32")
    tokens = to_numpy(ops.cast(tokens, policy.removeprefix("mixed_")))  # what the layer is given
    norm = tiny_vit(dtype=policy).get_layer("norm")
    layer = keras.layers.LayerNormalization(epsilon=norm.epsilon, dtype=norm.dtype_policy)
    expected = (tokens - tokens.mean(-1, keepdims=True)) / tokens.std(-1, keepdims=True)
    np.testing.assert_allclose(to_numpy(layer(tokens)), expected, atol=2e-2)


@once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": (225, 224), "patch_size": 16}, "image_size=\\(225, 224\\), patch_size"),
        ({"image_size": 0}, "image_size must be a positive integer"),
        ({"patch_size": 2.5}, "patch_size must be a positive integer.*2.5"),
        ({"width": 17}, "multiple of num_heads. Received: width=17"),
        ({"depth": 0}, "depth must be an integer >= 1"),
        ({"num_classes": 0}, "num_classes must be an integer >= 1. Received: num_classes=0"),
        ({"num_classes": -3}, "num_classes must be an integer >= 1"),
        ({"num_registers": -1}, "num_registers must be an integer >= 0"),
        ({"dropout_rate": -0.1}, "rate.*0.*1.*-0.1"),
        ({"drop_path_rate": 1.0}, "drop_path_rate must be a number in \\[0, 1\\). Received.*1.0"),
        ({"drop_path_rate": -0.2, "depth": 1}, "drop_path_rate"),
        ({"attention_dropout_rate": 2}, "attention_dropout_rate"),
        ({"pooling": "max"}, "must be one of 'token', 'gap', 'token_gap', 'map'. Received.*'max'"),
        ({"pooling": "token", "class_token": False}, "pooling='token' needs the class token"),
        ({"position_embedding": "rope"}, "position_embedding must be one of .*'rope'"),
        (
            {"position_embedding": "sincos", "position_grid": 3},
            "applies to learned position embeddings only",
        ),
        ({"position_resample": "area"}, "'timm', 'hf', 'flax'.*'area'"),
        ({"representation_size": 0}, "representation_size must be an integer >= 1"),
        ({"preprocessor": "timm"}, "must be a keras_vit.Preprocessor or None. Received: 'timm'"),
        ({"class_names": ["cat"]}, "one name for each class. Received: 1 names, num_classes=4"),
        ({"class_names": "abcd"}, "class_names must be a list of str. Received: 'abcd'"),
        ({"mlp": "rellu"}, "'gelu', 'gelu_tanh', 'quick_gelu', 'swiglu'.*'rellu'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_vit(**arguments)


@pytest.mark.parametrize("call", ["__call__", "predict", "features"])
def test_bad_images_are_explained(call):
    for shape, message in [
        ((24, 16, 3), "images\\[None\\].*Received: shape=\\(24, 16, 3\\)"),
        ((1, 25, 16, 3), "multiples of patch_size.*Received: image size=\\(25, 16\\)"),
        ((1, 32, 16, 3), "keras_vit.resize.*Received: shape=\\(1, 32, 16, 3\\)"),
        ((1, 24, 16, 1), "built for images of shape \\(24, 16, 3\\).*Received"),
    ]:
        model = tiny_vit()
        before = to_numpy(model(images()))
        if call == "predict":
            model.predict(images(), verbose=0)  # TensorFlow traces once more, for any size
        with pytest.raises(ValueError, match=message):
            getattr(model, call)(np.zeros(shape, "float32"))
        np.testing.assert_array_equal(to_numpy(model(images())), before)  # and nothing is lost


def test_a_pipeline_of_another_size_is_refused_before_training():
    tf = pytest.importorskip("tensorflow")
    model = tiny_vit()
    compile_model(model)
    for shape in [(3, 32, 16, 3), (3, 25, 16, 3)]:
        data = tf.data.Dataset.from_tensors((np.zeros(shape, "float32"), np.zeros((3, 4))))
        for run in (model.fit, model.evaluate, model.predict):
            with pytest.raises(ValueError, match="Received"):
                run(data, verbose=0)


@keras.saving.register_keras_serializable(package="tests")
def squared_relu(x):
    return keras.ops.square(keras.ops.relu(x))


def relu(x):  # of a name that Keras has, and not registered
    return x


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        (keras.activations.gelu, "gelu"),
        (keras.activations.relu, "relu"),
        (keras.activations.swish, "silu"),
        (squared_relu, "tests>squared_relu"),
    ],
)
def test_an_activation_is_a_function_or_its_name(activation, name, tmp_path):
    model = tiny_vit(mlp=activation)
    randomize(model)
    assert model.get_config()["mlp"] == name
    block = model.get_layer("block00")
    assert block.get_config()["mlp"] == block.mlp.get_config()["activation"] == name
    hidden = to_numpy(block.mlp.fc1(block.norm2(np.ones((1, 3, 16), "float32"))))
    expected = to_numpy(block.mlp.fc2(activation(hidden)))
    found = to_numpy(block.mlp(block.norm2(np.ones((1, 3, 16), "float32"))))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(loaded(images())), to_numpy(model(images())))


@once
@pytest.mark.parametrize("activation", [relu, lambda x: x, keras.activations.get, 3, "rellu"])
def test_an_activation_without_a_name_is_refused(activation):
    with pytest.raises(ValueError, match="register_keras_serializable registers. Received"):
        tiny_vit(mlp=activation)
