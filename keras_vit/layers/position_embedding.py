"""Where a token stands: learned or sin-cos position embeddings, and their resampling.

Letters: B batch, N = h*w patches in a grid of h x w, P prefix tokens, D width, H x W image size.
"""

import keras
import numpy as np
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.validation import as_pair, check_choice, check_count, check_tokens

RESAMPLING_MODES = ("timm", "hf", "flax", "bilinear", "dinov2")
DINOV2_OFFSET = 0.1  # cells, which its authors add to the new size against rounding errors


def resample_grid(grid, size, mode="timm"):
    """Resamples a grid of embeddings to another size, alike on every backend.

    Each side is one explicit matrix, so no backend's own idea of "bicubic" matters.

    Args:
        grid: float tensor or array (h, w, D).
        size: (h', w'), ints, or scalar tensors where TensorFlow does not know them yet.
        mode: whose arithmetic to follow.
            "timm": bicubic with antialiasing (a = -0.5), PyTorch's `interpolate(mode="bicubic",
            antialias=True)`.
            "hf": bicubic without (a = -0.75, borders repeated), PyTorch's `interpolate(
            mode="bicubic", align_corners=False)`, as transformers does.
            "flax": linear with aligned corners, `scipy.ndimage.zoom(order=1)`, as Google's
            vision_transformer and big_vision do.
            "bilinear": linear between the cells' middles (borders repeated), PyTorch's
            `interpolate(mode="bilinear", align_corners=False)`, as PVT does.
            "dinov2": as "hf", but with PyTorch's `scale_factor=(h' + 0.1) / h`, which moves every
            cell a little, as the authors of DINO and DINOv2 do for models without registers. A
            side that stays as long is moved too, unless both do.

    Returns:
        float32 tensor (h', w', D); for an equal size the grid itself.

    Raises:
        ValueError: for another mode, or a grid that is not of rank 3.

    Example:
        >>> resample_grid(np.zeros((14, 14, 768)), (24, 24)).shape
        (24, 24, 768)

    Sources: timm `layers/pos_embed.py`; transformers `ViTEmbeddings.interpolate_pos_encoding`;
    big_vision `models/vit.py`, `resample_posemb`; PVT `classification/pvt.py`; dinov2
    `models/vision_transformer.py`, `interpolate_pos_encoding`.
    """
    check_choice(mode, "mode", RESAMPLING_MODES)
    if len(grid.shape) != 3:
        raise ValueError(
            "grid must have the shape (height, width, embedding width). "
            f"Received: shape={tuple(grid.shape)}"
        )
    grid = ops.cast(ops.convert_to_tensor(grid), "float32")
    known = all(isinstance(side, int) for side in size)
    if known and tuple(size) == tuple(grid.shape[:2]):
        return grid
    same = None
    if mode == "dinov2" and not known:
        h, w = (_length(side, ops) for side in size)
        same = ops.logical_and(h == grid.shape[0], w == grid.shape[1])
    for axis, side in enumerate(size):
        old = grid.shape[axis]
        if mode == "dinov2" or not (isinstance(side, int) and side == old):
            matrix = ops.cast(_resampling_matrix(old, side, mode), "float32")  # (side, old)
            if same is not None:
                places = ops.expand_dims(ops.arange(side, dtype="float32"), 1)
                unit = places == ops.arange(old, dtype="float32")
                matrix = ops.where(same, ops.cast(unit, "float32"), matrix)
            grid = ops.moveaxis(ops.tensordot(matrix, grid, axes=(1, axis)), 0, axis)
    return grid


def _length(side, xp):
    """The length of a side as an array (1, 1), whatever it was."""
    side = ops.cast(side, "float32") if ops.is_tensor(side) else side
    return xp.ones((1, 1), dtype="float32") * side


