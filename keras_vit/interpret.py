"""Looking into a model: what its blocks attend to."""

import keras

from keras_vit.models.base import BLOCKS


def attention_maps(model, images, layers=None):
    """Attention scores of chosen blocks; the model itself keeps running fused.

    Args:
        model: model whose top-level layers include transformer blocks.
        images: array (B, H, W, C), as the model takes them.
        layers: list of block names, such as `["block11"]`; by default every block.

    Returns:
        dict of block name to float32 NumPy array (B, heads, queries, keys). The rows sum to one;
        queries and keys are all tokens, prefix tokens first. Of `SwinBlock`s (B, windows, heads,
        places, places): windows row by row, shifted ones as they lie after the shift. In
        `PyramidBlock`s the queries are the places of the map, the keys those of the smaller one.
        `ClassAttentionBlock`s have one query, the class token. Heads that talk are as the softmax
        gives them, before they are mixed again.

    Raises:
        ValueError: for a model without blocks, or a layer that is none of them.

    Example:
        >>> keras_vit.attention_maps(model, images, layers=["block11"])["block11"].shape
        (1, 12, 197, 197)
    """
    blocks = {x.name: x for x in model.layers if isinstance(x, BLOCKS)}
    if not blocks:
        raise ValueError(f"The model has no transformer blocks. Received: {model.name}")
    names = list(blocks) if layers is None else list(layers)
    unknown = [name for name in names if name not in blocks]
    if unknown:
        raise ValueError(
            f"layers must be names of transformer blocks: {', '.join(blocks)}. Received: {unknown}"
        )
    inputs = keras.Model(model.input, {name: blocks[name].input for name in names})
    tokens = inputs(keras.ops.convert_to_tensor(images), training=False)
    return {
        name: keras.ops.convert_to_numpy(blocks[name].attention_scores(tokens[name]))
        for name in names
    }
