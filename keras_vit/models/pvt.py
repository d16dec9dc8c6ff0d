"""The Pyramid Vision Transformer of Wang et al. 2021 (arXiv:2102.12122).

Four stages, each a small Vision Transformer on a map at half the resolution of the one before. The
computation is that of the paper. Linear layers are initialised Glorot uniform, as in the other
models here (normal with standard deviation 0.02 in the paper's code).

Letters: B batch, H x W image size, C channels, h x w grid of the current stage, N = h*w tokens,
D width of the stage, K classes.
"""

import math

import keras
from keras import layers

from keras_vit.layers import (
    AddPositionEmbedding,
    ClassificationHead,
    ClassToken,
    PatchEmbedding,
    PyramidBlock,
    TokenPooling,
    TokensToGrid,
    TransformerBlock,
)
from keras_vit.layers.validation import as_pair, check_count, check_rate
from keras_vit.models.classifier import ImageClassifier, check_class_names
from keras_vit.models.configured import configured
from keras_vit.models.grids import check_multiple
from keras_vit.models.normalization import pixels_to_input
from keras_vit.models.registry import register_family
from keras_vit.models.stages import as_stages, stage_rates


@keras.saving.register_keras_serializable(package="keras_vit")
@configured  # documents the arguments that families share
class PyramidVisionTransformer(ImageClassifier):
    """Pyramid Vision Transformer from images (B, H, W, C) to logits (B, num_classes).

    Args:
        num_classes: int, K, or None for features (B, D of the last stage) instead of logits.
        image_size: int or (H, W), in pixels, a multiple of the product of `patch_sizes` (32 by
            default); None to accept any such size at call time.
        depths: tuple of int, number of transformer blocks of each stage.
        widths: tuple of int, D of each stage.
        num_heads: tuple of int, attention heads of each stage.
        mlp_ratios: tuple of numbers, hidden width of the MLP divided by D, for each stage.
        reductions: tuple of int, reduction ratio of each stage: patches of reduction x reduction
            positions on the map become one key and value. It must be 1 in the last stage, which has
            a class token.
        patch_sizes: tuple of int, patch size of each stage, in positions of the map before it; it
            is the stride too.
        position_grid: int or (h, w), grid of the learned position embeddings of the first stage;
            the later stages divide it by their patch sizes. By default the grid of `image_size`,
            or of 224 pixels if `image_size` is None.
        position_resample: "bilinear" (as in the paper's code), "timm", "hf" or "flax", how position
            embeddings are resampled to another grid (`keras_vit.layers.resample_grid`).
        qkv_bias: bool, whether the projections to queries, keys and values have biases.
        norm_epsilon: float, epsilon of the normalisations in the blocks and of the last one.
        conv_norm_epsilon: float, epsilon of the normalisations after patch embeddings and
            reductions: 1e-5 in the paper's code, 1e-6 in transformers.
        dropout_rate: float in [0, 1), dropout after the position embeddings, after the attention
            and in the MLP.

    Raises:
        ValueError: if sizes do not divide, a rate is outside [0, 1), or the tuples of the stages
            differ in length.

    Example:
        >>> model = keras_vit.PVTSmall(num_classes=10)
        >>> {name: x.shape for name, x in model.pyramid(images).items()}
        {'stage0': (8, 56, 56, 64), 'stage1': (8, 28, 28, 128), ...}
    """

    def __init__(
        self,
        *,
        num_classes=1000,
        image_size=224,
        depths=(2, 2, 2, 2),
        widths=(64, 128, 320, 512),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(8, 8, 4, 4),
        reductions=(8, 4, 2, 1),
        patch_sizes=(4, 2, 2, 2),
        num_channels=3,
        position_grid=None,
        position_resample="bilinear",
        qkv_bias=True,
        norm_epsilon=1e-6,
        conv_norm_epsilon=1e-5,
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
        depths, widths, num_heads, mlp_ratios, reductions, patch_sizes = as_stages(
            self._arguments,
            ["depths", "widths", "num_heads", "mlp_ratios", "reductions", "patch_sizes"],
            fractions=("mlp_ratios",),
        )
        _check(self._arguments)
        shrunk = [math.prod(patch_sizes[: s + 1]) for s in range(len(depths))]  # 4, 8, 16, 32
        image_size, grids = _grids(image_size, position_grid, shrunk)
        rates = stage_rates(drop_path_rate, depths)
        last = len(depths) - 1
        block = {
            "qkv_bias": qkv_bias,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
            "norm_epsilon": norm_epsilon,
            "remat": remat,
        }

        layer = self.layer
        images = keras.Input((*(image_size or (None, None)), num_channels), name="images")
        x = images  # (B, H, W, C)
        if include_preprocessing:
            x = layer(pixels_to_input, preprocessor, name="preprocessing")(x)

        for s in range(len(depths)):
            stage = f"stage{s}"
            patches = f"{stage}_patch_embedding"
            x = layer(PatchEmbedding, widths[s], patch_sizes[s], name=patches)(x)  # (B, N, D)
            x = layer(
                layers.LayerNormalization, epsilon=conv_norm_epsilon, name=f"{stage}_embedding_norm"
            )(x)
            if s == last:
                x = layer(ClassToken, name="class_token")(x)  # (B, 1+N, D)
            x = layer(
                AddPositionEmbedding,
                grids[s],
                shrunk[s],
                num_prefix_tokens=int(s == last),
                resample=position_resample,
                name=f"{stage}_position_embedding",
            )(x, images)
            x = layer(layers.Dropout, dropout_rate, name=f"{stage}_dropout")(x)
            if s < last:
                x = layer(TokensToGrid, shrunk[s], name=f"{stage}_grid")(x, images)
            for i in range(depths[s]):
                each = {
                    "num_heads": num_heads[s],
                    "mlp_dim": int(widths[s] * mlp_ratios[s]),
                    "drop_path_rate": rates[s][i],
                    "name": f"{stage}_block{i:02d}",
                }
                if s < last:
                    x = layer(
                        PyramidBlock,
                        reduction=reductions[s],
                        reduction_norm_epsilon=conv_norm_epsilon,
                        **each,
                        **block,
                    )(x)  # (B, h, w, D)
                else:
                    x = layer(TransformerBlock, **each, **block)(x)  # (B, 1+N, D)

        x = layer(layers.LayerNormalization, epsilon=norm_epsilon, name="norm")(x)
        x = layer(TokenPooling, "token", name="pool")(x)  # (B, D)
        if num_classes is not None:
            x = layer(ClassificationHead, num_classes, name="head")(x)  # (B, K)

        super().__init__(images, x, name)


def _grids(image_size, position_grid, shrunk):
    """The image size as a pair or None, and the grid of the position embeddings of each stage."""
    whole = shrunk[-1]
    if image_size is not None:
        image_size = as_pair(image_size, "image_size")
    check_multiple(image_size, (whole, whole), "the product of patch_sizes", product=whole)
    size = image_size or (224, 224)
    if position_grid is not None:
        size = tuple(side * shrunk[0] for side in as_pair(position_grid, "position_grid"))
        if any(side % whole for side in size):
            raise ValueError(
                "position_grid must be a multiple of the product of the later stages' patch sizes. "
                f"Received: position_grid={position_grid!r}, product={whole // shrunk[0]}"
            )
    return image_size, [tuple(max(side // by, 1) for side in size) for by in shrunk]


def _check(arguments):
    """Raises a `ValueError` for arguments that no layer checks."""
    check_count(arguments["num_channels"], "num_channels")
    check_rate(arguments["dropout_rate"], "dropout_rate")
    if arguments["reductions"][-1] != 1:
        raise ValueError(
            "reductions must end in 1: the last stage has a class token, which cannot be reduced. "
            f"Received: reductions={arguments['reductions']}"
        )
    check_class_names(arguments["class_names"], arguments["num_classes"])


PVT = register_family(
    "pvt",
    "PVT",
    PyramidVisionTransformer,
    tiny=dict(
        image_size=(24, 16),
        patch_sizes=(4, 2),
        depths=(1, 2),
        widths=(8, 16),
        num_heads=(1, 2),
        mlp_ratios=(2, 2),
        reductions=(2, 1),
    ),
    smoke=dict(
        patch_sizes=(2, 2),
        depths=(1, 1),
        widths=(16, 32),
        num_heads=(1, 2),
        mlp_ratios=(2, 2),
        reductions=(2, 1),
    ),
    # Wang et al. 2021, table 2: these weights are on no hub of the catalogue.
    paper_top1={"PVTTiny": 75.1, "PVTSmall": 79.8, "PVTMedium": 81.2, "PVTLarge": 81.7},
)


@PVT.variant
def PVTTiny(*, depths=(2, 2, 2, 2), name="pvt_tiny", **kwargs):
    """PVT-Tiny (Wang et al. 2021, table 1)."""


@PVT.variant
def PVTSmall(*, depths=(3, 4, 6, 3), name="pvt_small", **kwargs):
    """PVT-Small (Wang et al. 2021, table 1)."""


@PVT.variant
def PVTMedium(*, depths=(3, 4, 18, 3), name="pvt_medium", **kwargs):
    """PVT-Medium (Wang et al. 2021, table 1)."""


@PVT.variant
def PVTLarge(*, depths=(3, 8, 27, 3), name="pvt_large", **kwargs):
    """PVT-Large (Wang et al. 2021, table 1)."""
