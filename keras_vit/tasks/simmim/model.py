"""SimMIM of Xie et al. 2022 (arXiv:2111.09886): a simple framework for masked image modelling.

The graph is that of the paper's figure 1: a learned token takes the place of the embeddings of
hidden patches, the whole encoder sees all places, and one linear layer predicts the pixels. So any
encoder that embeds patches can be pre-trained; MAE, which leaves patches out, needs a
`VisionTransformer`.

Where embeddings overlap, as after the CNN of a hybrid or in PVT v2, they would show the pixels of
their neighbours. So the pixels of hidden units are set to zero too; to patches that do not overlap
this makes no difference.

Letters: B batch, H x W image size, C channels, u x v grid of units, p x q patch size behind the
last layer (the encoder's stride), N patches of that size, D width.
"""

import copy
import math
from typing import NamedTuple

import keras
from keras import layers, ops

from keras_vit.layers import Block, ClassAttentionBlock
from keras_vit.layers.initializers import Initial
from keras_vit.layers.validation import check_count
from keras_vit.models.base import PATCHES, ImageModel
from keras_vit.models.configured import configured
from keras_vit.models.graph import input_of, output_of
from keras_vit.models.layout import TokenLayout
from keras_vit.models.registry import register_task
from keras_vit.models.vit import ViTBase
from keras_vit.tasks.encoder import encoder_of, serialized
from keras_vit.tasks.reconstruction import ReconstructsImages, check_ratio
from keras_vit.tasks.simmim.masking import (
    FeaturesOfPatches,
    HideUnits,
    MaskedEmbedding,
    MaskOfPatches,
    UnitMasking,
)


@keras.saving.register_keras_serializable(package="keras_vit")
@configured  # documents the arguments that families share
class SimMIM(ReconstructsImages, ImageModel):
    """Masked image modelling: from images (B, H, W, C) to the pixels of their patches.

    `model.compile(optimizer)` and `model.fit(images)` pre-train the encoder; `model.encoder` is
    then an ordinary model. The output is {"patches": (B, N, p*q*C), "mask": (B, N)}, in float32;
    `reconstruct` makes images of it. The loss is the mean absolute difference of hidden pixels.

    Args:
        encoder: a model of this library that embeds patches, whose layers and weights are shared,
            not copied; its pooling and head are not used. None for a ViT-B/16.
        mask_ratio: float in (0, 1), share of the units that is hidden.
        mask_unit: int, side in pixels of the squares that are hidden as a whole, a multiple of the
            encoder's stride.
        seed: int, of the masks.
        image_size: "auto"; the encoder determines it.
        include_preprocessing: None; the encoder determines it.
        preprocessor: `keras_vit.Preprocessor` that turns pictures into images; by default the
            encoder's. It is saved with the model.

    Raises:
        ValueError: if the encoder has no patches, or units are no multiple of its stride, do not
            divide the image, or all of them are hidden.

    Example:
        >>> simmim = keras_vit.SimMIM(keras_vit.SwinTiny(num_classes=None))
        >>> simmim.compile(keras.optimizers.AdamW(1e-4, weight_decay=0.05))
        >>> simmim.fit(images)
        >>> features = simmim.encoder.pyramid(images)

    Source: microsoft/SimMIM `models/simmim.py`, `data/data_simmim.py`.
    """

    distance = staticmethod(ops.abs)
    normalize_pixels = False

    def __init__(
        self,
        encoder=None,
        mask_ratio=0.6,
        mask_unit=32,
        seed=0,
        image_size="auto",
        include_preprocessing=None,
        preprocessor=None,
        frozen_layers=(),
        adapted_layers=None,
        dtype=None,
        name=None,
    ):
        check_ratio(mask_ratio)
        check_count(mask_unit, "mask_unit")
        check_count(seed, "seed", minimum=0)
        if encoder is None:
            self._arguments["encoder"] = ViTBase(num_classes=None, dtype=dtype)
        encoder = encoder_of(self._arguments, SimMIM)
        _check_units(mask_unit, mask_ratio, encoder.input.shape[1:3])
        self._arguments["encoder"] = None  # as in `MAE`
        object.__setattr__(self, "_encoder", encoder)
        object.__setattr__(self, "_encoder_config", serialized(encoder))
        object.__setattr__(self, "_places", _places(encoder, mask_unit))

        super().__init__(encoder.input, self._autoencode(encoder.input), name)
        size = encoder.input.shape[1:3]
        self._set_masked_model(None if None in size else math.prod(self.grid_of_units(size)))

    def _autoencode(self, images, noise=None):
        """The outputs of the model for symbolic images (B, H, W, C), and noise (B, u*v) or None."""
        a, layer, encoder = self._given, self.layer, self.encoder
        unit, places = a.mask_unit, self._places

        masking = layer(UnitMasking, a.mask_ratio, unit, a.seed, name="masking")
        mask = masking(images, noise)  # (B, u, v)
        hide = layer(HideUnits, unit, name="hidden_pixels")
        fill = layer(MaskedEmbedding, _times(unit, places.embedded), name="mask_token")

        def call(kind, *args, **kwargs):
            y = kind(*args, **kwargs)
            if kind.name == "preprocessing":
                y = hide(y, mask)
            return fill(y, mask) if kind.name == places.filled else y

        start = images if encoder.takes_pixels else hide(images, mask)
        trunk = keras.Model(encoder.input, output_of(encoder, encoder.get_layer(places.last)))
        x = trunk._run_through_graph([start], call_fn=call)
        x = x[0] if isinstance(x, list) else x  # (B, P+N, D) or (B, h, w, D)

        p, q = places.features.patch_size
        x = layer(FeaturesOfPatches, places.features.num_prefix_tokens, name="patch_features")(x)
        predict = layer(
            layers.Dense,
            p * q * encoder.input.shape[-1],
            kernel_initializer=Initial("glorot_uniform"),
            name="decoder_prediction",
            dtype=a.dtype.variable_dtype,
        )
        shown = layer(MaskOfPatches, _times(unit, (p, q)), name="mask_of_patches")
        return {"patches": predict(x), "mask": shown(mask)}  # (B, N, p*q*C), (B, N)

    @property
    def encoder(self):
        """The encoder, an ordinary model; it shares its layers with this one."""
        return self._encoder

    @property
    def predicted_patch(self):
        """(p, q), the size of the patches that are predicted: the encoder's stride."""
        return self._places.features.patch_size

    def grid_of_units(self, image_size):
        """(u, v), the grid of units of an image of size (H, W)."""
        unit = self._arguments["mask_unit"]
        return image_size[0] // unit, image_size[1] // unit

    def check_size(self, shape):
        super().check_size(shape)
        _check_units(self._arguments["mask_unit"], self._arguments["mask_ratio"], shape[1:3])

    def get_config(self):
        return {**super().get_config(), "encoder": copy.deepcopy(self._encoder_config)}


