"""Attention scores of chosen blocks, and their way back onto the image.

Letters: B batch, H x W image size, h x w grid of patches or places, P prefix tokens.
"""

import keras
import numpy as np
from keras import ops

from keras_vit.layers import Block
from keras_vit.layers.attending import Attending
from keras_vit.models.base import ImageModel
from keras_vit.models.inputs import look


def attention_maps(model, images, layers=None, heads=None, grid=False):
    """Attention scores of chosen blocks; the model itself keeps running fused.

    The forward pass is the model's own, up to the last block asked for; only the scores of the
    chosen blocks are computed again, from what those blocks took.

    Args:
        model: model whose top-level layers include transformer blocks.
        images: array (B, H, W, C), as the model takes them.
        layers: list of block names, such as `["block11"]`, or of the attention pooling ("pool");
            by default every block.
        heads: list of int, which heads; by default all of them.
        grid: if True the scores are laid over the image: (B, heads, queries, h, w).

    Returns:
        dict of block name to float32 NumPy array (B, heads, queries, keys). The rows sum to one;
        queries and keys are all tokens, prefix tokens first. Of `SwinBlock`s (B, windows, heads,
        places, places): windows row by row, shifted ones as they lie after the shift. In
        `PyramidBlock`s the queries are the places of the map, the keys those of the smaller one.
        `ClassAttentionBlock`s and the pooling have one query. Heads that talk are as the softmax
        gives them, before they are mixed again.

        With `grid=True` every query has a map of the keys that are patches: what it gives to
        prefix tokens is left out, and a row sums to the rest. Queries stay in their order, prefix
        tokens first. Windows are put back where they lie in the image: the queries are the h*w
        places of the map, and outside of its window a query's map is zero; that takes (h*w)^2
        numbers a head, 39 MB for the first stage of `SwinTiny`. In `PyramidBlock`s h x w are the
        keys' smaller map, each key as large as the places that it was made of.

    Raises:
        ValueError: for a model without blocks, a layer that is none of them, a head that there is
            not, or `grid=True` with a model that is none of this library's families.

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
    blocks = {name: model.get_layer(name) for name in names}
    inputs = keras.Model(model.input, {name: block.input for name, block in blocks.items()})
    inputs = inputs(ops.convert_to_tensor(images), training=False)
    maps = {}
    for name, block in blocks.items():
        scores = ops.convert_to_numpy(block.attention_scores(inputs[name]))
        if heads is not None:
            scores = np.take(scores, heads, axis=block.head_axis)
        if grid:
            (h, w), prefix = token_grid(model, name, images.shape)
            scores = block.scores_on_grid(scores, inputs[name].shape, (h, w), prefix)
        maps[name] = scores
    return maps


def block_names(model, layers=None):
    """Names of the blocks that `layers` asks for, all of them by default, in the model's order."""
    blocks = [x.name for x in model.layers if isinstance(x, Block)]
    if not blocks:
        raise ValueError(f"The model has no transformer blocks. Received: {model.name}")
    if layers is None:
        return blocks
    pools = (x for x in model.layers if isinstance(x, Attending) and not isinstance(x, Block))
    known = blocks + [x.name for x in pools]
    if isinstance(layers, str):
        raise ValueError(f"layers must be a list of names. Received: {layers!r}")
    layers = list(layers)
    unknown = [name for name in layers if name not in known]
    if unknown or not layers:
        raise ValueError(
            f"layers must be names of transformer blocks: {', '.join(known)}. "
            f"Received: {unknown or layers}"
        )
    return [name for name in known if name in layers]


def check_family(model):
    """Raises unless the model knows the grid of its patches."""
    if not isinstance(model, ImageModel):
        raise ValueError(
            "Where patches lie in the image is known of this library's families alone, such as "
            f"keras_vit.ViTBase. Received: {model.name}, a {type(model).__name__}"
        )


def check_size(model, images):
    """Raises unless `images` are as the model takes them."""
    if getattr(images, "ndim", 4) != 4 or not hasattr(images, "shape"):
        raise ValueError(
            "images must be an array (batch, height, width, channels), as the model takes them; "
            "model.preprocess_images makes one of pictures, images[None] a batch of one. "
            f"Received: {getattr(images, 'shape', type(images))}"
        )
    if isinstance(model, ImageModel):
        model.check_size(images.shape)
        look(model, images)


def token_grid(model, layer_name, images_shape):
    """((h, w), P): the grid of a layer's patches on images (B, H, W, C), and its prefix tokens."""
    layout = model.token_layout(layer_name)
    return layout.grid_of(images_shape[1:3]), layout.num_prefix_tokens


def tokens_to_grid(model, layer_name, x, images_shape):
    """Leaves the prefix tokens out of (..., P + h*w) and lays the rest on its grid: (..., h, w)."""
    grid, prefix = token_grid(model, layer_name, images_shape)
    return x[..., prefix:].reshape(*x.shape[:-1], *grid)


def query_grid(model, layer_name, images_shape):
    """(h, w) of the places that read in a block, on images (B, H, W, C)."""
    layer = model.get_layer(layer_name)
    input_shape = keras.Model(model.input, layer.input).compute_output_shape(images_shape)
    grid, _ = token_grid(model, layer_name, images_shape)
    return layer.query_grid(input_shape, grid)


def _check_heads(model, names, heads):
    for name in names:
        number = model.get_layer(name).num_heads
        if isinstance(heads, int) or not len(heads) or not set(heads) <= set(range(number)):
            raise ValueError(
                f"heads must be a list of numbers from 0 to {number - 1}: {name} has {number} "
                f"heads. Received: heads={heads}"
            )