def _resampling_matrix(old, new, mode):
    """The matrix (new, old) that resamples one side; `new` may be unknown to an exporter yet."""
    xp = np if isinstance(new, int) else ops
    length = _length(new, xp)
    index = xp.expand_dims(xp.arange(new, dtype="float32"), 1)  # (new, 1)
    source = xp.arange(old, dtype="float32")  # (old,)

    if mode == "flax":
        centre = index * ((old - 1) / xp.maximum(length - 1, 1))
        return xp.maximum(1.0 - xp.abs(source - centre), 0.0)

    length = length + DINOV2_OFFSET if mode == "dinov2" else length
    centre = (index + 0.5) * (old / length) - 0.5  # where a new cell's middle lies in the old grid
    if mode == "bilinear":
        centre = xp.clip(centre, 0, old - 1)
        return xp.maximum(1.0 - xp.abs(source - centre), 0.0)
    if mode == "timm":
        stretch = xp.maximum(old / length, 1.0)  # a wider kernel when shrinking: antialiasing
        weights = _cubic_kernel(xp, (source - centre) / stretch, a=-0.5)
        return weights / xp.sum(weights, axis=1, keepdims=True)
    # "hf", "dinov2": what falls outside the grid goes to the nearest cell of the border.
    taps = np.arange(-2, old + 2)
    fold = np.eye(old, dtype="float32")[np.clip(taps, 0, old - 1)]  # (old + 4, old)
    distance = xp.arange(-2, old + 2, dtype="float32") - centre  # (new, old + 4)
    return xp.matmul(_cubic_kernel(xp, distance, a=-0.75), fold)


def _cubic_kernel(xp, distance, a):
    """Keys' cubic convolution kernel (1981), zero from a distance of 2 on."""
    x = xp.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return xp.where(x <= 1, near, xp.where(x < 2, far, xp.zeros_like(x)))


def sincos_grid(size, width, temperature=10000.0):
    """Fixed 2D sin-cos embeddings of a grid: float32 (h, w, D).

    The first quarter of the channels is sin(x f), then cos(x f), sin(y f), cos(y f), where the
    frequencies f fall from 1 to 1 / temperature.

    Args:
        size: (h, w), ints, or scalar tensors where TensorFlow does not know them yet.
        width: int, D, a multiple of 4.
        temperature: float, the longest wavelength is 2 pi times it.

    Raises:
        ValueError: for a width that is no multiple of 4.

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


@keras.saving.register_keras_serializable(package="keras_vit")
class AddPositionEmbedding(ConfiguredLayer):
    """Adds to every token an embedding of its place in the image.

    Learned embeddings are kept for one grid, as `grid` (h, w, D), and for the prefix tokens, as
    `prefix` (P, D). For images of another size the grid is resampled at call time; the prefix is
    never touched.

    Args:
        grid_size: int or (h, w), the grid whose embeddings are learned.
        patch_size: int or (p, q), the size of a patch in pixels: it tells the images' grid.
        kind: "learned", or "sincos" for fixed ones, computed for the grid at hand.
        num_prefix_tokens: int, P, how many tokens in front of the sequence are no patches.
        prefix_positions: whether the prefix tokens have learned positions too (the class token
            of ViT has, that of DeiT III has not). Fixed positions have none for them.
        resample: "timm", "hf", "flax", "bilinear" or "dinov2": how the grid is resampled
            (`resample_grid`).

    Call arguments:
        tokens: float tensor (B, P + N, D).
        images: the tensor (B, H, W, C) that the patches were cut from; only its size is used.

    Returns:
        Tokens (B, P + N, D).

    Raises:
        ValueError: for another kind or mode, or prefix positions of kind "sincos".

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
        check_choice(resample, "resample", RESAMPLING_MODES)
        check_count(num_prefix_tokens, "num_prefix_tokens", minimum=0)
        if kind == "sincos" and prefix_positions:
            raise ValueError(
                "Sin-cos positions are those of patches; prefix tokens have none. Use "
                "kind='learned' or leave prefix_positions out. "
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
        # float32 whatever the policy: the embeddings are cast once they have been resampled.
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

    def call(self, tokens, images):
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

    def compute_output_shape(self, tokens_shape, images_shape=None):
        return tokens_shape

    def cost(self, tokens_shape, images_shape=None):
        return Cost(activations=tokens_shape[1] * tokens_shape[2])
