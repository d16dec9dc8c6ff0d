"""The Swin Transformer of Liu et al. 2021 (arXiv:2103.14030) and 2022 (arXiv:2111.09883).

Four stages, each at half the resolution of the one before, with attention in windows: the cost is
linear in the number of pixels, and the stages are a feature pyramid (`model.pyramid(images)`).

Maps that windows do not divide are padded, as in the authors' code for detection. Where a stage's
map is smaller than the window, the window shrinks to it, as in the authors' code for
classification; so the image size that a model is built for decides. Two `convention`s differ in
how.

Initial weights are those of the authors' code: truncated normal of 0.02; norms of version 2 start
at zero.

Letters: B batch, H x W image size, C channels, h x w map of the first stage, D its width,
K classes.
"""

import math

import keras
from keras import layers

from keras_vit.layers import (
    ClassificationHead,
    PatchEmbedding,
    PatchMerging,
    SwinBlock,
    TokensToGrid,
)
from keras_vit.layers.position_bias import CONVENTIONS
from keras_vit.layers.validation import as_pair, check_choice, check_count, check_rate
from keras_vit.models.classifier import ImageClassifier, check_class_names
from keras_vit.models.configured import configured
from keras_vit.models.grids import check_multiple
from keras_vit.models.normalization import pixels_to_input
from keras_vit.models.registry import register_family


