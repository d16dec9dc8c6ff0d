"""The Vision Transformer of Dosovitskiy et al. 2021 (arXiv:2010.11929).

Differences from the paper, each an argument: registers (Darcet et al. 2024), LayerScale and drop
path (DeiT III), query-key normalisation (ViT-22B), GAP and MAP pooling (Zhai et al. 2022), sin-cos
positions and no head MLP (Beyer et al. 2022); the head has one linear layer, as in fine-tuning.

Initial weights are those of the paper's code (google-research/vision_transformer): Glorot uniform
matrices, Lecun normal patch embedding, normal positions of 0.02; but class token and head, zeros
there, are normal of 0.02 too.

Letters: B batch, H x W image size, C channels, h x w grid of patches, N = h*w, P prefix tokens
(class token and registers), D width, K classes.
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
    TokensToGrid,
    TransformerBlock,
)
from keras_vit.layers.validation import (
    as_pair,
    check_choice,
    check_count,
    check_images,
    check_rate,
)
from keras_vit.models.variants import variant

# Sources. Tiny, Small: Touvron et al. 2021 (DeiT), table 1. Base, Large, Huge: the paper, table 1.
# Giant, Gigantic: Zhai et al. 2022, table 2. So400m: Alabdulmohsin et al. 2023, section 5.
VARIANTS = {
    "ViTTiny": dict(patch_size=16, width=192, depth=12, num_heads=3, mlp_dim=768),
    "ViTSmall": dict(patch_size=16, width=384, depth=12, num_heads=6, mlp_dim=1536),
    "ViTBase": dict(patch_size=16, width=768, depth=12, num_heads=12, mlp_dim=3072),
    "ViTLarge": dict(patch_size=16, width=1024, depth=24, num_heads=16, mlp_dim=4096),
    "ViTHuge": dict(patch_size=14, width=1280, depth=32, num_heads=16, mlp_dim=5120),
    "ViTGiant": dict(patch_size=14, width=1408, depth=40, num_heads=16, mlp_dim=6144),
    "ViTGigantic": dict(patch_size=14, width=1664, depth=48, num_heads=16, mlp_dim=8192),
    "ViTSo400m": dict(
        patch_size=14, width=1152, depth=27, num_heads=16, mlp_dim=4304, pooling="map"
    ),
}


@keras.saving.register_keras_serializable(package="keras_vit")
class VisionTransformer(keras.Model):
    """Vision Transformer from images (B, H, W, C) to logits (B, num_classes).

    Args:
        num_classes: int, K, or None for features (B, width) instead of logits.
        image_size: int, (H, W), or None for any multiple of the patch size at call time.
        patch_size: int or (p, q), size of a patch in pixels.
        width: int, D, width of the tokens.
        depth: int, number of transformer blocks.
        num_heads: int, attention heads of a block; `width` must be a multiple of it.
        mlp_dim: int, hidden width of a block's MLP.
        num_channels: int, C.
        pooling: "token" (the class token), "gap" (mean of the patches, prefix tokens left out) or
            "map" (attention pooling over all tokens).
        class_token: bool; by default there is one where `pooling` is "token".
        num_registers: int, learned tokens without a meaning of their own.
        position_embedding: "learned" (for patches and prefix tokens), "learned_patches" (prefix
            tokens have none), "sincos" (fixed, for patches) or None.
        position_grid: int or (h, w), the grid that learned embeddings are kept for; by default that
            of `image_size`, or of 224 pixels where `image_size` is None.
        position_resample: "timm", "hf" or "flax", the arithmetic by which learned embeddings are
            resampled to another grid (`keras_vit.layers.resample_grid`).
        mlp: "gelu" (exact), "gelu_tanh" or "swiglu".
        qkv_bias: whether the projection to queries, keys and values has a bias.
        qk_norm: whether queries and keys are normalised.
        layer_scale: float, where the factors of the residual branches start, or None for none.
        norm_epsilon: float, epsilon of every layer normalisation.
        dropout_rate: float in [0, 1), dropout after the position embedding, the attention and in
            the MLP.
        attention_dropout_rate: float in [0, 1), dropout on the attention scores.
        drop_path_rate: float in [0, 1), stochastic depth of the last block; it grows linearly from
            0 at the first.
        remat: whether training recomputes every block in the backward pass (gradient
            checkpointing): less memory, about a third more work.
        include_preprocessing: if True the model takes pixels 0..255 and maps them to -1..1 itself;
            otherwise it expects -1..1.
        frozen_layers: names of layers that are not trained; setting `layer.trainable` later changes
            the configuration likewise, so that a saved model loads as it was.
        dtype: dtype policy of every layer, such as "mixed_bfloat16"; by default the global one.
        name: str.

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
        num_registers=0,
        position_embedding="learned",
        position_grid=None,
        position_resample="timm",
        mlp="gelu",
        qkv_bias=True,
        qk_norm=False,
        layer_scale=None,
        norm_epsilon=1e-6,
        dropout_rate=0.0,
        attention_dropout_rate=0.0,
        drop_path_rate=0.0,
        remat=False,
        include_preprocessing=False,
        frozen_layers=(),
        dtype=None,
        name=None,
    ):
        dtype = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        arguments = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        patch_size, image_size, position_grid = _grids(patch_size, image_size, position_grid)
        class_token = pooling == "token" if class_token is None else class_token
        _check(arguments, class_token)
        prefix = int(class_token) + num_registers

        images = keras.Input((*(image_size or (None, None)), num_channels), name="images")
        x = images  # (B, H, W, C)
        if include_preprocessing:
            x = layers.Rescaling(1 / 127.5, offset=-1.0, name="preprocessing", dtype=dtype)(x)

        x = PatchEmbedding(width, patch_size, name="patch_embedding", dtype=dtype)(x)  # (B, N, D)
        if num_registers:
            x = ClassToken(num_registers, name="registers", dtype=dtype)(x)  # (B, R+N, D)
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

        x = layers.LayerNormalization(epsilon=norm_epsilon, name="norm", dtype=dtype)(x)
        if pooling == "map":
            x = AttentionPooling(num_heads, mlp_dim, mlp, norm_epsilon, name="pool", dtype=dtype)(x)
        else:
            x = TokenPooling(pooling, prefix, name="pool", dtype=dtype)(x)  # (B, D)
        if num_classes is not None:
            x = ClassificationHead(num_classes, name="head", dtype=dtype)(x)  # (B, K)

        super().__init__(inputs=images, outputs=x, name=name)
        self.dtype_policy = dtype
        self.patch_size = patch_size
        self.num_prefix_tokens = prefix
        self._prefix_tokens_after = {"patch_embedding": 0, "registers": num_registers}
        self._arguments = arguments
        for layer_name in frozen_layers:
            self.get_layer(layer_name).trainable = False

    @property
    def grid_size(self):
        """(h, w), the grid of patches, or None where the model takes images of any size."""
        height, width = self.input.shape[1:3]
        if height is None:
            return None
        return (height // self.patch_size[0], width // self.patch_size[1])

    def feature_model(self, layers=None, grid=False):
        """A model from images to the outputs of named layers; it shares this model's weights.

        Args:
            layers: list of layer names, such as `["block05", "norm"]`; by default every block.
            grid: if True the prefix tokens are left out and the patches laid back onto their grid.

        Returns:
            `keras.Model` from images (B, H, W, C) to a dict of tokens (B, P + N, D), or feature
            maps (B, h, w, D), by layer name.

        Raises:
            ValueError: for a layer that does not exist, or whose output has no grid.
        """
        if layers is None:
            layers = [layer.name for layer in self.layers if isinstance(layer, TransformerBlock)]
        outputs = {}
        for name in layers:
            x = self.get_layer(name).output
            if grid:
                if len(x.shape) != 3:
                    raise ValueError(
                        "grid=True needs layers that give tokens, such as 'block00' or 'norm'. "
                        f"Received: {name!r} with output shape {x.shape}"
                    )
                prefix = self._prefix_tokens_after.get(name, self.num_prefix_tokens)
                to_grid = TokensToGrid(self.patch_size, prefix, name=f"{name}_grid")
                x = to_grid(x, self.input)
            outputs[name] = x
        return keras.Model(self.input, outputs, name=f"{self.name}_features")

    def features(self, images, layers=None, grid=False):
        """Outputs of named layers for `images` (B, H, W, C), as `feature_model` gives them."""
        self._check_size(images.shape)
        outputs = self.feature_model(layers, grid)(images, training=False)
        return {name: outputs[name] for name in (outputs if layers is None else layers)}

    def fit(self, x=None, *args, **kwargs):
        self._check_data(x)
        return super().fit(x, *args, **kwargs)

    def evaluate(self, x=None, *args, **kwargs):
        self._check_data(x)
        return super().evaluate(x, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        self._check_data(x)
        return super().predict(x, *args, **kwargs)

    def __call__(self, inputs, *args, **kwargs):
        if hasattr(inputs, "shape"):
            self._check_size(inputs.shape)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs, training=None, mask=None):
        self._check_size(inputs.shape)  # again: JAX's trainer does not come through __call__
        return super().call(inputs, training=training, mask=mask)

    def _check_data(self, data):
        """Checks arrays and tf.data pipelines before Keras starts.

        An error in the middle would be too late: on JAX it leaves the model without its weights,
        and on TensorFlow, which generalises its traces, a wrong size would not even show.
        """
        data = getattr(data, "element_spec", data)
        images = data[0] if isinstance(data, (tuple, list)) and data else data
        shape = getattr(images, "shape", None)
        if shape is not None and getattr(shape, "rank", 4) is not None:
            self._check_size(shape)

    def _check_size(self, shape):
        check_images(shape, self.patch_size, self.name)
        expected = self.input.shape[1:]
        if any(
            a is not None and b is not None and a != b
            for a, b in zip(expected, shape[1:], strict=True)
        ):
            raise ValueError(
                f"{self.name} was built for images of shape {expected}. Resize the images, or the "
                f"model with keras_vit.resize(model, image_size=...), or build it with "
                f"image_size=None. Received: shape={tuple(shape)}"
            )

    def get_config(self):
        policy = keras.dtype_policies.serialize(self._arguments["dtype"])
        frozen = [layer.name for layer in self.layers if layer.weights and not layer.trainable]
        return {**self._arguments, "frozen_layers": frozen, "dtype": policy, "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def _grids(patch_size, image_size, position_grid):
    """The three sizes as pairs, checked against each other."""
    patch_size = as_pair(patch_size, "patch_size")
    if image_size is not None:
        image_size = as_pair(image_size, "image_size")
        if any(side % patch for side, patch in zip(image_size, patch_size, strict=True)):
            raise ValueError(
                "image_size must be a multiple of patch_size. "
                f"Received: image_size={image_size}, patch_size={patch_size}"
            )
    if position_grid is None:
        sides = zip(image_size or (224, 224), patch_size, strict=True)
        position_grid = tuple(max(side // patch, 1) for side, patch in sides)
    return patch_size, image_size, as_pair(position_grid, "position_grid")


def _check(arguments, class_token):
    """Raises for what only the model as a whole can judge; the layers check the rest."""
    for name in ("depth", "width", "num_heads", "num_channels"):
        check_count(arguments[name], name)
    check_count(arguments["num_registers"], "num_registers", minimum=0)
    check_rate(arguments["drop_path_rate"], "drop_path_rate")
    check_choice(arguments["pooling"], "pooling", ("token", "gap", "map"))
    kinds = ("learned", "learned_patches", "sincos", None)
    check_choice(arguments["position_embedding"], "position_embedding", kinds)
    if arguments["pooling"] == "token" and not class_token:
        raise ValueError(
            "pooling='token' reads the class token; use pooling='gap' or 'map' without one. "
            "Received: pooling='token', class_token=False"
        )
    if arguments["position_grid"] is not None and arguments["position_embedding"] in (
        "sincos",
        None,
    ):
        raise ValueError(
            "position_grid is the grid of learned position embeddings. Received: position_grid="
            f"{arguments['position_grid']}, position_embedding={arguments['position_embedding']!r}"
        )


ViTTiny = variant(VisionTransformer, "ViTTiny", VARIANTS["ViTTiny"])
ViTSmall = variant(VisionTransformer, "ViTSmall", VARIANTS["ViTSmall"])
ViTBase = variant(VisionTransformer, "ViTBase", VARIANTS["ViTBase"])
ViTLarge = variant(VisionTransformer, "ViTLarge", VARIANTS["ViTLarge"])
ViTHuge = variant(VisionTransformer, "ViTHuge", VARIANTS["ViTHuge"])
ViTGiant = variant(VisionTransformer, "ViTGiant", VARIANTS["ViTGiant"])
ViTGigantic = variant(VisionTransformer, "ViTGigantic", VARIANTS["ViTGigantic"])
ViTSo400m = variant(VisionTransformer, "ViTSo400m", VARIANTS["ViTSo400m"])
