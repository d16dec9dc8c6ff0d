"""The map of a backbone that DETR's encoder reads, of padded images too.

It is what the backbone's pooling reads: the last map of a ResNet or a pyramid, the last tokens of a
ViT. Transformer blocks of plain attention do not attend to padding, so the valid cells of a ViT are
those of the picture alone. Convolutions, windows, reduced maps and talking heads know no mask:
near the border of the picture their maps depend on the padding.

Letters: B batch, H x W image size, C channels, P prefix tokens, D width, h x w map.
"""

import keras
from keras import ops

from keras_vit.layers import Block, ClassAttentionBlock, TokensToGrid, TransformerBlock
from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.sublayer import sublayer
from keras_vit.models.graph import input_of, output_of


def reader(backbone):
    """The name of the layer whose output DETR reads.

    Raises:
        ValueError: if the backbone has neither a map before its pooling nor blocks.
    """
    blocks = [
        layer.name
        for layer in backbone.layers
        if isinstance(layer, Block) and not isinstance(layer, ClassAttentionBlock)
    ]
    with_class_attention = any(isinstance(x, ClassAttentionBlock) for x in backbone.layers)
    names = {layer.name for layer in backbone.layers}
    if "pool" not in names or with_class_attention:
        if not blocks:
            raise ValueError(
                f"backbone must be a model with a pooling or with blocks. Received: {backbone.name}"
            )
        return blocks[-1]
    x = input_of(backbone, backbone.get_layer("pool"))
    return x._keras_history.operation.name


def backbone_model(backbone, layer):
    """A model from images to the map (B, h, w, D) that DETR reads. It shares the weights.

    Args:
        backbone: `ImageModel`.
        layer: function (kind, *args, name) that creates a layer (`ImageModel.layer`).

    Returns:
        `keras.Model`.
    """
    name = reader(backbone)
    x, layout = output_of(backbone, backbone.get_layer(name)), backbone.token_layout(name)
    if len(x.shape) == 3:
        to_grid = layer(
            TokensToGrid, layout.patch_size, layout.num_prefix_tokens, name="backbone_grid"
        )
        x = to_grid(x, backbone.input)
    return keras.Model(backbone.input, x, name=f"{backbone.name}_map")


def run_masked(model, layouts, images, valid, training, layer):
    """The map of padded images; blocks of plain attention do not attend to padding.

    Args:
        model: result of `backbone_model`.
        layouts: dict of layer name to `TokenLayout`.
        images: float tensor (B, H, W, C).
        valid: bool tensor (B, H, W).
        training: bool or None.
        layer: as in `backbone_model`.

    Returns:
        Map (B, h, w, D).
    """

    def step(operation, *args, **kwargs):
        if training is not None and "training" in getattr(operation, "_call_context_args", ()):
            kwargs["training"] = training
        if takes_mask(operation):
            layout = layouts[operation.name]
            sizes = layout.patch_size, layout.num_prefix_tokens
            kwargs["attention_mask"] = layer(TokensMask, *sizes, name="tokens_mask")(valid)
        return sublayer(operation, *args, **kwargs)

    return model._run_through_graph([images], call_fn=step)


def takes_mask(layer):
    """Whether a layer of a backbone can leave out padding."""
    return isinstance(layer, TransformerBlock) and not layer.talking_heads


class TokensMask(ConfiguredLayer):
    """The mask of tokens of which some are of padding, as attention takes it.

    Args:
        patch_size: (p, q), in pixels.
        num_prefix_tokens: int, P, tokens before the patches, which are valid.

    Call arguments:
        valid: bool tensor (B, H, W).

    Returns:
        bool tensor (B, 1, 1, P + h*w). A patch is valid if its first pixel is.
    """

    def __init__(self, patch_size, num_prefix_tokens, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = tuple(patch_size)
        self.num_prefix_tokens = num_prefix_tokens

    def call(self, valid):
        p, q = self.patch_size
        _, height, width = ops.shape(valid)
        h, w = height // p, width // q
        valid = ops.cast(valid, "bool")[:, : h * p : p, : w * q : q]
        mask = ops.reshape(valid, (-1, 1, 1, h * w))
        prefix = ops.ones_like(mask[..., :1])
        return ops.concatenate([*[prefix] * self.num_prefix_tokens, mask], axis=-1)

    def compute_output_spec(self, valid):
        batch, *size = valid.shape
        h, w = (side and side // by for side, by in zip(size, self.patch_size, strict=True))
        n = None if None in (h, w) else self.num_prefix_tokens + h * w
        return keras.KerasTensor((batch, 1, 1, n), "bool")
