"""Attention followed through all blocks, down to the patches.

Letters: B batch, N tokens, h x w grid of patches.
"""

import keras
import numpy as np

from keras_vit.interpret.attention import (
    attention_maps,
    block_names,
    check_family,
    check_size,
    token_grid,
    tokens_to_grid,
)
from keras_vit.layers import Block
from keras_vit.layers.attending import Attending
from keras_vit.layers.heads import Pooling


def attention_rollout(model, images, layers=None):
    """How much of each patch's token reaches what the head reads, through all blocks: (B, h, w).

    The scores of a block, averaged over its heads, are how tokens mix there, and half of each
    token goes past the attention, by the residual connection. The product of (A + I) / 2 over the
    blocks is how they mix in all. The row of the class token is returned; where the head reads the
    mean of the patches the mean of their rows, where it pools by attention the sum of all rows by
    its scores, and of several tokens their mean. Class attention (CaiT) changes the row of the
    class token alone.

    Args:
        model: model of one of this library's families in which all patches attend to each other.
        images: array (B, H, W, C), as the model takes them.
        layers: list of block names; by default every block. All must have the same tokens.

    Returns:
        float32 NumPy array (B, h, w). Each map sums to one, less what stays in prefix tokens.

    Raises:
        ValueError: for a model with windows or smaller maps of keys (Swin, PVT).

    Example:
        >>> keras_vit.attention_rollout(keras_vit.ViTBase(), images).shape
        (8, 14, 14)

    Source: Abnar and Zuidema 2020 (arXiv:2005.00928), section 3.
    """
    names = rollout_names(model, images, layers)
    maps = attention_maps(model, images, names)
    mixing = [maps[name].mean(axis=1) for name in names]  # (B, N, N), or (B, 1, N)
    tokens = accumulate(mixing, lambda before, read: (before + read) / 2)
    return to_patches(model, images, tokens, readout(model, images, tokens.shape[-1]))


def rollout_names(model, images, layers=None):
    """Names of the blocks to follow; raises where their tokens are not the same all along."""
    check_family(model)
    names = [name for name in block_names(model, layers) if not is_pooling(model, name)]
    others = [x for x in names if model.get_layer(x).queries == "places"]
    if others:
        raise ValueError(
            "Following attention from block to block needs blocks in which all patches attend to "
            "each other; windows and smaller maps of keys (Swin, PVT) do not multiply. Use "
            "keras_vit.grad_cam(model, images), or attention_maps of single blocks. "
            f"Received: {model.name} with {others[0]}"
        )
    check_size(model, images)
    return names


def is_pooling(model, name):
    layer = model.get_layer(name)
    return isinstance(layer, Attending) and not isinstance(layer, Block)


def accumulate(mixing, step):
    """Follows tokens through blocks, from the identity on: (B, N, N).

    Args:
        mixing: list of arrays (B, N, N), or (B, 1, N) where only the first token reads. If a block
            has a token more than the one before, a class token has come in front.
        step: function of the rows so far and of what is read of them, giving the new rows.
    """
    tokens = np.eye(mixing[0].shape[-1], dtype="float32")[None].repeat(len(mixing[0]), axis=0)
    for scores in mixing:
        queries, n = scores.shape[1:]
        more = n - tokens.shape[-1]
        if more:
            tokens = np.pad(tokens, ((0, 0), (more, 0), (more, 0)))
            tokens[:, range(more), range(more)] = 1
        tokens[:, :queries] = step(tokens[:, :queries], scores @ tokens)
    return tokens


def readout(model, images, n):
    """What the head reads of `n` tokens: weights (B or 1, n) that sum to one."""
    weights = []
    for layer in model.layers:
        if not isinstance(layer, Pooling):
            continue
        if isinstance(layer, Attending):
            scores = attention_maps(model, images, [layer.name])[layer.name]  # (B, heads, 1, N)
            weights.append(scores.mean(axis=1)[:, 0])
        else:
            weights.append(layer.token_weights(n)[None])
    return np.mean(weights, axis=0)


def to_patches(model, images, tokens, weights):
    """The patches' share in what is read: rows (B, N, N), weights (B or 1, N) -> (B, h, w)."""
    pooling = pooling_name(model)
    n = tokens.shape[-1]
    (h, w), prefix = token_grid(model, pooling, images.shape)
    if n != prefix + h * w:
        raise ValueError(
            "layers must end with a block that has the tokens that the head reads, such as "
            f"{block_names(model)[-1]!r}. Received: blocks of {n} tokens"
        )
    return tokens_to_grid(model, pooling, (weights[:, None] @ tokens)[:, 0], images.shape)


def pooling_name(model):
    """The name of the layer that reads the tokens for the head."""
    kinds = (Pooling, keras.layers.GlobalAveragePooling2D)
    return next(layer.name for layer in model.layers if isinstance(layer, kinds))
