"""The maps of an encoder that SETR's decoders read.

Letters: B batch, N tokens, P prefix tokens, D width, h x w grid of patches.
"""

from keras_vit.layers import Block, ClassAttentionBlock, TokensToGrid
from keras_vit.tasks.tokens import DropPrefix

LEVELS = 4  # how many layers the decoders read by default


def sources(encoder):
    """Names of the layers of an encoder that can be read, in order: stages of a pyramid, or blocks.

    A hybrid has stages too, but in its CNN; what can be read are its blocks.
    """
    if _is_pyramid(encoder):
        return list(encoder._pyramid.values())
    return [
        layer.name
        for layer in encoder.layers
        if isinstance(layer, Block) and not isinstance(layer, ClassAttentionBlock)
    ]


def _is_pyramid(encoder):
    return encoder._pyramid is not None and "tokens" not in encoder._pyramid


def chosen(encoder, layers):
    """Indices in `sources` of the layers to read, in order.

    Args:
        encoder: `ImageModel`.
        layers: sequence of int; None for the ends of the four quarters, or of fewer parts if the
            encoder has fewer layers.

    Returns:
        tuple of int.

    Raises:
        ValueError: if the encoder does not have the layers.
    """
    count = len(sources(encoder))
    if layers is None:
        return quarters(count)
    known = isinstance(layers, (list, tuple)) and all(
        isinstance(i, int) and not isinstance(i, bool) and 0 <= i < count for i in layers
    )
    if not known or not layers or list(layers) != sorted(set(layers)):
        kind = "stages" if _is_pyramid(encoder) else "blocks"
        raise ValueError(
            f"layers must be None or rising indices of the encoder's {kind}, 0 to {count - 1}. "
            f"Received: layers={layers!r} for the encoder {encoder.name}"
        )
    return tuple(layers)


def quarters(count):
    """Indices of the ends of the four quarters of so many layers; of fewer parts if they are few.

    >>> quarters(12)
    (2, 5, 8, 11)
    """
    ends = [(i + 1) * count // LEVELS - 1 for i in range(LEVELS)]
    return tuple(sorted({end for end in ends if end >= 0}))


def maps(encoder, indices, with_prefix, layer):
    """The maps of an encoder's layers.

    Args:
        encoder: `ImageModel`; its layers are shared.
        indices: tuple of int, which of `sources`.
        with_prefix: bool, whether prefix tokens, such as the class token, take part in the blocks.
            Otherwise they are dropped before the first block, after the position embedding. In a
            pyramid, where the last stage alone may have one, they stay.
        layer: function (kind, *args, name) that creates a layer (`ImageModel.layer`).

    Returns:
        list of symbolic maps (B, h, w, D).
    """
    names = sources(encoder)
    tokens = {name: encoder.get_layer(name).output for name in names}
    dropped = encoder.token_layout(names[0]).num_prefix_tokens
    if with_prefix or dropped == 0 or _is_pyramid(encoder):
        dropped = 0
    else:
        x = encoder.get_layer(names[0]).input  # (B, P + N, D)
        x = layer(DropPrefix, dropped, name="patches")(x)
        for name in names:
            tokens[name] = x = encoder.get_layer(name)(x)  # (B, N, D)
    found = []
    for name in [names[i] for i in indices]:
        x = tokens[name]
        if len(x.shape) == 3:
            layout = encoder.token_layout(name)
            prefix = layout.num_prefix_tokens - dropped
            x = layer(TokensToGrid, layout.patch_size, prefix, name=f"{name}_grid")(
                x, encoder.input
            )
        found.append(x)  # (B, h, w, D)
    return found
