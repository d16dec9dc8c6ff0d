"""The hybrid of Dosovitskiy et al. 2021 (arXiv:2010.11929), section 3.1: a ViT on a CNN's map.

The CNN is the paper's, a BiT ResNet (Kolesnikov et al. 2020, arXiv:1912.11370) with weight
standardisation and group normalisation, or any other Keras model. The computation is that of the
paper; R26 and R stems are those of Steiner et al. 2021 (arXiv:2106.10270). As in the authors' code,
the ResNet normalises after its convolutions; BiT does so before them.

Weights are initialised as in the authors' code, except the class token and the head, which start at
zero there and are normal with standard deviation 0.02 here.

Letters: B batch, H x W image size, C channels, h x w grid of patches, N = h*w, D width, K classes.
"""

import copy

import keras
from keras import layers

from keras_vit.layers import (
    AddPositionEmbedding,
    ClassificationHead,
    ClassToken,
    PatchEmbedding,
    TokenPooling,
    TransformerBlock,
)
from keras_vit.layers.standardized_convolution import CONVENTIONS
from keras_vit.layers.validation import as_pair, check_choice, check_count, check_rate
from keras_vit.models.classifier import ImageClassifier, check_class_names
from keras_vit.models.configured import configured
from keras_vit.models.grids import check_multiple, patch_grids
from keras_vit.models.normalization import pixels_to_input
from keras_vit.models.registry import register_family
from keras_vit.models.stems import bit_resnet, check_stem_names, stem_strides
from keras_vit.models.vit import pre_logits


