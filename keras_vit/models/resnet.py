"""ResNet (He et al. 2016, arXiv:1512.03385), as torchvision, timm and transformers have it.

A network of convolutions without attention: the backbone of detectors such as DETR. Stages have the
stride in their 3 x 3 convolutions ("v1.5", Goyal et al. 2017, arXiv:1706.02677). Convolutions are
initialised as in torchvision (He normal by fan-out); the last normalisation of a block starts at
zero, as in Goyal et al. and timm.

Letters: B batch, H x W image size, C channels, h x w map of the current stage, D channels of the
stage, K classes.
"""

import keras
from keras import layers

from keras_vit.layers import ClassificationHead, ResNetBlock, ResNetStem
from keras_vit.layers.validation import as_pair, check_choice, check_count, check_rate
from keras_vit.models.classifier import ImageClassifier, check_class_names
from keras_vit.models.configured import configured
from keras_vit.models.normalization import pixels_to_input
from keras_vit.models.registry import register_family
from keras_vit.models.stages import as_stages, stage_rates

BLOCKS = ("bottleneck", "basic")


@keras.saving.register_keras_serializable(package="keras_vit")
@configured  # documents the arguments that families share
class ResNet(ImageClassifier):
    """ResNet from images (B, H, W, C) to logits (B, num_classes).

    Args:
        num_classes: int, K, or None for features (B, D of the last stage) instead of logits.
        image_size: int or (H, W), in pixels, or None to accept any size at call time. The map of
            the first stage has the size of the image divided by 4, rounded up, and every later
            stage halves it.
        depths: tuple of int, number of blocks of each stage.
        widths: tuple of int, D, output channels of each stage; multiples of 4 for bottleneck
            blocks, whose 3 x 3 convolutions have a quarter of them.
        stem_width: int, channels after the first convolution.
        block: "bottleneck" (ResNet-50 and deeper) or "basic" (ResNet-18 and 34).
        dilation: bool. If True, the last stage keeps the resolution of the one before and dilates
            its 3 x 3 convolutions ("DC5" in DETR). The weights are the same.
        batch_norm: "learning", or "frozen" for batch normalisations that are fixed: neither scale
            and offset nor statistics change in training, whatever `trainable` says. Detectors
            train pre-trained backbones so.
        dropout_rate: float in [0, 1), dropout before the head.
        remat: bool, whether training recomputes every block in the backward pass (gradient
            checkpointing). This saves memory and costs about a third more computation.
        frozen_layers: list of paths of layers or weights that are not trained, such as "stem" or
            "stage0_block00". `get_config` lists what `trainable` says when it is called, so a
            loaded model has the same layers frozen.

    Raises:
        ValueError: if a choice is unknown, a rate is outside [0, 1), widths are no multiples of 4,
            or the tuples of the stages differ in length.

    Example:
        >>> model = keras_vit.ResNet50(num_classes=10)
        >>> {name: x.shape for name, x in model.pyramid(images).items()}
        {'stage0': (8, 56, 56, 256), 'stage1': (8, 28, 28, 512), ...}
    """

    def __init__(
        self,
        *,
        num_classes=1000,
        image_size=224,
        depths=(3, 4, 6, 3),
        widths=(256, 512, 1024, 2048),
        stem_width=64,
        block="bottleneck",
        dilation=False,
        num_channels=3,
        batch_norm="learning",
        dropout_rate=0.0,
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
        depths, widths = as_stages(self._arguments, ["depths", "widths"])
        image_size = _check(self._arguments)
        rates = stage_rates(drop_path_rate, depths)
        last = len(depths) - 1

        layer = self.layer
        images = keras.Input((*(image_size or (None, None)), num_channels), name="images")
        x = images  # (B, H, W, C)
        if include_preprocessing:
            x = layer(pixels_to_input, preprocessor, name="preprocessing")(x)

        x = layer(ResNetStem, stem_width, batch_norm, name="stem")(x)  # (B, H/4, W/4, D)
        for s in range(len(depths)):
            dilated = dilation and s == last
            for i in range(depths[s]):
                x = layer(
                    ResNetBlock,
                    widths[s],
                    strides=2 if s > 0 and i == 0 and not dilated else 1,
                    # As in torchvision and timm, the dilation begins behind the convolution that
                    # has the stride otherwise.
                    dilation=2 if dilated and i > 0 else 1,
                    second_dilation=2 if dilated else 1,
                    bottleneck=block == "bottleneck",
                    batch_norm=batch_norm,
                    drop_path_rate=rates[s][i],
                    remat=remat,
                    name=f"stage{s}_block{i:02d}",
                )(x)  # (B, h, w, D)

        x = layer(layers.GlobalAveragePooling2D, "channels_last", name="pool")(x)  # (B, D)
        x = layer(layers.Dropout, dropout_rate, name="dropout")(x)
        if num_classes is not None:
            x = layer(ClassificationHead, num_classes, name="head")(x)  # (B, K)

        super().__init__(images, x, name)


def _check(arguments):
    """The image size as a pair or None; raises a `ValueError` for arguments no layer checks."""
    for name in ("num_channels", "stem_width"):
        check_count(arguments[name], name)
    check_choice(arguments["block"], "block", BLOCKS)
    check_choice(arguments["dilation"], "dilation", (False, True))
    check_rate(arguments["dropout_rate"], "dropout_rate")
    check_class_names(arguments["class_names"], arguments["num_classes"])
    size = arguments["image_size"]
    return None if size is None else as_pair(size, "image_size")


RESNET = register_family(
    "resnet",
    "ResNet",
    ResNet,
    tiny=dict(image_size=(24, 16), depths=(1, 2), widths=(16, 24), stem_width=8),
    smoke=dict(depths=(1, 1), widths=(16, 32), stem_width=8),
)


# fmt: off
@RESNET.variant
def ResNet18(
    *, depths=(2, 2, 2, 2), widths=(64, 128, 256, 512), block="basic", name="resnet18", **kwargs,
):
    """ResNet-18 (He et al. 2016, table 1)."""


@RESNET.variant
def ResNet34(
    *, depths=(3, 4, 6, 3), widths=(64, 128, 256, 512), block="basic", name="resnet34", **kwargs,
):
    """ResNet-34 (He et al. 2016, table 1)."""


@RESNET.variant
def ResNet50(
    *, depths=(3, 4, 6, 3), widths=(256, 512, 1024, 2048), block="bottleneck", name="resnet50",
    **kwargs,
):
    """ResNet-50 (He et al. 2016, table 1), v1.5."""


@RESNET.variant
def ResNet101(
    *, depths=(3, 4, 23, 3), widths=(256, 512, 1024, 2048), block="bottleneck", name="resnet101",
    **kwargs,
):
    """ResNet-101 (He et al. 2016, table 1), v1.5."""
