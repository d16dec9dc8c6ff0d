"""The Vision Transformer of Dosovitskiy et al. 2021 (arXiv:2010.11929).

Differences from the paper, each an argument: a distillation token with a head of its own (DeiT),
registers (Darcet et al. 2024), LayerScale and drop path (DeiT III), query-key normalisation
(ViT-22B), GAP and MAP pooling (Zhai et al. 2022), sin-cos positions (Beyer et al. 2022), a norm
before the blocks (CLIP) or after the pooling (MAE). The head has one linear layer, as in
fine-tuning; `representation_size` adds that of pre-training.

Initial weights are those of the paper's code (google-research/vision_transformer): Glorot uniform
matrices, Lecun normal patch embedding, normal positions of 0.02; but class token and head, zeros
there, are normal of 0.02 too.

Letters: B batch, H x W image size, C channels, h x w grid of patches, N = h*w, P prefix tokens
(class token, distillation token, registers R), D width, K classes.
"""

import keras
from keras import layers

from keras_vit.layers import (
    AddPositionEmbedding,
    AttentionPooling,
    ClassificationHead,
    ClassToken,
    PatchEmbedding,
    TokenPooling,
    TransformerBlock,
)
from keras_vit.layers.initializers import Initial
from keras_vit.layers.validation import check_choice, check_count, check_rate
from keras_vit.models.classifier import ImageClassifier, check_class_names
from keras_vit.models.configured import configured
from keras_vit.models.grids import patch_grids
from keras_vit.models.normalization import pixels_to_input
from keras_vit.models.registry import register_family


