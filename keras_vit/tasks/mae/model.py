"""MAE of He et al. 2022 (arXiv:2111.06377): masked autoencoders are scalable vision learners.

The graph is that of the paper's figure 1: a random share of the patches is removed, the encoder
sees the rest, and a small decoder sees all places again and predicts the pixels of every patch. The
loss counts the removed ones.

The layers of the encoder keep their names and weight paths. What MAE adds begins with `decoder_`,
besides `masking` and `mask_token`.

Letters: B batch, H x W image size, C channels, p x q patch size, N patches, P prefix tokens,
K patches that stay, D width of the encoder, F width of the decoder.
"""

import copy
import math

import keras
from keras import layers, ops

from keras_vit.layers import AddPositionEmbedding, TransformerBlock
from keras_vit.layers.initializers import Initial
from keras_vit.layers.validation import check_choice, check_count
from keras_vit.models.base import ImageModel
from keras_vit.models.configured import configured
from keras_vit.models.registry import register_task
from keras_vit.models.vit import VIT, VisionTransformer
from keras_vit.tasks.encoder import encoder_of, serialized
from keras_vit.tasks.mae.masking import MaskTokens, RandomMasking
from keras_vit.tasks.mae.positions import fix_positions
from keras_vit.tasks.reconstruction import ReconstructsImages, check_ratio
from keras_vit.tasks.tokens import DropPrefix

NOMINAL_SIZE = 224  # pixels, of an encoder without a size


