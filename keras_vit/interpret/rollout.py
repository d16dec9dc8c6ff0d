"""`attention_rollout`: attention accumulated over all blocks.

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
    """Computes attention rollout, the contribution of each patch to the input of the head.

    The scores of a block, averaged over its heads, are a matrix A that mixes the tokens; the
    residual connection adds the identity. Rollout is the product of (A + I) / 2 over all blocks.
    The result is the row of the class token, if the head reads it; the mean of the rows of the
    patches, if it reads their mean; or the mean of the rows weighted by the scores of the attention
    pooling. If several heads read different tokens, their results are averaged. Class attention
    (CaiT) updates the row of the class token only.

    Args:
        model: model of one of this library's families, in which all patches attend to each other.
        images: array or tensor (B, H, W, C), the model's input.
        layers: list of block names; by default every block. All must have the same tokens.

    Returns:
        float32 NumPy array (B, h, w). Each map sums to one minus the contribution of the prefix
        tokens.

    Raises:
        ValueError: if the model has windows or reduced maps of keys (Swin, PVT), or is not of this
            library's families.

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
    """Names of the blocks for rollout.

    Raises:
        ValueError: if a block attends within windows or to a reduced map.
    """
    check_family(model)
    names = [name for name in block_names(model, layers) if not is_pooling(model, name)]
    others = [x for x in names if model.get_layer(x).queries == "places"]
    if others:
        raise ValueError(
            "Rollout needs blocks in which all patches attend to each other; the scores of windows "
            "and of reduced maps of keys (Swin, PVT) cannot be multiplied. Use "
            "keras_vit.grad_cam(model, images), or attention_maps of single blocks. "
            f"Received: {model.name} with {others[0]}"
        )
    check_size(model, images)
    return names


def is_pooling(model, name):
    """Whether a layer is an attention pooling."""
    layer = model.get_layer(name)
    return isinstance(layer, Attending) and not isinstance(layer, Block)


def accumulate(mixing, step):
    """Accumulates the mixing matrices of all blocks, starting from the identity.

    Args:
        mixing: list of arrays (B, N, N), or (B, 1, N) for a block in which only the first token
            attends. If a block has more tokens than the one before, the new tokens are the first.
        step: function of the rows so far, and of these rows mixed by the block, that returns the
            new rows.

    Returns:
        NumPy array (B, N, N).
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
    """The weights with which the head reads `n` tokens: array (B or 1, n), with sum 1."""
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
    """Averages rows (B, N, N) with weights (B or 1, N) and keeps the patches: (B, h, w)."""
    pooling = pooling_name(model)
    n = tokens.shape[-1]
    (h, w), prefix = token_grid(model, pooling, images.shape)
    if n != prefix + h * w:
        raise ValueError(
            "layers must end with a block that has the same tokens as the head, such as "
            f"{block_names(model)[-1]!r}. Received: blocks of {n} tokens"
        )
    return tokens_to_grid(model, pooling, (weights[:, None] @ tokens)[:, 0], images.shape)


def pooling_name(model):
    """The name of the layer that pools the tokens for the head."""
    kinds = (Pooling, keras.layers.GlobalAveragePooling2D)
    return next(layer.name for layer in model.layers if isinstance(layer, kinds))
