"""The contract of every public layer, and that none is left out."""

import inspect

import keras
import numpy as np
import pytest

from keras_vit import layers
from tests.helpers import every_third, run_layer_test

TOKENS = np.random.default_rng(0).normal(size=(2, 7, 16)).astype("float32")  # 1 + 3*2 tokens
IMAGES = np.random.default_rng(1).normal(size=(2, 12, 8, 3)).astype("float32")  # 3 x 2 patches of 4
FEATURES = TOKENS[:, 0]
MAP = np.random.default_rng(2).normal(size=(2, 7, 5, 16)).astype("float32")  # h x w x D
WINDOWS = MAP[:, :2, :3].reshape(2, 6, 16)  # of 2 x 3 places
GRID = np.random.default_rng(2).normal(size=(2, 6, 5, 16)).astype("float32")  # not whole in 3s, 2s

CASES = [
    (layers.PatchEmbedding, {"width": 16, "patch_size": 4}, [IMAGES]),
    (layers.PatchEmbedding, {"width": 16, "patch_size": (6, 2), "use_bias": False}, [IMAGES]),
    (layers.ClassToken, {"num_tokens": 3}, [TOKENS]),
    (
        layers.AddPositionEmbedding,
        {"grid_size": (3, 2), "patch_size": 4, "num_prefix_tokens": 1},
        [TOKENS, IMAGES],
    ),
    (
        layers.AddPositionEmbedding,
        {"grid_size": (5, 4), "patch_size": 4, "num_prefix_tokens": 1, "prefix_positions": False},
        [TOKENS, IMAGES],
    ),
    (
        layers.AddPositionEmbedding,
        {"grid_size": (3, 2), "patch_size": 4, "num_prefix_tokens": 1, "kind": "sincos"},
        [TOKENS, IMAGES],
    ),
    (layers.Attention, {"num_heads": 4}, [TOKENS]),
    (layers.Attention, {"num_heads": 4, "qkv_bias": False, "qk_norm": True}, [TOKENS]),
    (layers.Attention, {"num_heads": 2, "proj_bias": False}, [TOKENS]),
    (layers.MLP, {"hidden_dim": 24}, [TOKENS]),
    (layers.MLP, {"hidden_dim": 24, "activation": "gelu_tanh", "use_bias": False}, [TOKENS]),
    (layers.MLP, {"hidden_dim": 24, "activation": "swiglu"}, [TOKENS]),
    (layers.DropPath, {"rate": 0.5, "seed": 1}, [TOKENS]),
    (layers.LayerScale, {"initial_value": 0.5}, [TOKENS]),
    (layers.TransformerBlock, {"num_heads": 4, "mlp_dim": 24}, [TOKENS]),
    (
        layers.TransformerBlock,
        {"num_heads": 4, "mlp_dim": 24, "layer_scale": 0.5, "mlp": "swiglu", "qk_norm": True},
        [TOKENS],
    ),
    (layers.TransformerBlock, {"num_heads": 4, "mlp_dim": 24, "remat": True}, [TOKENS]),
    (layers.OverlappingPatchEmbedding, {"width": 8, "patch_size": 7, "stride": 4}, [IMAGES]),
    (layers.SpatialReductionAttention, {"num_heads": 2, "reduction": 3}, [GRID]),
    (
        layers.SpatialReductionAttention,
        {"num_heads": 2, "pool_size": 4, "qkv_bias": False, "norm_epsilon": 1e-6},
        [GRID],
    ),
    (layers.ConvolutionalMLP, {"hidden_dim": 24, "relu": True}, [GRID]),
    (layers.PyramidBlock, {"num_heads": 2, "mlp_dim": 24, "reduction": 2}, [GRID]),
    (
        layers.PyramidBlock,
        {"num_heads": 2, "mlp_dim": 24, "pool_size": 3, "convolutional": True, "remat": True},
        [GRID],
    ),
    (layers.TokenPooling, {"mode": "token"}, [TOKENS]),
    (layers.TokenPooling, {"num_prefix_tokens": 2, "token_index": 1}, [TOKENS]),
    (layers.TokenPooling, {"mode": "gap", "num_prefix_tokens": 1}, [TOKENS]),
    (layers.TokensToGrid, {"patch_size": 4, "num_prefix_tokens": 1}, [TOKENS, IMAGES]),
    (layers.AttentionPooling, {"num_heads": 4, "mlp_dim": 24}, [TOKENS]),
    (layers.ClassificationHead, {"num_classes": 5}, [FEATURES]),
    (
        layers.WindowAttention,
        {"num_heads": 4, "window_size": (2, 3), "version": 2, "pretrained_window_size": 2},
        [WINDOWS],
    ),
    (
        layers.SwinBlock,
        {"num_heads": 4, "mlp_dim": 24, "window_size": (3, 2), "shifted": True, "remat": True},
        [MAP],
    ),
    (
        layers.SwinBlock,
        {"num_heads": 4, "mlp_dim": 24, "window_size": 3, "version": 2, "convention": "timm"},
        [MAP],
    ),
    (
        layers.StandardizedConv2D,
        {"filters": 8, "kernel_size": 3, "strides": 2, "convention": "timm"},
        [MAP],
    ),
    (layers.BottleneckBlock, {"filters": 16, "groups": 2}, [MAP]),
    (layers.BottleneckBlock, {"filters": 24, "strides": 2, "groups": 2, "remat": True}, [MAP]),
    (layers.TalkingHeadsAttention, {"num_heads": 4, "qkv_bias": False}, [TOKENS]),
    (layers.TransformerBlock, {"num_heads": 4, "mlp_dim": 24, "talking_heads": True}, [TOKENS]),
    (layers.ClassAttention, {"num_heads": 4}, [TOKENS]),
    (
        layers.ClassAttentionBlock,
        {"num_heads": 4, "mlp_dim": 24, "layer_scale": 0.5, "remat": True},
        [TOKENS],
    ),
    (layers.PatchMerging, {}, [MAP]),
    (layers.PatchMerging, {"version": 2, "norm_epsilon": 1e-3}, [MAP]),
]