@keras.saving.register_keras_serializable(package="keras_vit")
@configured  # documents the arguments that families share
class HybridVisionTransformer(ImageClassifier):
    """Vision Transformer on a CNN's feature map, from images (B, H, W, C) to logits (B, K).

    The patches are cut from the map, so `model.patch_size`, in pixels, is `patch_size` times the
    stride of the CNN.

    Args:
        image_size: int or (H, W), in pixels, a multiple of `patch_size` times the stride of the
            CNN; None to accept any such size at call time. The stride of the ResNet is 4, doubled
            by every stage but the first.
        stem: `keras.Model` from images (B, H, W, C) to a feature map (B, h', w', C'), channels
            last, to use as the CNN; it keeps its name and dtype. None for the paper's ResNet.
        stem_depths: tuple of int, number of blocks of each stage of the ResNet. `remat` applies to
            these blocks too.
        stem_width: int, channels after the first convolution of the ResNet; the first stage has 4
            times as many, and every later stage twice as many as the one before.
        stem_groups: int, number of groups in the ResNet's group normalisations; `stem_width` must
            be a multiple of it.
        patch_size: int or (p, q), patch size in positions of the map.
        position_resample: "timm", "hf" or "flax", how position embeddings are resampled to another
            grid (`keras_vit.layers.resample_grid`).
        convention: "authors" or "timm", whose epsilons the ResNet has
            (`keras_vit.layers.BottleneckBlock`).
        representation_size: int, width of a linear layer with tanh before the head, or None for no
            such layer.

    Raises:
        ValueError: if sizes do not divide, a rate is outside [0, 1), a choice is unknown, or the
            stride of `stem` is not a whole number.

    Example:
        >>> model = keras_vit.R50ViTBase16(num_classes=10)
        >>> {name: x.shape for name, x in model.pyramid(images).items()}
        {'stage0': (8, 56, 56, 256), ..., 'tokens': (8, 14, 14, 768)}
        >>> cnn = keras.applications.MobileNetV2(include_top=False, input_shape=(224, 224, 3))
        >>> keras_vit.HybridVisionTransformer(stem=cnn, width=384, num_heads=6, mlp_dim=1536)
    """

    def __init__(
        self,
        *,
        num_classes=1000,
        image_size=224,
        stem=None,
        stem_depths=(3, 4, 9),
        stem_width=64,
        stem_groups=32,
        patch_size=1,
        width=768,
        depth=12,
        num_heads=12,
        mlp_dim=3072,
        num_channels=3,
        position_grid=None,
        position_resample="timm",
        convention="authors",
        mlp="gelu",
        representation_size=None,
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
        if isinstance(stem, dict):
            # A copy, because Keras removes entries from the configuration.
            stem = keras.saving.deserialize_keras_object(copy.deepcopy(stem))
        self._arguments["stem"] = getattr(stem, "name", None)  # `get_config` serialises the layer
        _check(self._arguments)
        stem_depths = self._arguments["stem_depths"] = tuple(stem_depths)
        image_size = None if image_size is None else as_pair(image_size, "image_size")
        strides = stem_strides(stem, stem_depths, image_size, num_channels)
        patch_size = as_pair(patch_size, "patch_size")
        whole = (patch_size[0] * strides[0], patch_size[1] * strides[1])
        of = "patch_size times the stride of the CNN"
        check_multiple(image_size, whole, of, patch_size=patch_size, stride=strides)
        _, _, position_grid = patch_grids(whole, image_size, position_grid)

        layer = self.layer
        images = keras.Input((*(image_size or (None, None)), num_channels), name="images")
        x = images  # (B, H, W, C)
        if include_preprocessing:
            x = layer(pixels_to_input, preprocessor, name="preprocessing")(x)

        if stem is not None:
            x = stem(x)  # (B, h', w', C')
        else:
            x = bit_resnet(layer, x, stem_depths, stem_width, stem_groups, convention, remat)
        x = layer(PatchEmbedding, width, patch_size, name="patch_embedding")(x)  # (B, N, D)
        x = layer(ClassToken, name="class_token")(x)  # (B, 1+N, D)
        x = layer(
            AddPositionEmbedding,
            position_grid,
            whole,
            num_prefix_tokens=1,
            resample=position_resample,
            name="position_embedding",
        )(x, images)
        x = layer(layers.Dropout, dropout_rate, name="dropout")(x)

        for i in range(depth):
            x = layer(
                TransformerBlock,
                num_heads,
                mlp_dim,
                mlp=mlp,
                dropout_rate=dropout_rate,
                attention_dropout_rate=attention_dropout_rate,
                drop_path_rate=drop_path_rate * i / max(depth - 1, 1),
                norm_epsilon=norm_epsilon,
                remat=remat,
                name=f"block{i:02d}",
            )(x)  # (B, 1+N, D)

        x = layer(layers.LayerNormalization, epsilon=norm_epsilon, name="norm")(x)
        x = layer(TokenPooling, "token", name="pool")(x)  # (B, D)
        if representation_size is not None:
            x = layer(pre_logits, representation_size, name="pre_logits")(x)
        if num_classes is not None:
            x = layer(ClassificationHead, num_classes, name="head")(x)  # (B, K)

        super().__init__(images, x, name)
        if stem is not None:
            check_stem_names(self, stem)

    def get_config(self):
        config = super().get_config()
        if config["stem"] is not None:
            config["stem"] = keras.saving.serialize_keras_object(self.get_layer(config["stem"]))
        return config


def _check(arguments):
    """Raises a `ValueError` for arguments that no layer checks."""
    for name in ("depth", "width", "num_heads", "num_channels", "stem_width", "stem_groups"):
        check_count(arguments[name], name)
    if arguments["stem_width"] % arguments["stem_groups"]:
        raise ValueError(
            "stem_width must be a multiple of stem_groups. Received: "
            f"stem_width={arguments['stem_width']}, stem_groups={arguments['stem_groups']}"
        )
    depths = arguments["stem_depths"]
    if not isinstance(depths, (tuple, list)):
        raise ValueError(
            "stem_depths must be a tuple with one number per stage of the ResNet. "
            f"Received: stem_depths={depths!r}"
        )
    for depth in depths:
        check_count(depth, "stem_depths")
    if arguments["representation_size"] is not None:
        check_count(arguments["representation_size"], "representation_size")
    check_choice(arguments["convention"], "convention", CONVENTIONS)
    for name in ("dropout_rate", "drop_path_rate"):
        check_rate(arguments[name], name)
    check_class_names(arguments["class_names"], arguments["num_classes"])


HYBRID = register_family(
    "hybrid",
    "Hybrid",
    HybridVisionTransformer,
    tiny=dict(
        image_size=(24, 16),
        stem_depths=(1, 1),
        stem_width=8,
        stem_groups=4,
        width=16,
        depth=1,
        num_heads=2,
        mlp_dim=32,
    ),
    smoke=dict(
        stem_depths=(1,),
        stem_width=8,
        stem_groups=4,
        patch_size=1,
        width=32,
        depth=2,
        num_heads=2,
        mlp_dim=64,
    ),
)


# fmt: off
@HYBRID.variant
def RViTTiny16(
    *, stem_depths=(), patch_size=8, width=192, depth=12, num_heads=3, mlp_dim=768,
    name="r_vit_tiny16", **kwargs,
):
    """R + ViT-Ti/16 (Steiner et al. 2021, section 3).

    The paper's name assumes a stem of stride 2 and patches of 8; the stride of the stem is 4, so
    patches have 32 x 32 pixels.
    """


@HYBRID.variant
def R26ViTSmall32(
    *, stem_depths=(2, 2, 2, 2), patch_size=1, width=384, depth=12, num_heads=6, mlp_dim=1536,
    name="r26_vit_small32", **kwargs,
):
    """R26 + ViT-S/32 (Steiner et al. 2021, section 3)."""


@HYBRID.variant
def R50ViTBase16(
    *, stem_depths=(3, 4, 9), patch_size=1, width=768, depth=12, num_heads=12, mlp_dim=3072,
    name="r50_vit_base16", **kwargs,
):
    """R50 + ViT-B/16 (Dosovitskiy et al. 2021, section 4.1)."""


@HYBRID.variant
def R50ViTLarge32(
    *, stem_depths=(3, 4, 6, 3), patch_size=1, width=1024, depth=24, num_heads=16, mlp_dim=4096,
    name="r50_vit_large32", **kwargs,
):
    """R50 + ViT-L/32 (Steiner et al. 2021, section 3)."""