@keras.saving.register_keras_serializable(package="keras_vit")
@configured  # documents the arguments that families share
class SwinTransformer(ImageClassifier):
    """Swin Transformer from images (B, H, W, C) to logits (B, num_classes).

    Args:
        num_classes: int, K, or None for features (B, 8 x width with four stages).
        image_size: int, (H, W), multiples of the patch size, or None for any of them at call time;
            windows then never shrink, and maps smaller than one are padded.
        version: 1, or 2: scaled cosine attention, log-spaced continuous position bias, and
            normalisation of the residual branches' results.
        patch_size: int or (p, q), size of a patch in pixels.
        width: int, D, channels of the first stage; they double from stage to stage.
        depths: tuple of int, blocks of each stage.
        num_heads: tuple of int, attention heads of each stage's blocks.
        window_size: int, side of the windows in places of the map, or a tuple, one a stage.
        pretrained_window_size: int or a tuple, one a stage, of version 2: the windows by which
            offsets are normalised, by default (and for 0) those in use.
        mlp_ratio: float, hidden width of a block's MLP over its channels.
        convention: whose rules hold for maps that windows do not divide, "authors" (transformers
            too) or "timm". "authors": maps are padded, then shifted; windows shrink to the shorter
            side, then nothing shifts; bias tables are resampled bicubically. "timm": maps are
            shifted, then padded; each side shrinks and stops shifting for itself; bias tables are
            resampled linearly in geometric steps.
        qkv_bias: whether the projection to queries, keys and values has a bias.
        dropout_rate: float in [0, 1), dropout after the patch embedding, the attention and in the
            MLP.

    Raises:
        ValueError: for sizes that do not divide, rates outside [0, 1), unknown choices.

    Example:
        >>> model = keras_vit.SwinTiny(num_classes=10)
        >>> model.pyramid(images)["stage2"].shape
        (8, 14, 14, 384)
    """

    def __init__(
        self,
        *,
        num_classes=1000,
        image_size=224,
        version=1,
        patch_size=4,
        width=96,
        depths=(2, 2, 6, 2),
        num_heads=(3, 6, 12, 24),
        window_size=7,
        pretrained_window_size=None,
        mlp_ratio=4.0,
        num_channels=3,
        convention="authors",
        mlp="gelu",
        qkv_bias=True,
        norm_epsilon=1e-5,
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
        patch_size = as_pair(patch_size, "patch_size")
        image_size = None if image_size is None else as_pair(image_size, "image_size")
        windows = stage_windows(self._arguments)
        pretrained = per_stage(pretrained_window_size, len(depths), "pretrained_window_size")

        layer = self.layer
        images = keras.Input((*(image_size or (None, None)), num_channels), name="images")
        x = images  # (B, H, W, C)
        if include_preprocessing:
            x = layer(pixels_to_input, preprocessor, name="preprocessing")(x)
        x = layer(PatchEmbedding, width, patch_size, name="patch_embedding")(x)  # (B, h*w, D)
        x = layer(layers.LayerNormalization, epsilon=norm_epsilon, name="patch_norm")(x)
        x = layer(layers.Dropout, dropout_rate, name="dropout")(x)
        x = layer(TokensToGrid, patch_size, name="grid")(x, images)  # (B, h, w, D)

        before = 0  # blocks so far
        for s, depth in enumerate(depths):
            if s > 0:
                merging = layer(PatchMerging, version, norm_epsilon, name=f"stage{s}_merging")
                x = merging(x)  # (B, ⌈h/2⌉, ⌈w/2⌉, 2D)
            for i in range(depth):
                x = layer(
                    SwinBlock,
                    num_heads[s],
                    mlp_dim=int(mlp_ratio * x.shape[-1]),
                    window_size=windows[s],
                    shifted=i % 2 == 1,
                    version=version,
                    pretrained_window_size=pretrained[s] or None,
                    convention=convention,
                    mlp=mlp,
                    qkv_bias=qkv_bias,
                    dropout_rate=dropout_rate,
                    attention_dropout_rate=attention_dropout_rate,
                    drop_path_rate=drop_path_rate * (before + i) / max(sum(depths) - 1, 1),
                    norm_epsilon=norm_epsilon,
                    remat=remat,
                    name=f"stage{s}_block{i:02d}",
                )(x)  # (B, h, w, D) of the stage
            before += depth

        x = layer(layers.LayerNormalization, epsilon=norm_epsilon, name="norm")(
            x
        )  # (B, h/8, w/8, 8D)
        x = layer(layers.GlobalAveragePooling2D, "channels_last", name="pool")(x)  # (B, 8D)
        if num_classes is not None:
            x = layer(ClassificationHead, num_classes, name="head")(x)  # (B, K)

        super().__init__(images, x, name)


def per_stage(value, stages, name):
    """One number for every stage, given as one for all, as a tuple, or None for 0."""
    values = (value or 0,) * stages if value is None or isinstance(value, int) else value
    if not isinstance(values, (tuple, list)) or len(values) != stages:
        raise ValueError(
            f"{name} must be an integer or one for each stage. "
            f"Received: {name}={value!r}, {stages} stages"
        )
    for number in values:
        check_count(number, name, minimum=0 if name == "pretrained_window_size" else 1)
    return tuple(values)


def stage_windows(arguments):
    """The windows (a, b) of each stage: those asked for, shrunk to the maps where they are smaller.

    Args:
        arguments: dict, those of `SwinTransformer`.
    """
    depths, image_size = arguments["depths"], arguments["image_size"]
    asked = per_stage(arguments["window_size"], len(depths), "window_size")
    if image_size is None:
        return [(window, window) for window in asked]
    patch = as_pair(arguments["patch_size"], "patch_size")
    sides = zip(as_pair(image_size, "image_size"), patch, strict=True)
    h, w = (side // p for side, p in sides)
    windows = []
    for window in asked:
        a, b = min(window, h), min(window, w)
        windows.append((a, b) if arguments["convention"] == "timm" else (min(a, b),) * 2)
        h, w = (h + 1) // 2, (w + 1) // 2
    return windows


def _check(arguments):
    """Raises for what only the model as a whole can judge; the layers check the rest."""
    for name in ("width", "num_channels"):
        check_count(arguments[name], name)
    depths, heads = arguments["depths"], arguments["num_heads"]
    for name, value in (("depths", depths), ("num_heads", heads)):
        if not isinstance(value, (tuple, list)) or not value:
            raise ValueError(
                f"{name} must be a tuple, one number a stage. Received: {name}={value}"
            )
        for number in value:
            check_count(number, name)
    if len(depths) != len(heads):
        raise ValueError(
            "depths and num_heads must have one number for each stage. "
            f"Received: depths={depths}, num_heads={heads}"
        )
    check_choice(arguments["version"], "version", (1, 2))
    check_choice(arguments["convention"], "convention", CONVENTIONS)
    for name in ("dropout_rate", "drop_path_rate"):
        check_rate(arguments[name], name)
    ratio = arguments["mlp_ratio"]
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 < ratio < math.inf:
        raise ValueError(f"mlp_ratio must be a number above 0. Received: mlp_ratio={ratio!r}")
    check_class_names(arguments["class_names"], arguments["num_classes"])
    patch_size = as_pair(arguments["patch_size"], "patch_size")
    check_multiple(arguments["image_size"], patch_size, "patch_size", patch_size=patch_size)
    if arguments["pretrained_window_size"] is not None and arguments["version"] == 1:
        raise ValueError(
            "pretrained_window_size belongs to version 2. Received: "
            f"pretrained_window_size={arguments['pretrained_window_size']}, version=1"
        )


SWIN = register_family(
    "swin",
    "Swin",
    SwinTransformer,
    tiny=dict(
        image_size=32, width=8, depths=(2, 2), num_heads=(2, 4), window_size=4, mlp_ratio=2.0
    ),
    smoke=dict(width=16, depths=(1, 1), num_heads=(1, 2), patch_size=2, window_size=2),
)


# fmt: off
@SWIN.variant
def SwinTiny(
    *, width=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), name="swin_tiny", **kwargs
):
    """Swin-T (Liu et al. 2021, section 3.3)."""


@SWIN.variant
def SwinSmall(
    *, width=96, depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24), name="swin_small", **kwargs
):
    """Swin-S (Liu et al. 2021, section 3.3)."""


@SWIN.variant
def SwinBase(
    *, width=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32), name="swin_base", **kwargs
):
    """Swin-B (Liu et al. 2021, section 3.3)."""


@SWIN.variant
def SwinLarge(
    *, width=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48), name="swin_large", **kwargs
):
    """Swin-L (Liu et al. 2021, section 3.3)."""


@SWIN.variant
def SwinV2Tiny(
    *, version=2, image_size=256, window_size=8, width=96, depths=(2, 2, 6, 2),
    num_heads=(3, 6, 12, 24), name="swin_v2_tiny", **kwargs,
):
    """SwinV2-T (Liu et al. 2022, section 4.1)."""


@SWIN.variant
def SwinV2Small(
    *, version=2, image_size=256, window_size=8, width=96, depths=(2, 2, 18, 2),
    num_heads=(3, 6, 12, 24), name="swin_v2_small", **kwargs,
):
    """SwinV2-S (Liu et al. 2022, section 4.1)."""


@SWIN.variant
def SwinV2Base(
    *, version=2, image_size=256, window_size=8, width=128, depths=(2, 2, 18, 2),
    num_heads=(4, 8, 16, 32), name="swin_v2_base", **kwargs,
):
    """SwinV2-B (Liu et al. 2022, section 4.1)."""
