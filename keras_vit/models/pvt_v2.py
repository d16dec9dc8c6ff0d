"""The Pyramid Vision Transformer v2 of Wang et al. 2022 (arXiv:2106.13797).

Changes from PVT (`pvt.py`): patches overlap, and the MLP has a depthwise convolution, so the model
needs neither position embeddings nor a class token and takes images of any size. Attention can
average keys and values to a fixed size, which makes its cost linear. The computation is that of the
paper. Weights are initialised as in the paper's code, except those of linear layers, which are
Glorot uniform, as in the other models here (normal with standard deviation 0.02 there).

Letters: B batch, H x W image size, C channels, h x w grid of the current stage, D width of the
stage, K classes.
"""

import math

import keras
from keras import layers

from keras_vit.layers import ClassificationHead, OverlappingPatchEmbedding, PyramidBlock
from keras_vit.layers.validation import as_pair, check_count
from keras_vit.models.classifier import ImageClassifier, check_class_names
from keras_vit.models.configured import configured
from keras_vit.models.normalization import pixels_to_input
from keras_vit.models.registry import register_family
from keras_vit.models.stages import as_stages, stage_rates


@keras.saving.register_keras_serializable(package="keras_vit")
@configured  # documents the arguments that families share
class PyramidVisionTransformerV2(ImageClassifier):
    """Pyramid Vision Transformer v2 from images (B, H, W, C) to logits (B, num_classes).

    Args:
        num_classes: int, K, or None for features (B, D of the last stage) instead of logits.
        image_size: int or (H, W), in pixels, or None to accept any size at call time. The map of a
            stage has the size of the image divided by 4, 8, 16 or 32, rounded up. It must be at
            least as large as the reduction of the stage, so with the default arguments images must
            have at least 29 x 29 pixels.
        depths: tuple of int, number of transformer blocks of each stage.
        widths: tuple of int, D of each stage.
        num_heads: tuple of int, attention heads of each stage.
        mlp_ratios: tuple of numbers, hidden width of the MLP divided by D, for each stage.
        reductions: tuple of int, reduction ratio of each stage: patches of reduction x reduction
            positions on the map become one key and value.
        pool_size: int, side of the grid that keys and values are averaged to (linear attention), or
            None. If it is given, all `reductions` must be 1.
        patch_sizes: tuple of odd int, side of the overlapping patches of each stage, in positions
            of the map before it.
        strides: tuple of int, stride of the patches of each stage.
        qkv_bias: bool, whether the projections to queries, keys and values have biases.
        norm_epsilon: float, epsilon of the normalisations in the blocks and at the end of each
            stage.
        conv_norm_epsilon: float, epsilon of the normalisations after patch embeddings and
            reductions: 1e-5 in the paper's code and timm, 1e-6 in transformers.
        dropout_rate: float in [0, 1), dropout after the attention and in the MLP.

    Raises:
        ValueError: if images are too small, a rate is outside [0, 1), or the tuples of the stages
            differ in length.

    Example:
        >>> model = keras_vit.PVTv2B2(num_classes=10, image_size=None)
        >>> {name: x.shape for name, x in model.pyramid(images).items()}
        {'stage0': (8, 56, 56, 64), 'stage1': (8, 28, 28, 128), ...}
    """

    def __init__(
        self,
        *,
        num_classes=1000,
        image_size=224,
        depths=(3, 4, 6, 3),
        widths=(64, 128, 320, 512),
        num_heads=(1, 2, 5, 8),
        mlp_ratios=(8, 8, 4, 4),
        reductions=(8, 4, 2, 1),
        pool_size=None,
        patch_sizes=(7, 3, 3, 3),
        strides=(4, 2, 2, 2),
        num_channels=3,
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
        depths, widths, num_heads, mlp_ratios, reductions, patch_sizes, strides = as_stages(
            self._arguments,
            ["depths", "widths", "num_heads", "mlp_ratios", "reductions", "patch_sizes", "strides"],
            fractions=("mlp_ratios",),
        )
        shrunk = [math.prod(strides[: s + 1]) for s in range(len(depths))]  # 4, 8, 16, 32
        # The smallest side for which the map of every stage is as large as its reduction.
        least = max(by * (r - 1) + 1 for by, r in zip(shrunk, reductions, strict=True))
        image_size = _check(self._arguments, least)
        rates = stage_rates(drop_path_rate, depths)

        layer = self.layer
        images = keras.Input((*(image_size or (None, None)), num_channels), name="images")
        x = images  # (B, H, W, C)
        if include_preprocessing:
            x = layer(pixels_to_input, preprocessor, name="preprocessing")(x)

        for s in range(len(depths)):
            stage = f"stage{s}"
            x = layer(
                OverlappingPatchEmbedding,
                widths[s],
                patch_sizes[s],
                strides[s],
                name=f"{stage}_patch_embedding",
            )(x)  # (B, h, w, D)
            x = layer(
                layers.LayerNormalization, epsilon=conv_norm_epsilon, name=f"{stage}_embedding_norm"
            )(x)
            for i in range(depths[s]):
                x = layer(
                    PyramidBlock,
                    num_heads[s],
                    int(widths[s] * mlp_ratios[s]),
                    reductions[s],
                    pool_size,
                    convolutional=True,
                    qkv_bias=qkv_bias,
                    dropout_rate=dropout_rate,
                    attention_dropout_rate=attention_dropout_rate,
                    drop_path_rate=rates[s][i],
                    norm_epsilon=norm_epsilon,
                    reduction_norm_epsilon=conv_norm_epsilon,
                    remat=remat,
                    name=f"{stage}_block{i:02d}",
                )(x)  # (B, h, w, D)
            x = layer(layers.LayerNormalization, epsilon=norm_epsilon, name=f"{stage}_norm")(x)

        x = layer(layers.GlobalAveragePooling2D, "channels_last", name="pool")(x)  # (B, D)
        if num_classes is not None:
            x = layer(ClassificationHead, num_classes, name="head")(x)  # (B, K)

        super().__init__(images, x, name)
        self._least = least

    def check_size(self, shape):
        super().check_size(shape)
        _check_least(shape[1:3], self._least)


def _check(arguments, least):
    """The image size as a pair or None; raises a `ValueError` for arguments no layer checks."""
    check_count(arguments["num_channels"], "num_channels")
    check_class_names(arguments["class_names"], arguments["num_classes"])
    if arguments["pool_size"] is not None and set(arguments["reductions"]) != {1}:
        raise ValueError(
            "With pool_size, which averages keys and values, all reductions must be 1. "
            f"Received: reductions={arguments['reductions']}, pool_size={arguments['pool_size']}"
        )
    if arguments["image_size"] is None:
        return None
    size = as_pair(arguments["image_size"], "image_size")
    _check_least(size, least)
    return size


def _check_least(size, least):
    if any(isinstance(side, int) and side < least for side in size):
        raise ValueError(
            f"Images must have at least {least} x {least} pixels; with fewer, the feature map of a "
            f"stage is smaller than its reduction. Received: image size={tuple(size)}"
        )


PVT_V2 = register_family(
    "pvt_v2",
    "PVTv2",
    PyramidVisionTransformerV2,
    tiny=dict(
        image_size=(24, 16),
        patch_sizes=(7, 3),
        strides=(4, 2),
        depths=(1, 2),
        widths=(8, 16),
        num_heads=(1, 2),
        mlp_ratios=(2, 2),
        reductions=(2, 1),
    ),
    smoke=dict(
        patch_sizes=(3, 3),
        strides=(2, 2),
        depths=(1, 1),
        widths=(16, 32),
        num_heads=(1, 2),
        mlp_ratios=(2, 2),
        reductions=(2, 1),
    ),
)


# fmt: off
@PVT_V2.variant
def PVTv2B0(
    *, widths=(32, 64, 160, 256), depths=(2, 2, 2, 2), mlp_ratios=(8, 8, 4, 4), name="pvt_v2_b0",
    **kwargs,
):
    """PVTv2-B0 (Wang et al. 2022, table 1)."""


@PVT_V2.variant
def PVTv2B1(
    *, widths=(64, 128, 320, 512), depths=(2, 2, 2, 2), mlp_ratios=(8, 8, 4, 4), name="pvt_v2_b1",
    **kwargs,
):
    """PVTv2-B1 (Wang et al. 2022, table 1)."""


@PVT_V2.variant
def PVTv2B2(
    *, widths=(64, 128, 320, 512), depths=(3, 4, 6, 3), mlp_ratios=(8, 8, 4, 4), name="pvt_v2_b2",
    **kwargs,
):
    """PVTv2-B2 (Wang et al. 2022, table 1)."""


@PVT_V2.variant
def PVTv2B3(
    *, widths=(64, 128, 320, 512), depths=(3, 4, 18, 3), mlp_ratios=(8, 8, 4, 4), name="pvt_v2_b3",
    **kwargs,
):
    """PVTv2-B3 (Wang et al. 2022, table 1)."""


@PVT_V2.variant
def PVTv2B4(
    *, widths=(64, 128, 320, 512), depths=(3, 8, 27, 3), mlp_ratios=(8, 8, 4, 4), name="pvt_v2_b4",
    **kwargs,
):
    """PVTv2-B4 (Wang et al. 2022, table 1)."""


@PVT_V2.variant
def PVTv2B5(
    *, widths=(64, 128, 320, 512), depths=(3, 6, 40, 3), mlp_ratios=(4, 4, 4, 4), name="pvt_v2_b5",
    **kwargs,
):
    """PVTv2-B5 (Wang et al. 2022, table 1)."""


@PVT_V2.variant
def PVTv2B2Linear(
    *, widths=(64, 128, 320, 512), depths=(3, 4, 6, 3), reductions=(1, 1, 1, 1), pool_size=7,
    name="pvt_v2_b2_linear", **kwargs,
):
    """PVTv2-B2-Li: linear attention (Wang et al. 2022, section 3.2)."""
