"""The Vision Transformer of Dosovitskiy et al. 2021 (arXiv:2010.11929).

Extensions of the paper, each an argument: a distillation token with a head of its own (DeiT),
registers (Darcet et al. 2024), LayerScale and drop path (DeiT III), query-key normalisation
(ViT-22B), GAP and MAP pooling (Zhai et al. 2022), sin-cos positions (Beyer et al. 2022), a layer
normalisation before the blocks (CLIP) or after the pooling (MAE). The head is one linear layer, as
in fine-tuning; `representation_size` adds the hidden layer of pre-training.

Weights are initialised as in the paper's code (google-research/vision_transformer): Glorot uniform
for matrices, LeCun normal for the patch embedding, normal with standard deviation 0.02 for
positions. The class token and the head, which start at zero there, are normal with 0.02 too.

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
        pooling: "token" (the class token), "gap" (mean of the patch tokens, without prefix tokens),
            "token_gap" (both, concatenated: 2 x width) or "map" (attention pooling).
        class_token: bool, whether there is a class token; by default only if `pooling` is "token"
            or "token_gap".
        distillation_token: bool, whether DeiT's distillation token follows the class token.
        distillation_head: bool, whether a second head reads the distillation token; the output is
            then the mean of both heads, or of both tokens if `num_classes` is None. By default as
            `distillation_token`. `distillation_model()` returns the two heads separately.
        num_registers: int, number of register tokens.
        position_embedding: "learned" (for patches and prefix tokens), "learned_patches" (for
            patches only), "sincos" (fixed, for patches only) or None.
        position_resample: "timm", "hf", "flax", "dinov2" or "torchvision", how learned position
            embeddings are resampled to another grid (`keras_vit.layers.resample_grid`).
        patch_bias: bool, whether the patch projection has a bias.
        drop_remainder: bool, whether the image size may be other than a multiple of `patch_size`;
            pixels at the bottom and right that fill no patch are then dropped.
        qkv_bias: bool, whether the projection to queries, keys and values has a bias.
        qk_norm: bool, whether queries and keys are normalised.
        layer_scale: float, initial value of LayerScale, or None for no LayerScale.
        pre_norm: bool, whether there is a layer normalisation before the first block (CLIP).
        fc_norm: bool, whether the last layer normalisation comes after the pooling (fine-tuned
            MAE) instead of before it.
        representation_size: int, width of a linear layer with tanh before the head (the
            "pre-logits" of the original ImageNet-21k models), or None for no such layer.

    Raises:
        ValueError: if sizes do not divide, a rate is outside [0, 1) or a choice is unknown.

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
        a = self._given
        _check(self._arguments, "class_token" in _prefix_tokens(a), _has_two_heads(a))
        _, size, _ = patch_grids(patch_size, image_size, position_grid, drop_remainder)
        images = keras.Input((*(size or (None, None)), num_channels), name="images")
        super().__init__(images, self.read_out(self.encode(self.embed(images))), name)

    def embed(self, images, training=None):
        """Embeds images as tokens with positions, the first of three stages.

        `model(x)` is `read_out(encode(embed(x)))`. Each stage applies the layers of the model to
        any tensor, symbolic or not, so that a task can change the tokens between the stages.

        Args:
            images: float tensor (B, H, W, C), the model's input.
            training: bool, whether to apply dropout; by default Keras's current mode.

        Returns:
            Tokens (B, P + N, D), prefix tokens first.

        Example:
            >>> tokens = model.embed(images)
            >>> kept = keras.ops.concatenate([tokens[:, :1], tokens[:, 50:]], axis=1)
            >>> model.encode(kept).shape  # a class token and 147 of 196 patches
            (8, 148, 768)
        """
        a, layer = self._given, self.layer
        patch_size, _, grid = patch_grids(
            a.patch_size, a.image_size, a.position_grid, a.drop_remainder
        )
        prefix = _prefix_tokens(a)

        x = images  # (B, H, W, C)
        if a.include_preprocessing:
            x = layer(pixels_to_input, a.preprocessor, name="preprocessing")(x)
        patches = layer(
            PatchEmbedding,
            a.width,
            patch_size,
            use_bias=a.patch_bias,
            drop_remainder=a.drop_remainder,
            name="patch_embedding",
        )
        x = patches(x)  # (B, N, D)
        for name, number in prefix.items():
            x = layer(ClassToken, number, name=name)(x)  # (B, P+N, D) after the last
        if a.position_embedding is not None:
            x = layer(
                AddPositionEmbedding,
                grid,
                patch_size,
                kind="sincos" if a.position_embedding == "sincos" else "learned",
                num_prefix_tokens=sum(prefix.values()),
                prefix_positions=a.position_embedding == "learned",
                resample=a.position_resample,
                name="position_embedding",
            )(x, images)
        x = layer(layers.Dropout, a.dropout_rate, name="dropout")(x, training=training)
        if a.pre_norm:
            x = layer(layers.LayerNormalization, epsilon=a.norm_epsilon, name="pre_norm")(x)
        return x  # (B, P+N, D)

    def encode(self, tokens, **kwargs):
        """Applies all transformer blocks, the second of three stages.

        Args:
            tokens: float tensor (B, M, D), such as all or some of the tokens from `embed`.
            kwargs: call arguments of every block, such as `training`.

        Returns:
            Tokens (B, M, D); normalised, unless the model normalises after the pooling (`fc_norm`).
        """
        a, layer = self._given, self.layer
        x = tokens
        for i in range(a.depth):
            x = layer(
                TransformerBlock,
                a.num_heads,
                a.mlp_dim,
                mlp=a.mlp,
                qkv_bias=a.qkv_bias,
                qk_norm=a.qk_norm,
                layer_scale=a.layer_scale,
                dropout_rate=a.dropout_rate,
                attention_dropout_rate=a.attention_dropout_rate,
                drop_path_rate=a.drop_path_rate * i / max(a.depth - 1, 1),
                norm_epsilon=a.norm_epsilon,
                remat=a.remat,
                name=f"block{i:02d}",
            )(x, **kwargs)  # (B, M, D)
        if not a.fc_norm:
            x = layer(layers.LayerNormalization, epsilon=a.norm_epsilon, name="norm")(x)
        return x

    def read_out(self, tokens):
        """Pools the tokens and applies the head, the last of three stages.

        Args:
            tokens: float tensor (B, P + M, D), the output of `encode`, for any number of patches M.

        Returns:
            Logits (B, K), or pooled features (B, D) if the model has no head; (B, 2D) with
            `pooling="token_gap"`.
        """
        a, layer = self._given, self.layer
        prefix = sum(_prefix_tokens(a).values())

        if a.pooling == "map":
            pool = layer(
                AttentionPooling, a.num_heads, a.mlp_dim, a.mlp, a.norm_epsilon, name="pool"
            )
        else:
            pool = layer(TokenPooling, a.pooling, prefix, name="pool")
        x = pool(tokens)  # (B, D)
        if a.fc_norm:
            x = layer(layers.LayerNormalization, epsilon=a.norm_epsilon, name="fc_norm")(x)
        if a.representation_size is not None:
            x = layer(pre_logits, a.representation_size, name="pre_logits")(x)
        if a.num_classes is not None:
            x = layer(ClassificationHead, a.num_classes, name="head")(x)  # (B, K)
        if not _has_two_heads(a):
            return x

        y = layer(TokenPooling, "token", prefix, token_index=1, name="distillation_pool")(tokens)
        if a.num_classes is not None:
            y = layer(ClassificationHead, a.num_classes, name="distillation_head")(y)
        # float32 under mixed precision, like the heads.
        float32 = a.dtype.variable_dtype
        return layer(layers.Average, name="average", dtype=float32)([x, y])  # (B, K)

    def distillation_model(self):
        """Returns a model with both heads as outputs, for training. It shares this model's weights.

        Returns:
            `keras.Model` from images (B, H, W, C) to {"class": (B, K), "distillation": (B, K)}.

        Raises:
            ValueError: if the model has no distillation head.

        Example:
            >>> outputs = keras_vit.DeiTSmall(num_classes=10).distillation_model()(images)
            >>> outputs["distillation"].shape
            (8, 10)
        """
        names = [layer.name for layer in self.layers]
        if "distillation_head" not in names:
            raise ValueError(
                "A model with two heads is built by VisionTransformer(distillation_token=True, "
                "num_classes=...), such as keras_vit.DeiTSmall. "
                f"Received: {self.name} with the last layers {names[-3:]}"
            )
        heads = {"class": "head", "distillation": "distillation_head"}
        outputs = {key: self.get_layer(name).output for key, name in heads.items()}
        return keras.Model(self.input, outputs, name=f"{self.name}_distillation")


def _prefix_tokens(a):
    """dict of layer name to number of tokens; each layer prepends its tokens, in this order."""
    pooled = a.pooling in ("token", "token_gap")
    numbers = {
        "registers": a.num_registers,
        "distillation_token": 1 if a.distillation_token else 0,
        "class_token": 1 if (pooled if a.class_token is None else a.class_token) else 0,
    }
    return {name: number for name, number in numbers.items() if number}


def _has_two_heads(a):
    return a.distillation_token if a.distillation_head is None else a.distillation_head


def pre_logits(width, **kwargs):
    """The linear layer with tanh that the paper's pre-training has before the head."""
    return layers.Dense(width, "tanh", kernel_initializer=Initial("glorot_uniform"), **kwargs)


