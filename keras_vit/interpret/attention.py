"""`attention_maps`: attention scores of selected blocks, also arranged on the image.

Letters: B batch, H x W image size, h x w grid of patches or positions, P prefix tokens.
"""

import keras
import numpy as np
from keras import ops

from keras_vit.layers import Block
from keras_vit.layers.attending import Attending
from keras_vit.models.base import ImageModel
from keras_vit.models.graph import input_of
from keras_vit.models.inputs import check_range


def attention_maps(model, images, layers=None, heads=None, grid=False):
    """Computes the attention scores of selected blocks.

    The model itself runs as usual, with fused attention. Only the scores of the selected blocks are
    computed, from the inputs of these blocks.

    Args:
        model: functional model whose top-level layers include transformer blocks.
        images: array or tensor (B, H, W, C), the model's input.
        layers: list of block names, such as `["block11"]`, or with the attention pooling ("pool");
            by default every block. The blocks of DETR's decoder attend to the picture; what their
            queries attend to among each other is `"decoder_block05/self_attention"`.
        heads: list of int, indices of the heads; by default all heads.
        grid: bool, whether to arrange the keys on the grid of patches: (B, heads, queries, h, w).

    Returns:
        dict of block name to float32 NumPy array (B, heads, queries, keys). Each row sums to one.
        Queries and keys are all tokens, prefix tokens first. The scores of a `SwinBlock` are
        (B, windows, heads, positions, positions), with the windows row by row after the shift. The
        queries of a `PyramidBlock` are the positions of its map, and the keys those of the reduced
        map. `ClassAttentionBlock`s and the attention pooling have one query. Scores of talking
        heads are those between the softmax and the second map. The queries of DETR's decoder are
        its object queries, and the keys are the cells of the map that its encoder reads.

        With `grid=True` every query has a map over the patches. Scores of prefix tokens as keys are
        removed, so a map may sum to less than one. Queries keep their order, prefix tokens first.
        The queries of a `SwinBlock` are then the h*w positions of its map, and a query's map is
        zero outside its window; this takes (h*w)^2 numbers per head, 39 MB for the first stage of
        `SwinTiny`. For a `PyramidBlock`, h x w is the reduced map of the keys.

    Raises:
        ValueError: if the model has no blocks, a layer is not one of them, a head does not exist,
            or `grid=True` is used with a model that is not of this library's families.

    Example:
        >>> keras_vit.attention_maps(model, images, layers=["block11"])["block11"].shape
        (1, 12, 197, 197)
        >>> keras_vit.attention_maps(model, images, ["block11"], grid=True)["block11"].shape
        (1, 12, 197, 14, 14)
    """
    names = block_names(model, layers)
    if grid:
        check_family(model)
    if heads is not None:
        _check_heads(model, names, heads)
    check_size(model, images)
    parts = {name: name.partition("/") for name in names}
    blocks = {block: model.get_layer(block) for block, *_ in parts.values()}
    inputs = keras.Model(
        model.input, {name: input_of(model, block) for name, block in blocks.items()}
    )
    inputs = inputs(ops.convert_to_tensor(images), training=False)
    maps = {}
    for name, (layer, _, other) in parts.items():
        block, x = blocks[layer], inputs[layer]
        scores = block.attention_scores(x, other) if other else block.attention_scores(x)
        scores = ops.convert_to_numpy(scores)
        if heads is not None:
            scores = np.take(scores, heads, axis=block.head_axis)
        if grid and not other:
            (h, w), prefix = token_grid(model, layer, images.shape)
            shape = x[0].shape if isinstance(x, (list, tuple)) else x.shape
            scores = block.scores_on_grid(scores, shape, (h, w), prefix)
        maps[name] = scores
    return maps


def block_names(model, layers=None):
    """The names in `layers` (by default of every block), in the order of the model.

    Raises:
        ValueError: if the model has no blocks, or a name is not that of a block or an attention
            pooling.
    """
    blocks = [x.name for x in model.layers if isinstance(x, Block)]
    if not blocks:
        raise ValueError(
            "The model has no transformer blocks: pass a model whose top-level layers include "
            f"keras_vit.layers.Block layers. Received: {model.name}"
        )
    if layers is None:
        return blocks
    pools = (x for x in model.layers if isinstance(x, Attending) and not isinstance(x, Block))
    known = blocks + [x.name for x in pools]
    known += [f"{name}/{other}" for name in blocks for other in model.get_layer(name).others]
    if isinstance(layers, str):
        raise ValueError(
            f"layers must be a list of names, such as [{layers!r}]. Received: layers={layers!r}"
        )
    layers = list(layers)
    unknown = [name for name in layers if name not in known]
    if unknown or not layers:
        raise ValueError(
            f"layers must be names of transformer blocks: {', '.join(known)}. "
            f"Received: {unknown or layers}"
        )
    return [name for name in known if name in layers]


def check_family(model):
    """Raises a `ValueError` unless the model is of one of this library's families."""
    if not isinstance(model, ImageModel):
        raise ValueError(
            "The position of patches in the image is known for this library's families only, such "
            f"as keras_vit.ViTBase. Received: {model.name}, a {type(model).__name__}"
        )


def check_size(model, images):
    """Raises a `ValueError` unless the model takes `images`."""
    if getattr(images, "ndim", 4) != 4 or not hasattr(images, "shape"):
        raise ValueError(
            "images must be an array (batch, height, width, channels). Convert pictures with "
            "model.preprocess_images(pictures), and a single image with images[None]. "
            f"Received: {getattr(images, 'shape', type(images))}"
        )
    if isinstance(model, ImageModel):
        model.check_size(images.shape)
        check_range(model, images)


def token_grid(model, layer_name, images_shape):
    """((h, w), P): the grid of a layer's patches for images (B, H, W, C), and its prefix tokens."""
    prefix = model.token_layout(layer_name).num_prefix_tokens
    return model.grid_of(layer_name, tuple(images_shape[1:3])), prefix


def tokens_to_grid(model, layer_name, x, images_shape):
    """Removes the prefix tokens from (..., P + h*w) and reshapes the rest to (..., h, w)."""
    grid, prefix = token_grid(model, layer_name, images_shape)
    return x[..., prefix:].reshape(*x.shape[:-1], *grid)


def query_grid(model, layer_name, images_shape):
    """(h, w), the grid of the queries of a block for images (B, H, W, C)."""
    layer = model.get_layer(layer_name)
    read = input_of(model, layer)
    read = read[0] if isinstance(read, list) else read
    input_shape = keras.Model(model.input, read).compute_output_shape(images_shape)
    grid, _ = token_grid(model, layer_name, images_shape)
    return layer.query_grid(input_shape, grid)


def _check_heads(model, names, heads):
    for name in names:
        number = model.get_layer(name.partition("/")[0]).num_heads
        if isinstance(heads, int) or not len(heads) or not set(heads) <= set(range(number)):
            raise ValueError(
                f"heads must be a list of indices from 0 to {number - 1}: {name} has {number} "
                f"heads. Received: heads={heads}"
            )