@keras.saving.register_keras_serializable(package="keras_vit")
@configured  # documents the arguments that families share
class VisionTransformer(ImageClassifier):
    """Vision Transformer from images (B, H, W, C) to logits (B, num_classes).

    Args:
        image_size: int, (H, W), or None for any multiple of the patch size at call time.
        patch_size: int or (p, q), size of a patch in pixels.
        width: int, D, width of the tokens.
        depth: int, number of transformer blocks.
        num_heads: int, attention heads of a block; `width` must be a multiple of it.
        mlp_dim: int, hidden width of a block's MLP.
        pooling: "token" (the class token), "gap" (mean of the patches, prefix tokens left out),
            "token_gap" (both, side by side: 2 x width) or "map" (attention pooling).
        class_token: bool; by default there is one where `pooling` is "token".
        distillation_token: bool, whether DeiT's distillation token follows the class token.
        distillation_head: bool, whether a second head reads the distillation token, and the output
            is the mean of both heads (of both tokens where `num_classes` is None); by default where
            there is the token. `distillation_model()` gives both.
        num_registers: int, learned tokens without a meaning of their own.
        position_embedding: "learned" (for patches and prefix tokens), "learned_patches" (prefix
            tokens have none), "sincos" (fixed, for patches) or None.
        position_grid: int or (h, w), the grid that learned embeddings are kept for; by default that
            of `image_size`, or of 224 pixels where `image_size` is None.
        position_resample: "timm", "hf", "flax" or "dinov2", the arithmetic by which learned
            embeddings are resampled to another grid (`keras_vit.layers.resample_grid`).
        patch_bias: whether the projection of the patches has a bias.
        drop_remainder: whether images may be no multiple of the patch size; pixels at the bottom
            and on the right that fill no patch are then left out, as a convolution leaves them.
        qkv_bias: whether the projection to queries, keys and values has a bias.
        qk_norm: whether queries and keys are normalised.
        layer_scale: float, where the factors of the residual branches start, or None for none.
        pre_norm: whether there is a layer normalisation before the first block (CLIP).
        fc_norm: whether the last layer normalisation comes after the pooling (MAE, fine-tuned)
            instead of before it.
        representation_size: int, width of a linear layer with tanh before the head (the
            "pre-logits" of the original ImageNet-21k models), or None for none.
        dropout_rate: float in [0, 1), dropout after the position embedding, the attention and in
            the MLP.

    Raises:
        ValueError: for sizes that do not divide, rates outside [0, 1), unknown choices.

    Example:
        >>> model = keras_vit.ViTBase(num_classes=10, image_size=384)
        >>> model.predict(images).shape
        (8, 10)
    """

    def __init__(
        self,
        *,
        num_classes=1000,
        image_size=224,
        patch_size=16,
        width=768,
        depth=12,
        num_heads=12,
        mlp_dim=3072,
        num_channels=3,
        pooling="token",
        class_token=None,
        distillation_token=False,
        distillation_head=None,
        num_registers=0,
        position_embedding="learned",
        position_grid=None,
        position_resample="timm",
        mlp="gelu",
        patch_bias=True,
        drop_remainder=False,
        qkv_bias=True,
        qk_norm=False,
        layer_scale=None,
        pre_norm=False,
        fc_norm=False,
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
        patch_size, image_size, position_grid = patch_grids(
            patch_size, image_size, position_grid, drop_remainder
        )
        class_token = pooling in ("token", "token_gap") if class_token is None else class_token
        if distillation_head is None:
            distillation_head = distillation_token
        _check(self._arguments, class_token, distillation_head)
        prefix = int(class_token) + int(distillation_token) + num_registers
        norm = {"epsilon": norm_epsilon, "dtype": dtype}

        images = keras.Input((*(image_size or (None, None)), num_channels), name="images")
        x = images  # (B, H, W, C)
        if include_preprocessing:
            x = pixels_to_input(preprocessor, name="preprocessing", dtype=dtype)(x)

        x = PatchEmbedding(
            width,
            patch_size,
            use_bias=patch_bias,
            drop_remainder=drop_remainder,
            name="patch_embedding",
            dtype=dtype,
        )(x)  # (B, N, D)
        if num_registers:
            x = ClassToken(num_registers, name="registers", dtype=dtype)(x)  # (B, R+N, D)
        if distillation_token:
            x = ClassToken(1, name="distillation_token", dtype=dtype)(x)  # (B, 1+R+N, D)
        if class_token:
            x = ClassToken(1, name="class_token", dtype=dtype)(x)  # (B, P+N, D)
        if position_embedding is not None:
            x = AddPositionEmbedding(
                position_grid,
                patch_size,
                kind="sincos" if position_embedding == "sincos" else "learned",
                num_prefix_tokens=prefix,
                prefix_positions=position_embedding == "learned",
                resample=position_resample,
                name="position_embedding",
                dtype=dtype,
            )(x, images)  # (B, P+N, D)
        x = layers.Dropout(dropout_rate, name="dropout", dtype=dtype)(x)
        if pre_norm:
            x = layers.LayerNormalization(name="pre_norm", **norm)(x)

        for i in range(depth):
            x = TransformerBlock(
                num_heads,
                mlp_dim,
                mlp=mlp,
                qkv_bias=qkv_bias,
                qk_norm=qk_norm,
                layer_scale=layer_scale,
                dropout_rate=dropout_rate,
                attention_dropout_rate=attention_dropout_rate,
                drop_path_rate=drop_path_rate * i / max(depth - 1, 1),
                norm_epsilon=norm_epsilon,
                remat=remat,
                name=f"block{i:02d}",
                dtype=dtype,
            )(x)  # (B, P+N, D)

        if not fc_norm:
            x = layers.LayerNormalization(name="norm", **norm)(x)
        tokens = x
        if pooling == "map":
            x = AttentionPooling(num_heads, mlp_dim, mlp, norm_epsilon, name="pool", dtype=dtype)(x)
        else:
            x = TokenPooling(pooling, prefix, name="pool", dtype=dtype)(x)  # (B, D)
        if fc_norm:
            x = layers.LayerNormalization(name="fc_norm", **norm)(x)
        if representation_size is not None:
            x = layers.Dense(
                representation_size,
                "tanh",
                kernel_initializer=Initial("glorot_uniform"),
                name="pre_logits",
                dtype=dtype,
            )(x)
        if num_classes is not None:
            x = ClassificationHead(num_classes, name="head", dtype=dtype)(x)  # (B, K)
        if distillation_head:
            y = TokenPooling("token", prefix, token_index=1, name="distillation_pool", dtype=dtype)(
                tokens
            )  # (B, D)
            if num_classes is not None:
                y = ClassificationHead(num_classes, name="distillation_head", dtype=dtype)(y)
            # In float32 under mixed precision, as the heads are.
            x = layers.Average(name="average", dtype=dtype.variable_dtype)([x, y])  # (B, K)

        super().__init__(images, x, name)

    def distillation_model(self):
        """A model of both heads, for training; it shares this model's weights.

        Returns:
            `keras.Model` from images (B, H, W, C) to {"class": (B, K), "distillation": (B, K)}.

        Raises:
            ValueError: for a model without distillation head.
        """
        names = [layer.name for layer in self.layers]
        if "distillation_head" not in names:
            raise ValueError(
                "Two heads need VisionTransformer(distillation_token=True, num_classes=...), such "
                f"as keras_vit.DeiTSmall. Received: {self.name} with the last layers {names[-3:]}"
            )
        heads = {"class": "head", "distillation": "distillation_head"}
        outputs = {key: self.get_layer(name).output for key, name in heads.items()}
        return keras.Model(self.input, outputs, name=f"{self.name}_distillation")


def _check(arguments, class_token, distillation_head):
    """Raises for what only the model as a whole can judge; the layers check the rest."""
    for name in ("depth", "width", "num_heads", "num_channels"):
        check_count(arguments[name], name)
    check_count(arguments["num_registers"], "num_registers", minimum=0)
    for name in ("dropout_rate", "drop_path_rate"):
        check_rate(arguments[name], name)
    check_choice(arguments["class_token"], "class_token", (None, True, False))
    check_choice(arguments["distillation_token"], "distillation_token", (True, False))
    check_choice(arguments["pooling"], "pooling", ("token", "gap", "token_gap", "map"))
    if arguments["representation_size"] is not None:
        check_count(arguments["representation_size"], "representation_size")
    kinds = ("learned", "learned_patches", "sincos", None)
    check_choice(arguments["position_embedding"], "position_embedding", kinds)
    if arguments["pooling"] in ("token", "token_gap") and not class_token:
        raise ValueError(
            f"pooling={arguments['pooling']!r} reads the class token; use pooling='gap' or 'map' "
            f"without one. Received: pooling={arguments['pooling']!r}, class_token=False"
        )
    if distillation_head:
        wanted = {"distillation_token": True, "pooling": "token", "fc_norm": False}
        for name, value in {**wanted, "representation_size": None}.items():
            if arguments[name] != value:
                raise ValueError(
                    f"A distillation head needs {name}={value!r}; use distillation_head=False. "
                    f"Received: {name}={arguments[name]!r}"
                )
    check_class_names(arguments["class_names"], arguments["num_classes"])
    if arguments["position_grid"] is not None and arguments["position_embedding"] in (
        "sincos",
        None,
    ):
        raise ValueError(
            "position_grid is the grid of learned position embeddings. Received: position_grid="
            f"{arguments['position_grid']}, position_embedding={arguments['position_embedding']!r}"
        )


VIT = register_family(
    "vit",
    "ViT",
    VisionTransformer,
    tiny=dict(image_size=(24, 16), patch_size=8, width=16, depth=2, num_heads=2, mlp_dim=32),
    smoke=dict(patch_size=2, width=32, depth=2, num_heads=2, mlp_dim=64),
)


@VIT.variant
def ViTTiny(
    *, patch_size=16, width=192, depth=12, num_heads=3, mlp_dim=768, name="vit_tiny", **kwargs
):
    """ViT-Ti/16 (Touvron et al. 2021, table 1)."""


@VIT.variant
def ViTSmall(
    *, patch_size=16, width=384, depth=12, num_heads=6, mlp_dim=1536, name="vit_small", **kwargs
):
    """ViT-S/16 (Touvron et al. 2021, table 1)."""


@VIT.variant
def ViTBase(
    *, patch_size=16, width=768, depth=12, num_heads=12, mlp_dim=3072, name="vit_base", **kwargs
):
    """ViT-B/16 (Dosovitskiy et al. 2021, table 1)."""


@VIT.variant
def ViTLarge(
    *, patch_size=16, width=1024, depth=24, num_heads=16, mlp_dim=4096, name="vit_large", **kwargs
):
    """ViT-L/16 (Dosovitskiy et al. 2021, table 1)."""


@VIT.variant
def ViTHuge(
    *, patch_size=14, width=1280, depth=32, num_heads=16, mlp_dim=5120, name="vit_huge", **kwargs
):
    """ViT-H/14 (Dosovitskiy et al. 2021, table 1)."""


@VIT.variant
def ViTGiant(
    *, patch_size=14, width=1408, depth=40, num_heads=16, mlp_dim=6144, name="vit_giant", **kwargs
):
    """ViT-g/14 (Zhai et al. 2022, table 2)."""


@VIT.variant
def ViTGigantic(
    *,
    patch_size=14,
    width=1664,
    depth=48,
    num_heads=16,
    mlp_dim=8192,
    name="vit_gigantic",
    **kwargs,
):
    """ViT-G/14 (Zhai et al. 2022, table 2)."""


@VIT.variant
def ViTSo400m(
    *,
    patch_size=14,
    width=1152,
    depth=27,
    num_heads=16,
    mlp_dim=4304,
    pooling="map",
    name="vit_so400m",
    **kwargs,
):
    """SoViT-400m/14 (Alabdulmohsin et al. 2023, section 5), with attention pooling."""
