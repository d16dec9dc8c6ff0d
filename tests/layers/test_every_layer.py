"""The contract of every public layer, and that none is left out."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.backend import compute_output_spec

from keras_vit import layers
from tests.helpers import WITHOUT_EFFECT, compile_model, once, randomize, run, to_numpy
from tests.layers.cases import CASES, FEATURES, GRID, IMAGES, MAP, TOKENS, WINDOWS

CLASSES = sorted({case.values[0] for case in CASES}, key=lambda c: c.__name__)
POLICIES = {"float32": "float32", "mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


@pytest.mark.parametrize(
    ("layer_class", "arguments", "inputs"),
    [pytest.param(*case.values, id=case.id) for case in CASES],
)
def test_shapes_configuration_and_dtypes(layer_class, arguments, inputs):
    """Of every case on every backend: the call is traced, which compiles nothing."""
    for policy, dtype in POLICIES.items():
        layer = layer_class(**arguments, dtype=policy)
        symbolic = [keras.KerasTensor((None, *x.shape[1:])) for x in inputs]
        promised = layer(*symbolic)
        found = compute_output_spec(layer.__call__, *symbolic)
        # The shape that is promised is the shape that comes, and no batch size is baked in.
        assert found.shape == promised.shape
        assert found.shape[0] is None and None not in found.shape[1:]
        # Policies reach it: computed in 16 bits, kept in 32; logits are float32.
        if keras.backend.backend() == "torch":  # Keras traces it with weights that are not cast
            found = layer(*inputs)
        expected = "float32" if layer_class is layers.ClassificationHead else dtype
        assert keras.backend.standardize_dtype(found.dtype) == promised.dtype == expected
        assert all(weight.dtype in ("float32", "uint32", "int64") for weight in layer.weights)

        # The configuration is the constructor's arguments: the twin has equal ones.
        config = layer.get_config()
        assert set(arguments) <= set(config)
        twin = layer_class.from_config(config)
        assert twin.get_config() == config
        twin(*symbolic)
        for ours, theirs in zip(layer.weights, twin.weights, strict=True):
            assert ours.path.split("/")[-1] == theirs.path.split("/")[-1]
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)


@pytest.mark.parametrize(("layer_class", "arguments", "inputs"), CASES)
def test_values_files_and_training(layer_class, arguments, inputs, tmp_path):
    """Of one case of a class on every backend, of all of them on one."""
    symbolic = [keras.Input(x.shape[1:]) for x in inputs]
    layer = layer_class(**arguments)
    model = keras.Model(symbolic, layer(*symbolic))
    randomize(layer)

    # The twin has equal outputs, the ones in 16 bits have near ones; so has a single example.
    twin = layer_class.from_config({**layer.get_config(), "name": "twin"})
    halves = [layer_class(**arguments, dtype=policy) for policy in list(POLICIES)[1:]]
    outputs = [copy(*symbolic) for copy in (layer, twin, *halves)]
    for copy in (twin, *halves):
        for ours, theirs in zip(layer.weights, copy.weights, strict=True):
            theirs.assign(ops.copy(ours))
    every = keras.Model(symbolic, outputs)
    expected, again, *near = run(every, list(inputs))
    assert expected.shape == (len(inputs[0]), *model.output.shape[1:])
    np.testing.assert_allclose(again, expected, atol=1e-6)
    for values in near:
        assert np.abs(values - expected).max() <= 0.05 * max(1.0, np.abs(expected).max())

    # A saved model gives the same after loading, of any number of examples.
    model.save(tmp_path / "layer.keras")
    loaded = keras.models.load_model(tmp_path / "layer.keras")
    found = run(loaded, [x[:1] for x in inputs])
    scale = max(1.0, np.abs(expected).max())  # one example is rounded otherwise than a batch
    np.testing.assert_allclose(found, expected[:1], rtol=0, atol=1e-6 * scale)

    # A step of training changes every trainable weight by something finite.
    before = [to_numpy(weight) for weight in model.trainable_weights]
    if before:
        compile_model(model, keras.optimizers.SGD(0.1))
        targets = np.random.default_rng(1).normal(size=expected.shape)
        model.fit(list(inputs), targets, verbose=0)
        for old, weight in zip(before, model.trainable_weights, strict=True):
            new = to_numpy(weight)
            assert np.isfinite(new).all()
            assert np.abs(new - old).max() > 0 or weight.path.endswith(WITHOUT_EFFECT)


@once
def test_every_public_layer_has_a_case():
    """One of them on every backend."""
    public = {x for x in vars(layers).values() if inspect.isclass(x)} - {layers.Block}  # a base
    assert public == set(CLASSES)
    everywhere = [case.values[0] for case in CASES if not case.marks]
    assert sorted(everywhere, key=str) == sorted(public, key=str)


@once
@pytest.mark.parametrize("layer_class", CLASSES)
def test_documented(layer_class):
    for heading in ("Args:", "Call arguments:", "Returns:", "Example:"):
        assert heading in layer_class.__doc__


@once  # what is refused before anything is computed
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.PatchEmbedding(8, 4)(IMAGES[0]), "images\\[None\\].*Received: shape="),
        (
            lambda: layers.PatchEmbedding(8, 5)(IMAGES),
            "multiples of patch_size.*patch_size=\\(5, 5",
        ),
        (lambda: layers.PatchEmbedding(8, 0), "patch_size must be a positive integer.*Received"),
        (lambda: layers.PatchEmbedding(8, (4, 4, 4)), "pair.*Received: patch_size=\\(4, 4, 4\\)"),
        (lambda: layers.ClassToken(0), "num_tokens must be an integer >= 1. Received"),
        (lambda: layers.ClassToken()(IMAGES), "shape \\(batch, tokens, width\\).*Received: shape="),
        (lambda: layers.Attention(3)(TOKENS), "multiple of num_heads.*width=16, num_heads=3"),
        (lambda: layers.Attention(4, dropout_rate=-0.1), "dropout_rate must be .*Received.*-0.1"),
        (lambda: layers.Attention(4, attention_dropout_rate=1.0), r"\[0, 1\).*Received"),
        (
            lambda: layers.MLP(8, activation="rellu"),
            "'gelu', 'gelu_tanh', 'quick_gelu', 'swiglu'.*'rellu'",
        ),
        (lambda: layers.MLP(8)(FEATURES), "MLP expects tokens .*Received"),
        (lambda: layers.ConvolutionalMLP(8)(TOKENS), "a feature map of shape.*Received: shape="),
        (lambda: layers.OverlappingPatchEmbedding(8, 4), "patch_size must be odd.*Received.*4"),
        (lambda: layers.OverlappingPatchEmbedding(8, 3, 0), "stride must be an integer >= 1"),
        (lambda: layers.SpatialReductionAttention(3)(GRID), "multiple of num_heads.*Received"),
        (
            lambda: layers.SpatialReductionAttention(2, reduction=6)(GRID),
            "at least 6 x 6: use larger images. Received: shape=\\(2, 6, 5, 16\\)",
        ),
        (
            lambda: layers.SpatialReductionAttention(2, reduction=2, pool_size=7),
            "reduction must be 1. Received: reduction=2, pool_size=7",
        ),
        (lambda: layers.PyramidBlock(2, 8, 6)(GRID), "at least 6 x 6"),
        (lambda: layers.DropPath(-0.5), "rate must be a number in \\[0, 1\\).*-0.5"),
        (lambda: layers.LayerScale("small"), "initial_value must be a number.*'small'"),
        (lambda: layers.TokenPooling("max"), "'token', 'gap'.*Received: mode='max'"),
        (lambda: layers.TokenPooling("token", 0), "needs a class token.*Received"),
        (lambda: layers.TokenPooling("token", 1, 1), "token_index must be .*token_index=1"),
        (lambda: layers.AttentionPooling(3, 8)(TOKENS), "multiple of num_heads.*Received"),
        (lambda: layers.ClassificationHead(0), "num_classes must be an integer >= 1"),
        (lambda: layers.AddPositionEmbedding(3, kind="rotary"), "'learned', 'sincos'.*'rotary'"),
        (lambda: layers.AddPositionEmbedding(3, resample="area"), "'timm', 'hf', 'flax'.*'area'"),
        (
            lambda: layers.AddPositionEmbedding(3, kind="sincos", prefix_positions=True),
            "prefix tokens have no positions.*Received",
        ),
        (lambda: layers.resample_grid(np.zeros((4, 4)), (2, 2)), "grid must have the shape.*Rec"),
        (lambda: layers.resample_grid(np.zeros((4, 4, 1)), (2, 2), "nearest"), "'nearest'"),
        (lambda: layers.sincos_grid((2, 2), 18), "multiple of 4.*Received: width=18"),
        (lambda: layers.WindowAttention(4, version=3), "version must be one of 1, 2.*version=3"),
        (lambda: layers.WindowAttention(4, (2, 0)), "window_size must be a positive.*\\(2, 0\\)"),
        (
            lambda: layers.WindowAttention(4, 3)(WINDOWS),
            "expects windows of shape.*9, width.*window_size=\\(3, 3",
        ),
        (lambda: layers.WindowAttention(3, (2, 3))(WINDOWS), "multiple of num_heads.*Received"),
        (lambda: layers.SwinBlock(4, 24)(TOKENS), "SwinBlock expects a feature map.*Received"),
        (lambda: layers.SwinBlock(4, 24, convention="hf"), "'authors', 'timm'.*Received.*'hf'"),
        (lambda: layers.StandardizedConv2D(8, 3)(TOKENS), "a feature map of shape.*Received"),
        (lambda: layers.StandardizedConv2D(8, 3, 0), "strides must be an integer >= 1"),
        (lambda: layers.StandardizedConv2D(8, 3, convention="bit"), "'authors', 'timm'.*'bit'"),
        (lambda: layers.BottleneckBlock(8, groups=4), "4 x groups.*filters=8, groups=4"),
        (lambda: layers.ResNetBlock(10), "multiple of 4. Received: filters=10"),
        (lambda: layers.ResNetBlock(8, 2, 2), "either strides.*strides=2, dilation=2"),
        (lambda: layers.ResNetBlock(8, batch_norm="fixed"), "'learning', 'frozen'.*'fixed'"),
        (lambda: layers.ResNetBlock(8)(TOKENS), "ResNetBlock expects a feature map.*Received"),
        (lambda: layers.ResNetStem(0), "filters must be an integer >= 1"),
        (lambda: layers.TalkingHeadsAttention(3)(TOKENS), "multiple of num_heads.*Received"),
        (lambda: layers.ClassAttention(4)(MAP), "shape \\(batch, tokens, width\\).*Received"),
        (
            lambda: layers.TransformerBlock(4, 24, qk_norm=True, talking_heads=True),
            "qk_norm is not supported with talking_heads.*qk_norm=True, talking_heads=True",
        ),
        (lambda: layers.PatchMerging(version=0), "version must be one of 1, 2.*version=0"),
        (lambda: layers.PatchMerging()(TOKENS), "PatchMerging expects a feature map.*Received"),
    ],
)
def test_bad_input_is_explained(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_lora_and_quantization_of_keras_reach_the_projections():
    layer = layers.Attention(4)
    layer(TOKENS)
    layer.qkv.enable_lora(2)
    assert any("lora" in weight.path for weight in layer.trainable_weights)
    assert isinstance(layer.proj, keras.layers.Dense)
