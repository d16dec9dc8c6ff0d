"""Every public layer with the arguments that it is tried with: class, arguments, inputs."""

import numpy as np
import pytest

from keras_vit import layers
from tests.helpers import once

TOKENS = np.random.default_rng(0).normal(size=(2, 7, 16)).astype("float32")  # 1 + 3*2 tokens
IMAGES = np.random.default_rng(1).normal(size=(2, 12, 8, 3)).astype("float32")  # 3 x 2 patches of 4
KEYS = np.random.default_rng(3).normal(size=(2, 5, 16)).astype("float32")
FEATURES = TOKENS[:, 0]
MAP = np.random.default_rng(2).normal(size=(2, 7, 5, 16)).astype("float32")  # h x w x D
WINDOWS = MAP[:, :2, :3].reshape(2, 6, 16)  # of 2 x 3 places
GRID = np.random.default_rng(2).normal(size=(2, 6, 5, 16)).astype("float32")  # not whole in 3s, 2s


def case(layer_class, arguments, *inputs, marks=()):
    name = f"{layer_class.__name__}({', '.join(f'{k}={v}' for k, v in arguments.items())})"
    return pytest.param(layer_class, arguments, inputs, marks=marks, id=name)


def again(*arguments):
    """A further case of a class: a choice of Python's, on the operations of the others."""
    return case(*arguments, marks=once)


CASES = [
    case(layers.PatchEmbedding, {"width": 16, "patch_size": 4}, IMAGES),
    again(layers.PatchEmbedding, {"width": 16, "patch_size": (6, 2), "use_bias": False}, IMAGES),
    case(layers.ClassToken, {"num_tokens": 3}, TOKENS),
    again(
        layers.AddPositionEmbedding,
        {"grid_size": (3, 2), "patch_size": 4, "num_prefix_tokens": 1},
        TOKENS,
        IMAGES,
    ),
    case(
        layers.AddPositionEmbedding,
        {"grid_size": (5, 4), "patch_size": 4, "num_prefix_tokens": 1, "prefix_positions": False},
        TOKENS,
        IMAGES,
    ),
    again(
        layers.AddPositionEmbedding,
        {"grid_size": (3, 2), "patch_size": 4, "num_prefix_tokens": 1, "kind": "sincos"},
        TOKENS,
        IMAGES,
    ),
    again(layers.Attention, {"num_heads": 4}, TOKENS),
    case(layers.Attention, {"num_heads": 4, "qkv_bias": False, "qk_norm": True}, TOKENS),
    again(layers.Attention, {"num_heads": 2, "proj_bias": False}, TOKENS),
    case(layers.CrossAttention, {"num_heads": 4}, TOKENS, KEYS, 2 * KEYS),
    again(layers.MLP, {"hidden_dim": 24}, TOKENS),
    again(layers.MLP, {"hidden_dim": 24, "activation": "gelu_tanh", "use_bias": False}, TOKENS),
    case(layers.MLP, {"hidden_dim": 24, "activation": "swiglu"}, TOKENS),
    case(layers.DropPath, {"rate": 0.5, "seed": 1}, TOKENS),
    case(layers.LayerScale, {"initial_value": 0.5}, TOKENS),
    again(layers.TransformerBlock, {"num_heads": 4, "mlp_dim": 24}, TOKENS),
    case(
        layers.TransformerBlock,
        {"num_heads": 4, "mlp_dim": 24, "layer_scale": 0.5, "mlp": "swiglu", "qk_norm": True},
        TOKENS,
    ),
    again(layers.TransformerBlock, {"num_heads": 4, "mlp_dim": 24, "remat": True}, TOKENS),
    case(layers.OverlappingPatchEmbedding, {"width": 8, "patch_size": 7, "stride": 4}, IMAGES),
    again(layers.SpatialReductionAttention, {"num_heads": 2, "reduction": 3}, GRID),
    case(
        layers.SpatialReductionAttention,
        {"num_heads": 2, "pool_size": 4, "qkv_bias": False, "norm_epsilon": 1e-06},
        GRID,
    ),
    case(layers.ConvolutionalMLP, {"hidden_dim": 24, "relu": True}, GRID),
    again(layers.PyramidBlock, {"num_heads": 2, "mlp_dim": 24, "reduction": 2}, GRID),
    case(
        layers.PyramidBlock,
        {"num_heads": 2, "mlp_dim": 24, "pool_size": 3, "convolutional": True, "remat": True},
        GRID,
    ),
    again(layers.TokenPooling, {"mode": "token"}, TOKENS),
    again(layers.TokenPooling, {"num_prefix_tokens": 2, "token_index": 1}, TOKENS),
    case(layers.TokenPooling, {"mode": "gap", "num_prefix_tokens": 1}, TOKENS),
    case(layers.TokensToGrid, {"patch_size": 4, "num_prefix_tokens": 1}, TOKENS, IMAGES),
    case(layers.AttentionPooling, {"num_heads": 4, "mlp_dim": 24}, TOKENS),
    case(layers.ClassificationHead, {"num_classes": 5}, FEATURES),
    case(
        layers.WindowAttention,
        {"num_heads": 4, "window_size": (2, 3), "version": 2, "pretrained_window_size": 2},
        WINDOWS,
    ),
    case(
        layers.SwinBlock,
        {"num_heads": 4, "mlp_dim": 24, "window_size": (3, 2), "shifted": True, "remat": True},
        MAP,
    ),
    again(
        layers.SwinBlock,
        {"num_heads": 4, "mlp_dim": 24, "window_size": 3, "version": 2, "convention": "timm"},
        MAP,
    ),
    case(
        layers.StandardizedConv2D,
        {"filters": 8, "kernel_size": 3, "strides": 2, "convention": "timm"},
        MAP,
    ),
    again(layers.BottleneckBlock, {"filters": 16, "groups": 2}, MAP),
    case(layers.BottleneckBlock, {"filters": 24, "strides": 2, "groups": 2, "remat": True}, MAP),
    case(layers.ResNetStem, {"filters": 8}, IMAGES),
    again(layers.ResNetStem, {"filters": 8, "batch_norm": "frozen"}, IMAGES),
    case(layers.ResNetBlock, {"filters": 24, "strides": 2, "remat": True}, MAP),
    again(layers.ResNetBlock, {"filters": 16, "dilation": 2, "batch_norm": "frozen"}, MAP),
    again(layers.ResNetBlock, {"filters": 8, "bottleneck": False, "second_dilation": 2}, MAP),
    case(layers.TalkingHeadsAttention, {"num_heads": 4, "qkv_bias": False}, TOKENS),
    again(layers.TransformerBlock, {"num_heads": 4, "mlp_dim": 24, "talking_heads": True}, TOKENS),
    case(layers.ClassAttention, {"num_heads": 4}, TOKENS),
    case(
        layers.ClassAttentionBlock,
        {"num_heads": 4, "mlp_dim": 24, "layer_scale": 0.5, "remat": True},
        TOKENS,
    ),
    again(layers.PatchMerging, {}, MAP),
    case(layers.PatchMerging, {"version": 2, "norm_epsilon": 0.001}, MAP),
]