def _check(arguments, class_token, distillation_head):
    """Raises a `ValueError` for arguments that no layer checks."""
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
            f"pooling={arguments['pooling']!r} needs the class token; without one use "
            f"pooling='gap' or 'map'. Received: pooling={arguments['pooling']!r}, class_token=False"
        )
    if distillation_head:
        wanted = {"distillation_token": True, "pooling": "token", "fc_norm": False}
        for name, value in {**wanted, "representation_size": None}.items():
            if arguments[name] != value:
                raise ValueError(
                    f"A distillation head needs {name}={value!r}; otherwise pass "
                    f"distillation_head=False. Received: {name}={arguments[name]!r}"
                )
    check_class_names(arguments["class_names"], arguments["num_classes"])
    if arguments["position_grid"] is not None and arguments["position_embedding"] in (
        "sincos",
        None,
    ):
        raise ValueError(
            "position_grid applies to learned position embeddings only; leave it out. Received: "
            f"position_grid={arguments['position_grid']}, "
            f"position_embedding={arguments['position_embedding']!r}"
        )


VIT = register_family(
    "vit",
    "ViT",
    VisionTransformer,
    tiny=dict(image_size=(24, 16), patch_size=8, width=16, depth=2, num_heads=2, mlp_dim=32),
    smoke=dict(patch_size=2, width=32, depth=2, num_heads=2, mlp_dim=64),
)


# fmt: off
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
    *, patch_size=14, width=1664, depth=48, num_heads=16, mlp_dim=8192, name="vit_gigantic",
    **kwargs,
):
    """ViT-G/14 (Zhai et al. 2022, table 2)."""


@VIT.variant
def ViTSo400m(
    *, patch_size=14, width=1152, depth=27, num_heads=16, mlp_dim=4304, pooling="map",
    name="vit_so400m", **kwargs,
):
    """SoViT-400m/14 (Alabdulmohsin et al. 2023, section 5), with attention pooling."""
