"""Position embeddings, learned or sin-cos.

Letters: B batch, N = h*w patches in a grid of h x w, P prefix tokens, D width, H x W image size.
"""

import keras
import numpy as np
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.sublayer import direct
from keras_vit.layers.validation import as_pair, check_choice, check_count, check_tokens
from keras_vit.ops.resample import MODES, resample_grid


def sincos_grid(size, width, temperature=10000.0):
    """Fixed 2D sin-cos position embeddings of a grid.

    The four quarters of the channels are sin(x f), cos(x f), sin(y f) and cos(y f), where the
    frequencies f decrease from 1 to 1 / temperature.

    Args:
        size: (h, w), ints, or scalar tensors if they are not known statically.
        width: int, D, a multiple of 4, at least 8.
        temperature: float; the longest wavelength is 2 pi times this.

    Returns:
        float32 tensor (h, w, D).

    Raises:
        ValueError: if the width is not a multiple of 4, or below 8.

    Example:
        >>> sincos_grid((14, 14), 768).shape
        (14, 14, 768)

    Source: big_vision `models/vit.py`, `posemb_sincos_2d`, after Chen et al. 2021
    (arXiv:2104.02057).
    """
    if width % 4 or width < 8:
        raise ValueError(
            "The width of sin-cos position embeddings must be a multiple of 4, at least 8. "
            f"Received: width={width}"
        )
    h, w = size
    frequencies = np.float32(temperature) ** -np.linspace(0, 1, width // 4, dtype="float32")
    frequencies = ops.convert_to_tensor(frequencies)
    y = ops.arange(h, dtype="float32")[:, None] * frequencies  # (h, D/4)
    x = ops.arange(w, dtype="float32")[:, None] * frequencies  # (w, D/4)
    y = ops.broadcast_to(y[:, None], (h, w, width // 4))
    x = ops.broadcast_to(x[None], (h, w, width // 4))
    return ops.concatenate([ops.sin(x), ops.cos(x), ops.sin(y), ops.cos(y)], axis=-1)


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class AddPositionEmbedding(ConfiguredLayer):
    """Adds a position embedding to every token.

    Learned embeddings are the weights `grid` (h, w, D), for the patches, and `prefix` (P, D), for
    the prefix tokens. For images of another size, the grid is resampled at call time; the prefix
    does not change.

    Args:
        grid_size: int or (h, w), grid of the learned embeddings.
        patch_size: int or (p, q), patch size in pixels, from which the grid of an image follows.
        kind: "learned", or "sincos" for fixed embeddings, which are computed for each grid.
        num_prefix_tokens: int, P, number of tokens before the patches.
        prefix_positions: bool, whether the prefix tokens have learned positions too (the class
            token of ViT has one, that of DeiT III has none). By default True if `kind` is
            "learned"; must not be True if it is "sincos".
        resample: "timm", "hf", "flax", "bilinear" or "dinov2", how the grid is resampled
            (`resample_grid`).

    Call arguments:
        tokens: float tensor (B, P + N, D).
        images: tensor (B, H, W, C) that the patches were cut from; only its size is used. Without
            it, as in a `keras.Sequential`, the patches are those of `grid_size`.

    Returns:
        Tokens (B, P + N, D).

    Raises:
        ValueError: if `kind` or `resample` is unknown, if `prefix_positions` is True with "sincos",
            or if there are no images and the number of tokens is not P + h*w.

    Example:
        >>> x, images = np.zeros((1, 197, 768)), np.zeros((1, 224, 224, 3))
        >>> AddPositionEmbedding(14, patch_size=16, num_prefix_tokens=1)(x, images).shape
        (1, 197, 768)

    Source: Dosovitskiy et al. 2021 (arXiv:2010.11929), equation 1 and appendix D.4.
    """

    def __init__(
        self,
        grid_size,
        patch_size=16,
        kind="learned",
        num_prefix_tokens=0,
        prefix_positions=None,
        resample="timm",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_choice(kind, "kind", ("learned", "sincos"))
        check_choice(resample, "resample", MODES)
        check_count(num_prefix_tokens, "num_prefix_tokens", minimum=0)
        if kind == "sincos" and prefix_positions:
            raise ValueError(
                "With kind='sincos' prefix tokens have no positions. Use kind='learned' or leave "
                "prefix_positions out. "
                "Received: kind='sincos', prefix_positions=True"
            )
        self.grid_size = as_pair(grid_size, "grid_size")
        self.patch_size = as_pair(patch_size, "patch_size")
        self.kind = kind
        self.num_prefix_tokens = num_prefix_tokens
        self.prefix_positions = kind == "learned" if prefix_positions is None else prefix_positions
        self.resample = resample

    def build(self, tokens_shape, images_shape=None):
        check_tokens(tokens_shape, "AddPositionEmbedding")
        self.width = tokens_shape[-1]
        # float32 under every dtype policy: the embeddings are cast after they are resampled.
        initializer = Initial(keras.initializers.TruncatedNormal(stddev=0.02))
        weight = {"initializer": initializer, "autocast": False}
        if self.kind == "learned":
            self.grid = self.add_weight(shape=(*self.grid_size, self.width), name="grid", **weight)
        else:
            sincos_grid((1, 1), self.width)  # checks the width while building
        self.prefix = None
        if self.num_prefix_tokens and self.prefix_positions:
            shape = (self.num_prefix_tokens, self.width)
            self.prefix = self.add_weight(shape=shape, name="prefix", **weight)

    def call(self, tokens, images=None):
        if images is None:
            self._check_number(tokens.shape[1])
            h, w = self.grid_size
        else:
            _, height, width, _ = ops.shape(images)
            h, w = height // self.patch_size[0], width // self.patch_size[1]
        if self.kind == "learned":
            positions = resample_grid(self.grid, (h, w), self.resample)
        else:
            positions = sincos_grid((h, w), self.width)
        positions = ops.reshape(positions, (h * w, self.width))  # (N, D)
        if self.prefix is not None:
            prefix = ops.cast(self.prefix, positions.dtype)
            positions = ops.concatenate([prefix, positions], axis=0)  # (P + N, D)
        elif self.num_prefix_tokens:
            positions = ops.pad(positions, ((self.num_prefix_tokens, 0), (0, 0)))  # (P + N, D)
        return tokens + ops.cast(positions, tokens.dtype)

    def _check_number(self, n):
        h, w = self.grid_size
        expected = self.num_prefix_tokens + h * w
        if n not in (None, expected):
            raise ValueError(
                f"Without images there must be {self.num_prefix_tokens} + {h} x {w} = {expected} "
                "tokens, those of grid_size. Build the layer for another grid, or call it with the "
                f"images. Received: {n} tokens"
            )

    def compute_output_shape(self, tokens_shape, images_shape=None):
        return tokens_shape

    def cost(self, tokens_shape, images_shape=None):
        return Cost(activations=tokens_shape[1] * tokens_shape[2])