@pytest.mark.parametrize(("layer_class", "arguments", "inputs"), every_third(CASES))
def test_contract(layer_class, arguments, inputs, tmp_path):
    run_layer_test(layer_class, arguments, *inputs, tmp_path=tmp_path)


def test_every_public_layer_has_a_case():
    public = {x for x in vars(layers).values() if inspect.isclass(x)}
    assert public == {layer_class for layer_class, _, _ in CASES}


@pytest.mark.parametrize("layer_class", sorted({c for c, _, _ in CASES}, key=lambda c: c.__name__))
def test_documented(layer_class):
    for heading in ("Args:", "Call arguments:", "Returns:", "Example:"):
        assert heading in layer_class.__doc__


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
            lambda: layers.MLP(8, activation="relu"),
            "'gelu', 'gelu_tanh', 'quick_gelu', 'swiglu'.*'relu'",
        ),
        (lambda: layers.MLP(8)(FEATURES), "MLP expects tokens .*Received"),
        (lambda: layers.ConvolutionalMLP(8)(TOKENS), "a feature map of shape.*Received: shape="),
        (lambda: layers.OverlappingPatchEmbedding(8, 4), "patch_size must be odd. Received.*4"),
        (lambda: layers.OverlappingPatchEmbedding(8, 3, 0), "stride must be an integer >= 1"),
        (lambda: layers.SpatialReductionAttention(3)(GRID), "multiple of num_heads.*Received"),
        (
            lambda: layers.SpatialReductionAttention(2, reduction=6)(GRID),
            "at least 6 x 6: use larger images. Received: shape=\\(2, 6, 5, 16\\)",
        ),
        (
            lambda: layers.SpatialReductionAttention(2, reduction=2, pool_size=7),
            "Expected: reduction=1. Received: reduction=2, pool_size=7",
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
            "prefix tokens have none.*Received",
        ),
        (lambda: layers.resample_grid(np.zeros((4, 4)), (2, 2)), "grid must have the shape.*Rec"),
        (lambda: layers.resample_grid(np.zeros((4, 4, 1)), (2, 2), "nearest"), "'nearest'"),
        (lambda: layers.sincos_grid((2, 2), 18), "multiple of 4.*Received: width=18"),
        (lambda: layers.WindowAttention(4, version=3), "version must be one of 1, 2.*version=3"),
        (lambda: layers.WindowAttention(4, (2, 0)), "window_size must be a positive.*\\(2, 0\\)"),
        (
            lambda: layers.WindowAttention(4, 3)(WINDOWS),
            "size it was made for.*window_size=\\(3, 3",
        ),
        (lambda: layers.WindowAttention(3, (2, 3))(WINDOWS), "multiple of num_heads.*Received"),
        (lambda: layers.SwinBlock(4, 24)(TOKENS), "SwinBlock expects a feature map.*Received"),
        (lambda: layers.SwinBlock(4, 24, convention="hf"), "'authors', 'timm'.*Received.*'hf'"),
        (lambda: layers.StandardizedConv2D(8, 3)(TOKENS), "a feature map of shape.*Received"),
        (lambda: layers.StandardizedConv2D(8, 3, 0), "strides must be an integer >= 1"),
        (lambda: layers.StandardizedConv2D(8, 3, convention="bit"), "'authors', 'timm'.*'bit'"),
        (lambda: layers.BottleneckBlock(8, groups=4), "4 x groups.*filters=8, groups=4"),
        (lambda: layers.TalkingHeadsAttention(3)(TOKENS), "multiple of num_heads.*Received"),
        (lambda: layers.ClassAttention(4)(MAP), "shape \\(batch, tokens, width\\).*Received"),
        (
            lambda: layers.TransformerBlock(4, 24, qk_norm=True, talking_heads=True),
            "not normalised. Received: qk_norm=True, talking_heads=True",
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
