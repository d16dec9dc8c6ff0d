"""The Swin Transformer of Liu et al. 2021 (arXiv:2103.14030) and 2022 (arXiv:2111.09883).

Four stages, each at half the resolution of the one before, with attention in windows: the cost is
linear in the number of pixels, and the maps of the stages are a feature pyramid
(`model.pyramid(images)`).

A map whose size is not a multiple of the window is padded, as in the authors' code for detection. A
window larger than the map of its stage shrinks to the map, as in the authors' code for
classification; this depends on the image size that the model is built for. The authors' code, timm
and torchvision do both in different ways, which `convention` selects.

Weights are initialised as in the authors' code: truncated normal with standard deviation 0.02; the
normalisations on the residual branches of version 2 start at zero.

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
        image_size: int or (H, W), in pixels, a multiple of `patch_size`; None to accept any such
            size at call time. With None, windows never shrink, and maps smaller than a window are
            padded.
        version: 1 or 2. Version 2 has scaled cosine attention, log-spaced continuous position bias,
            and normalisation at the end of the residual branches.
        width: int, D, channels of the first stage; each later stage has twice as many as the one
            before.
        depths: tuple of int, number of blocks of each stage.
        num_heads: tuple of int, attention heads of each stage.
        window_size: int, side of the windows in positions of the map, or a tuple with one per
            stage.
        pretrained_window_size: int or tuple of int, one per stage, for version 2: window size by
            which the relative positions are normalised. By default, and for 0, the window size in
            use.
        mlp_ratio: float, hidden width of the MLP divided by the channels of the block.
        convention: "authors" (transformers too), "timm" or "torchvision", whose rules apply to maps
            whose size is not a multiple of the window. "authors": maps are padded, then shifted; a
            window shrinks to the shorter side of the map, and is then not shifted; bias tables are
            resampled with bicubic interpolation. "timm": maps are shifted, then padded; each side
            of a window shrinks, and stops shifting, independently of the other; bias tables are
            resampled with linear interpolation at geometrically spaced positions. "torchvision":
            maps are padded, then shifted; windows never shrink; each side stops shifting
            independently of the other.
        qkv_bias: bool, whether the projection to queries, keys and values has a bias.
        dropout_rate: float in [0, 1), dropout after the patch embedding, after the attention and in
            the MLP.

    Raises:
        ValueError: if sizes do not divide, a rate is outside [0, 1) or a choice is unknown.

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
    """Converts an int, a tuple with one int per stage, or None (for 0) to a tuple.

    Args:
        value: int, tuple of int, or None.
        stages: int, number of stages.
        name: str, name of the argument, for the error message.

    Raises:
        ValueError: for another length or other values.
    """
    values = (value or 0,) * stages if value is None or isinstance(value, int) else value
    if not isinstance(values, (tuple, list)) or len(values) != stages:
        raise ValueError(
            f"{name} must be an integer, or a tuple with one for each stage. "
            f"Received: {name}={value!r}, {stages} stages"
        )
    for number in values:
        check_count(number, name, minimum=0 if name == "pretrained_window_size" else 1)
    return tuple(values)


def stage_windows(arguments):
    """The window size of each stage, shrunk where the stage's map is smaller.

    Args:
        arguments: dict of the arguments of `SwinTransformer`.

    Returns:
        list of (a, b), one per stage, in positions of the map.
    """
    depths, image_size = arguments["depths"], arguments["image_size"]
    asked = per_stage(arguments["window_size"], len(depths), "window_size")
    if image_size is None or arguments["convention"] == "torchvision":
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
    """Raises a `ValueError` for arguments that no layer checks."""
    for name in ("width", "num_channels"):
        check_count(arguments[name], name)
    depths, heads = arguments["depths"], arguments["num_heads"]
    for name, value in (("depths", depths), ("num_heads", heads)):
        if not isinstance(value, (tuple, list)) or not value:
            raise ValueError(
                f"{name} must be a tuple with one number per stage. Received: {name}={value}"
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
        raise ValueError(
            f"mlp_ratio must be a finite number above 0. Received: mlp_ratio={ratio!r}"
        )
    check_class_names(arguments["class_names"], arguments["num_classes"])
    patch_size = as_pair(arguments["patch_size"], "patch_size")
    check_multiple(arguments["image_size"], patch_size, "patch_size", patch_size=patch_size)
    if arguments["pretrained_window_size"] is not None and arguments["version"] == 1:
        raise ValueError(
            "pretrained_window_size applies to version 2 only; leave it out. Received: "
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
