"""Keras's own test of a layer, `run_layer_test` of `keras.src.testing`, for every public one."""

import inspect

import pytest
from keras.src import testing

from keras_vit import layers
from tests.helpers import once, once_but

TOKENS, IMAGES, MAP, GRID = (2, 7, 16), (2, 12, 8, 3), (2, 7, 5, 16), (2, 6, 5, 16)
BOTH = {"tokens_shape": TOKENS, "images_shape": IMAGES}
# Class, arguments, shape of the input or of each, of the output, and how many trainable weights
# and generators of random numbers it has.
CASES = {
    layer.__name__: (layer, *rest)
    for layer, *rest in [
        (layers.PatchEmbedding, {"width": 16, "patch_size": 4}, IMAGES, (2, 6, 16), 2, 0),
        (layers.ClassToken, {"num_tokens": 3}, TOKENS, (2, 10, 16), 1, 0),
        (
            layers.AddPositionEmbedding,
            {"grid_size": (3, 2), "patch_size": 4, "num_prefix_tokens": 1},
            BOTH,
            TOKENS,
            2,
            0,
        ),
        (
            layers.Attention,
            {"num_heads": 4, "qk_norm": True, "dropout_rate": 0.1, "attention_dropout_rate": 0.1},
            TOKENS,
            TOKENS,
            8,
            2,
        ),
        (
            layers.CrossAttention,
            {"num_heads": 4, "attention_dropout_rate": 0.1},
            TOKENS,
            TOKENS,
            8,
            1,
        ),
        (layers.MLP, {"hidden_dim": 24}, TOKENS, TOKENS, 4, 0),
        (layers.DropPath, {"rate": 0.5, "seed": 1}, TOKENS, TOKENS, 0, 1),
        (layers.LayerScale, {"initial_value": 0.5}, TOKENS, TOKENS, 1, 0),
        (
            layers.TransformerBlock,
            {"num_heads": 4, "mlp_dim": 24, "drop_path_rate": 0.1},
            TOKENS,
            TOKENS,
            12,
            2,
        ),
        (
            layers.OverlappingPatchEmbedding,
            {"width": 8, "patch_size": 7, "stride": 4},
            IMAGES,
            (2, 3, 2, 8),
            2,
            0,
        ),
        (
            layers.SpatialReductionAttention,
            {"num_heads": 2, "reduction": 3},
            GRID,
            GRID,
            10,
            0,
        ),
        (layers.ConvolutionalMLP, {"hidden_dim": 24}, GRID, GRID, 6, 0),
        (
            layers.PyramidBlock,
            {"num_heads": 2, "mlp_dim": 24, "reduction": 2},
            GRID,
            GRID,
            18,
            0,
        ),
        (layers.TokenPooling, {"mode": "gap", "num_prefix_tokens": 1}, TOKENS, (2, 16), 0, 0),
        (
            layers.TokensToGrid,
            {"patch_size": 4, "num_prefix_tokens": 1},
            BOTH,
            (2, 3, 2, 16),
            0,
            0,
        ),
        (layers.AttentionPooling, {"num_heads": 4, "mlp_dim": 24}, TOKENS, (2, 16), 13, 0),
        (layers.ClassificationHead, {"num_classes": 5}, (2, 16), (2, 5), 2, 0),
        (
            layers.WindowAttention,
            {"num_heads": 4, "window_size": (2, 3), "version": 2},
            (2, 6, 16),
            (2, 6, 16),
            9,
            0,
        ),
        (
            layers.SwinBlock,
            {"num_heads": 4, "mlp_dim": 24, "window_size": (3, 2), "shifted": True},
            MAP,
            MAP,
            13,
            0,
        ),
        (
            layers.StandardizedConv2D,
            {"filters": 8, "kernel_size": 3, "strides": 2},
            MAP,
            (2, 4, 3, 8),
            1,
            0,
        ),
        (
            layers.BottleneckBlock,
            {"filters": 24, "strides": 2, "groups": 2},
            MAP,
            (2, 4, 3, 24),
            12,
            0,
        ),
        (layers.ResNetStem, {"filters": 8}, IMAGES, (2, 3, 2, 8), 3, 0),
        (layers.ResNetBlock, {"filters": 24, "strides": 2}, MAP, (2, 4, 3, 24), 12, 0),
        (layers.TalkingHeadsAttention, {"num_heads": 4}, TOKENS, TOKENS, 8, 0),
        (layers.ClassAttention, {"num_heads": 4}, TOKENS, (2, 1, 16), 6, 0),
        (
            layers.ClassAttentionBlock,
            {"num_heads": 4, "mlp_dim": 24, "layer_scale": 0.5},
            TOKENS,
            TOKENS,
            16,
            0,
        ),
        (layers.PatchMerging, {}, MAP, (2, 4, 3, 32), 3, 0),
    ]
}
# Mean and variance of every batch normalisation.
STATISTICS = {layers.ResNetStem: 2, layers.ResNetBlock: 8}


# Elsewhere the layers with random numbers: Keras compares their state and, but for PyTorch on a
# CPU, their mixed precision. Of the others tests/layers/test_every_layer.py does it.
@pytest.mark.parametrize(
    ("layer_class", "arguments", "inputs", "outputs", "trainable", "generators"),
    once_but(CASES, "DropPath", "Attention"),
)
def test_keras_contract(layer_class, arguments, inputs, outputs, trainable, generators):
    several = isinstance(inputs, dict)
    statistics = STATISTICS.get(layer_class, 0)
    testing.TestCase().run_layer_test(
        layer_class,
        arguments,
        input_shape=inputs,
        input_dtype={name: "float32" for name in inputs} if several else "float32",
        expected_output_shape=outputs,
        expected_output_dtype="float32",
        expected_num_trainable_weights=trainable,
        expected_num_non_trainable_weights=statistics,
        expected_num_non_trainable_variables=generators + statistics,
        expected_num_seed_generators=generators,
        expected_num_losses=0,
        supports_masking=False,
        # Keras hands a dict to `fit` as one argument, where these layers take two.
        run_training_check=not several,
    )


@once
def test_every_public_layer_has_a_case():
    public = {x for x in vars(layers).values() if inspect.isclass(x)} - {layers.Block}  # a base
    assert public == {layer_class for layer_class, *_ in CASES.values()}


@once
def test_every_layer_stacks_in_a_sequential_model():
    """Keras asks for one required argument. The way back to a grid needs the images' size too."""
    needs_more = set()
    for name in layers.__all__:
        layer = getattr(layers, name)
        if inspect.isclass(layer):
            _, _, *others = inspect.signature(layer.call).parameters.values()
            given = [
                x for x in others if x.default is x.empty and x.kind is x.POSITIONAL_OR_KEYWORD
            ]
            needs_more |= {name} if given else set()
    assert needs_more == {"TokensToGrid"}