class Places(NamedTuple):
    """Where the graph of an encoder is changed and read.

    Attributes:
        embedded: (p, q), the stride of its first patch embedding, in pixels.
        filled: str, the layer behind which the mask token is put in: that embedding, or the
            normalisation right behind it.
        last: str, the layer whose features are read: what the pooling reads, or where class tokens
            attend to patches that no longer change (CaiT) the last block before.
        features: `TokenLayout` of that layer.
    """

    embedded: tuple
    filled: str
    last: str
    features: TokenLayout


def _places(encoder, unit):
    """`Places` of an encoder; raises a `ValueError` where there are none for these units."""
    names = [layer.name for layer in encoder.layers]
    cuts = [i for i, layer in enumerate(encoder.layers) if isinstance(layer, PATCHES)]
    if not cuts or "pool" not in names:
        raise ValueError(
            "SimMIM hides patches: the encoder must embed patches and pool them. Received: "
            f"{encoder.name} with the layers {names[:3]} ... {names[-3:]}"
        )
    behind = encoder.layers[cuts[0] + 1]
    is_norm = isinstance(behind, layers.LayerNormalization) and behind.name.endswith("_norm")
    embedded = encoder.token_layout(names[cuts[0]]).patch_size
    last = input_of(encoder, encoder.get_layer("pool"))._keras_history.operation.name
    if any(isinstance(layer, ClassAttentionBlock) for layer in encoder.layers):
        blocks = [layer for layer in encoder.layers if isinstance(layer, Block)]
        last = [x.name for x in blocks if not isinstance(x, ClassAttentionBlock)][-1]
    features = encoder.token_layout(last)
    for size in (embedded, features.patch_size):
        if any(unit % side for side in size):
            raise ValueError(
                "mask_unit must be a multiple of the encoder's strides. Received: "
                f"mask_unit={unit}, strides of {embedded} and {features.patch_size} pixels"
            )
    filled = behind.name if is_norm and behind.name != "pre_norm" else names[cuts[0]]
    return Places(embedded, filled, last, features)


def _check_units(unit, mask_ratio, image_size):
    """Raises a `ValueError` unless units divide the image and some of them can be seen."""
    if None in image_size:
        return
    count = math.prod(side // unit for side in image_size)
    if any(side % unit for side in image_size) or math.ceil(count * mask_ratio) >= count:
        raise ValueError(
            "mask_unit must divide the image, and mask_ratio leave a unit that can be seen. "
            f"Received: mask_unit={unit}, mask_ratio={mask_ratio} for an image of "
            f"{tuple(image_size)}"
        )


def _times(unit, patch_size):
    """How many patches a unit has along each axis."""
    return tuple(unit // side for side in patch_size)


SIMMIM_TASK = register_task("simmim", "SimMIM", SimMIM)
