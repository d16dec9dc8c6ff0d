"""Transformer blocks on patches, with mean pooling.

Letters: B batch, H x W image size, C channels, N patches, D width, K classes.
"""

import keras

from keras_vit.layers import (
    MLP,
    Attention,
    Block,
    ClassificationHead,
    PatchEmbedding,
    TokenPooling,
)
from keras_vit.models.classifier import ImageClassifier
from keras_vit.models.configured import configured
from keras_vit.models.normalization import pixels_to_input


@keras.saving.register_keras_serializable(package="toy")
class ToyBlock(Block):
    """Attention and an MLP without expansion, on tokens (B, N, D)."""

    def __init__(self, num_heads, width, **kwargs):
        super().__init__(**kwargs)
        self.add_branches(
            Attention(num_heads, name="attention", dtype=self.dtype_policy),
            MLP(width, name="mlp", dtype=self.dtype_policy),
        )


@keras.saving.register_keras_serializable(package="toy")
@configured
class ToyTransformer(ImageClassifier):
    """A transformer without position embeddings, from images (B, H, W, C) to logits (B, K).

    Args:
        depth: int, number of blocks.

    Raises:
        ValueError: if sizes do not divide.
    """

    def __init__(
        self,
        *,
        num_classes=1000,
        image_size=224,
        patch_size=16,
        width=48,
        depth=2,
        num_heads=3,
        num_channels=3,
        remat=False,
        include_preprocessing=False,
        preprocessor=None,
        class_names=None,
        frozen_layers=(),
        adapted_layers=None,
        dtype=None,
        name=None,
    ):
        layer, size = self.layer, image_size
        size = (size, size) if isinstance(size, int) else size
        images = keras.Input((*(size or (None, None)), num_channels), name="images")
        x = images  # (B, H, W, C)
        if include_preprocessing:
            x = layer(pixels_to_input, preprocessor, name="preprocessing")(x)
        x = layer(PatchEmbedding, width, patch_size, name="patch_embedding")(x)  # (B, N, D)
        for i in range(depth):
            x = layer(ToyBlock, num_heads, width, remat=remat, name=f"block{i:02d}")(x)
        x = layer(TokenPooling, "gap", name="pool")(x)  # (B, D)
        if num_classes is not None:
            x = layer(ClassificationHead, num_classes, name="head")(x)  # (B, K)
        super().__init__(images, x, name)