@keras.saving.register_keras_serializable(package="keras_vit")
@configured  # documents the arguments that families share
class MAE(ReconstructsImages, ImageModel):
    """Masked autoencoder: from images (B, H, W, C) to the pixels of their patches.

    `model.compile(optimizer)` and `model.fit(images)` pre-train the encoder; `model.encoder` is
    then an ordinary model. The output is {"patches": (B, N, p*q*C), "mask": (B, N)}, in float32;
    `reconstruct` makes images of it.

    The blocks of the decoder have the activation, epsilon, bias and `remat` of the encoder's.

    Args:
        encoder: a `VisionTransformer`, whose layers and weights are shared, not copied; its head is
            not used. Or the name of a variant, such as "ViTLarge", which is built with the paper's
            fixed sine-cosine positions; None for "ViTBase". A given encoder keeps its positions:
            learned ones are trained.
        decoder_width: int, F.
        decoder_depth: int, number of blocks of the decoder.
        decoder_heads: int, attention heads of each of them.
        decoder_mlp_dim: int, hidden width of their MLPs; None for 4 F.
        mask_ratio: float in (0, 1), share of the patches that is removed.
        normalize_pixels: bool, whether each patch is predicted relative to its own mean and
            standard deviation.
        seed: int, of the masks.
        image_size: int or (H, W), in pixels, of the encoder that is built; None to accept any size
            at call time. A given encoder determines the size: leave it out ("auto") then.
        include_preprocessing: bool. If True, the encoder that is built takes pixels 0..255. A given
            encoder determines this: leave it out (None) then.
        preprocessor: `keras_vit.Preprocessor` that turns pictures into images; by default the
            encoder's. It is saved with the model.

    Raises:
        ValueError: if the encoder is no `VisionTransformer` or has no final normalisation, the
            ratio leaves no patch or removes none, or `image_size` or `include_preprocessing` are
            not those of the encoder.

    Example:
        >>> encoder = keras_vit.ViTSmall(num_classes=None, image_size=96, patch_size=8)
        >>> mae = keras_vit.MAE(encoder, decoder_width=192, decoder_depth=2, decoder_heads=6)
        >>> mae.compile(keras.optimizers.AdamW(1.5e-4, beta_2=0.95, weight_decay=0.05))
        >>> mae.fit(images)
        >>> features = mae.encoder.predict(images)

    Source: facebookresearch/mae `models_mae.py`.
    """

    distance = staticmethod(ops.square)

    def __init__(
        self,
        encoder=None,
        decoder_width=512,
        decoder_depth=8,
        decoder_heads=16,
        decoder_mlp_dim=None,
        mask_ratio=0.75,
        normalize_pixels=True,
        seed=0,
        image_size="auto",
        include_preprocessing=None,
        preprocessor=None,
        frozen_layers=(),
        adapted_layers=None,
        dtype=None,
        name=None,
    ):
        _check(self._arguments)
        if encoder is None or isinstance(encoder, str):
            self._arguments["encoder"] = _with_fixed_positions(self._arguments)
        encoder = encoder_of(self._arguments, MAE)
        _check_encoder(encoder)
        # Its configuration is enough: an attribute that is a model would be saved with its head.
        self._arguments["encoder"] = None
        object.__setattr__(self, "_encoder", encoder)
        object.__setattr__(self, "_encoder_config", serialized(encoder))

        super().__init__(encoder.input, self._autoencode(encoder.input), name)
        fix_positions(self.get_layer("decoder_position_embedding"))
        self._set_masked_model(encoder.grid_size and math.prod(encoder.grid_size))

    def _autoencode(self, images, noise=None):
        """The outputs of the model for symbolic images (B, H, W, C), and noise (B, N) or None."""
        a, layer, encoder = self._given, self.layer, self.encoder
        block, prefix = encoder._given, encoder.num_prefix_tokens
        p, q = encoder.patch_size

        x = encoder.embed(images)  # (B, P+N, D)
        masking = layer(RandomMasking, a.mask_ratio, prefix, a.seed, name="masking")
        x, mask, places = masking(x, noise)  # (B, P+K, D), (B, N), (B, N)
        x = encoder.encode(x)

        x = layer(dense, a.decoder_width, name="decoder_embedding")(x)  # (B, P+K, F)
        x = layer(MaskTokens, prefix, name="mask_token")(x, places)  # (B, P+N, F)
        x = layer(
            AddPositionEmbedding,
            encoder.grid_size or (NOMINAL_SIZE // p, NOMINAL_SIZE // q),
            (p, q),
            num_prefix_tokens=prefix,
            name="decoder_position_embedding",
        )(x, images)
        for i in range(a.decoder_depth):
            x = layer(
                TransformerBlock,
                a.decoder_heads,
                a.decoder_mlp_dim or 4 * a.decoder_width,
                mlp=block.mlp,
                qkv_bias=block.qkv_bias,
                norm_epsilon=block.norm_epsilon,
                remat=block.remat,
                name=f"decoder_block{i:02d}",
            )(x)
        x = layer(layers.LayerNormalization, epsilon=block.norm_epsilon, name="decoder_norm")(x)
        x = layer(DropPrefix, prefix, name="decoder_patches")(x)  # (B, N, F)
        # float32 under mixed precision, like the heads of classifiers.
        predict = layer(
            dense,
            p * q * block.num_channels,
            name="decoder_prediction",
            dtype=a.dtype.variable_dtype,
        )
        return {"patches": predict(x), "mask": mask}  # (B, N, p*q*C), (B, N)

    @property
    def encoder(self):
        """The encoder, an ordinary model; it shares its layers with this one."""
        return self._encoder

    @property
    def normalize_pixels(self):
        """bool, whether each patch is predicted relative to its own mean and deviation."""
        return self._arguments["normalize_pixels"]

    @property
    def predicted_patch(self):
        """(p, q), the size of the patches that are predicted."""
        return self.encoder.patch_size

    def get_config(self):
        return {**super().get_config(), "encoder": copy.deepcopy(self._encoder_config)}


def dense(units, **kwargs):
    """A linear layer with the paper's initial weights."""
    return layers.Dense(units, kernel_initializer=Initial("glorot_uniform"), **kwargs)


def _with_fixed_positions(arguments):
    """The encoder that the arguments describe: a variant with fixed sine-cosine positions."""
    name, size = arguments["encoder"] or "ViTBase", arguments["image_size"]
    if name not in VIT.variants:
        raise ValueError(
            "encoder must be a model, None, or the name of a variant: "
            f"{', '.join(VIT.variants)}. Received: encoder={name!r}"
        )
    encoder = VIT.variants[name](
        num_classes=None,
        image_size=NOMINAL_SIZE if size == "auto" else size,
        include_preprocessing=bool(arguments["include_preprocessing"]),
        preprocessor=arguments["preprocessor"],
        dtype=arguments["dtype"],
    )
    fix_positions(encoder.get_layer("position_embedding"))
    return encoder


def _check(arguments):
    """Raises a `ValueError` for arguments that no layer checks."""
    for name in ("decoder_width", "decoder_depth", "decoder_heads"):
        check_count(arguments[name], name)
    if arguments["decoder_mlp_dim"] is not None:
        check_count(arguments["decoder_mlp_dim"], "decoder_mlp_dim")
    check_count(arguments["seed"], "seed", minimum=0)
    check_choice(arguments["normalize_pixels"], "normalize_pixels", (True, False))
    check_ratio(arguments["mask_ratio"])


def _check_encoder(encoder):
    if not isinstance(encoder, VisionTransformer):
        raise ValueError(
            "MAE leaves out patches between the stages embed and encode of a VisionTransformer; "
            "pre-train other models with keras_vit.SimMIM. Received: encoder of type "
            f"{type(encoder).__name__}"
        )
    if encoder._given.fc_norm:
        raise ValueError(
            "The encoder must end with a normalisation of its tokens (fc_norm=False), which the "
            "decoder reads. Received: fc_norm=True"
        )


MAE_TASK = register_task("mae", "MAE", MAE)


# fmt: off
@MAE_TASK.variant
def MAEBase(*, encoder="ViTBase", name="mae_base", **kwargs):
    """MAE on ViT-B/16 (He et al. 2022, section 4)."""


@MAE_TASK.variant
def MAELarge(*, encoder="ViTLarge", name="mae_large", **kwargs):
    """MAE on ViT-L/16 (He et al. 2022, section 4)."""


@MAE_TASK.variant
def MAEHuge(*, encoder="ViTHuge", name="mae_huge", **kwargs):
    """MAE on ViT-H/14 (He et al. 2022, section 4)."""
