"""CaiT, Class-Attention in Image Transformers, of Touvron et al. 2021 (arXiv:2103.17239).

First the patches attend to each other, without a class token and with talking heads; then the class
token attends to the patches in a few blocks of its own. LayerScale with small initial values on
every residual branch makes deep models trainable. The computation is that of the paper. Linear
layers are initialised Glorot uniform, as in the other models here (normal with standard deviation
0.02 in the paper's code); the initial values of LayerScale are those of timm.

Letters: B batch, H x W image size, C channels, h x w grid of patches, N = h*w, D width, K classes.
"""

import keras
from keras import layers

from keras_vit.layers import (
    AddPositionEmbedding,
    ClassAttentionBlock,
    ClassificationHead,
    ClassToken,
    PatchEmbedding,
    TokenPooling,
    TransformerBlock,
)
from keras_vit.layers.validation import check_count, check_rate
from keras_vit.models.classifier import ImageClassifier, check_class_names
from keras_vit.models.configured import configured
from keras_vit.models.grids import patch_grids
from keras_vit.models.normalization import pixels_to_input
from keras_vit.models.registry import register_family


@keras.saving.register_keras_serializable(package="keras_vit")
@configured  # documents the arguments that families share
class CaiT(ImageClassifier):
    """Class-attention transformer from images (B, H, W, C) to logits (B, num_classes).

    Args:
        depth: int, number of blocks in which the patches attend to each other.
        class_depth: int, number of blocks in which the class token attends to the patches.
        position_resample: "timm", "hf" or "flax", how position embeddings are resampled to another
            grid (`keras_vit.layers.resample_grid`).
        qkv_bias: bool, whether the projections to queries, keys and values have biases.
        layer_scale: float, initial value of LayerScale.
        dropout_rate: float in [0, 1), dropout after the position embedding and, in the first
            `depth` blocks, after the attention and in the MLP.
        attention_dropout_rate: float in [0, 1), dropout on the attention scores in the first
            `depth` blocks.
        drop_path_rate: float in [0, 1), stochastic depth rate of each of the first `depth` blocks.

    Raises:
        ValueError: if sizes do not divide, a rate is outside [0, 1) or a choice is unknown.

    Example:
        >>> model = keras_vit.CaiTSmall24(num_classes=10)
        >>> keras_vit.attention_maps(model, images, ["class_block01"])["class_block01"].shape
        (8, 8, 1, 197)
    """

    def __init__(
        self,
        *,
        num_classes=1000,
        image_size=224,
        patch_size=16,
        width=384,
        depth=24,
        class_depth=2,
        num_heads=8,
        mlp_dim=1536,
        num_channels=3,
        position_grid=None,
        position_resample="timm",
        mlp="gelu",
        qkv_bias=True,
        layer_scale=1e-5,
        norm_epsilon=1e-6,
        dropout_rate=0.0,
        attention_dropout_rate=0.0,
        drop_path_rate=0.0,
        remat=False,
        include_preprocessing=False,
        preprocessor=None,
        class_names=None,
        frozen_layers=(),
        adapted_layers=None,
        dtype=None,
        name=None,
    ):
        _check(self._arguments)
        patch_size, image_size, position_grid = patch_grids(patch_size, image_size, position_grid)
        block = {
            "num_heads": num_heads,
            "mlp_dim": mlp_dim,
            "mlp": mlp,
            "qkv_bias": qkv_bias,
            "layer_scale": layer_scale,
            "norm_epsilon": norm_epsilon,
            "remat": remat,
        }

        layer = self.layer
        images = keras.Input((*(image_size or (None, None)), num_channels), name="images")
        x = images  # (B, H, W, C)
        if include_preprocessing:
            x = layer(pixels_to_input, preprocessor, name="preprocessing")(x)

        x = layer(PatchEmbedding, width, patch_size, name="patch_embedding")(x)  # (B, N, D)
        x = layer(
            AddPositionEmbedding,
            position_grid,
            patch_size,
            resample=position_resample,
            name="position_embedding",
        )(x, images)
        x = layer(layers.Dropout, dropout_rate, name="dropout")(x)
        for i in range(depth):
            x = layer(
                TransformerBlock,
                talking_heads=True,
                dropout_rate=dropout_rate,
                attention_dropout_rate=attention_dropout_rate,
                drop_path_rate=drop_path_rate,
                name=f"block{i:02d}",
                **block,
            )(x)  # (B, N, D)

        x = layer(ClassToken, name="class_token")(x)  # (B, 1+N, D)
        for i in range(class_depth):
            x = layer(ClassAttentionBlock, name=f"class_block{i:02d}", **block)(x)  # (B, 1+N, D)

        x = layer(layers.LayerNormalization, epsilon=norm_epsilon, name="norm")(x)
        x = layer(TokenPooling, "token", name="pool")(x)  # (B, D)
        if num_classes is not None:
            x = layer(ClassificationHead, num_classes, name="head")(x)  # (B, K)

        super().__init__(images, x, name)


def _check(arguments):
    """Raises a `ValueError` for arguments that no layer checks."""
    for name in ("depth", "class_depth", "width", "num_heads", "num_channels"):
        check_count(arguments[name], name)
    for name in ("dropout_rate", "drop_path_rate"):
        check_rate(arguments[name], name)
    if arguments["layer_scale"] is None:
        raise ValueError(
            "layer_scale must be a number, the initial value of LayerScale: CaiT always has it. "
            "Received: layer_scale=None"
        )
    check_class_names(arguments["class_names"], arguments["num_classes"])


CAIT = register_family(
    "cait",
    "CaiT",
    CaiT,
    tiny=dict(
        image_size=(24, 16), patch_size=8, width=16, depth=1, class_depth=1, num_heads=2, mlp_dim=32
    ),
    smoke=dict(patch_size=2, width=32, depth=2, num_heads=2, mlp_dim=64),
)


# fmt: off
@CAIT.variant
def CaiTXXSmall24(
    *, width=192, depth=24, num_heads=4, mlp_dim=768, layer_scale=1e-5, name="cait_xxsmall24",
    **kwargs,
):
    """CaiT-XXS24 (Touvron et al. 2021, table 3)."""


@CAIT.variant
def CaiTXXSmall36(
    *, width=192, depth=36, num_heads=4, mlp_dim=768, layer_scale=1e-5, name="cait_xxsmall36",
    **kwargs,
):
    """CaiT-XXS36 (Touvron et al. 2021, table 3)."""


@CAIT.variant
def CaiTXSmall24(
    *, width=288, depth=24, num_heads=6, mlp_dim=1152, layer_scale=1e-5, name="cait_xsmall24",
    **kwargs,
):
    """CaiT-XS24 (Touvron et al. 2021, table 3)."""


@CAIT.variant
def CaiTSmall24(
    *, width=384, depth=24, num_heads=8, mlp_dim=1536, layer_scale=1e-5, name="cait_small24",
    **kwargs,
):
    """CaiT-S24 (Touvron et al. 2021, table 3)."""


@CAIT.variant
def CaiTSmall36(
    *, width=384, depth=36, num_heads=8, mlp_dim=1536, layer_scale=1e-6, name="cait_small36",
    **kwargs,
):
    """CaiT-S36 (Touvron et al. 2021, table 3)."""


@CAIT.variant
def CaiTMedium36(
    *, width=768, depth=36, num_heads=16, mlp_dim=3072, layer_scale=1e-6, name="cait_medium36",
    **kwargs,
):
    """CaiT-M36 (Touvron et al. 2021, table 3)."""


@CAIT.variant
def CaiTMedium48(
    *, width=768, depth=48, num_heads=16, mlp_dim=3072, layer_scale=1e-6, name="cait_medium48",
    **kwargs,
):
    """CaiT-M48, as in timm."""
