"""The Swin transformer block: attention within windows that are shifted in every second block.

Letters: B batch, h x w map, D width, a x b window, W windows of a map, N = a*b, H heads.
"""

import keras
import numpy as np
from keras import ops

from keras_vit.layers.block import Block
from keras_vit.layers.cost import Cost
from keras_vit.layers.mlp import MLP
from keras_vit.layers.position_bias import CONVENTIONS
from keras_vit.layers.sublayer import direct, sublayer
from keras_vit.layers.validation import as_pair, check_choice, check_map
from keras_vit.layers.window_attention import WindowAttention
from keras_vit.layers.windows import merge_windows, partition_windows, shift_mask, shift_sizes
from keras_vit.ops.shapes import reshape


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class SwinBlock(Block):
    """Swin transformer block.

    Version 1 is x + attention(norm(x)), then x + mlp(norm(x)). Version 2 is x + norm(attention(x)),
    then x + norm(mlp(x)).

    If the size of the map is not a multiple of the window size, zeros are padded at the bottom and
    right, and removed afterwards. As in the reference implementations, queries attend to the
    padding too.

    Args:
        num_heads: int, number of attention heads; the width of the map must be a multiple of it.
        mlp_dim: int, hidden width of the MLP.
        window_size: int or (a, b).
        shifted: bool, whether the windows are shifted by half a window down and right.
        version: 1, or 2 (res-post-norm, scaled cosine attention, continuous position bias).
        pretrained_window_size: int or (a, b), for version 2 (`keras_vit.layers.WindowAttention`).
        convention: "authors" to pad the map before the shift, and not to shift if a window covers
            either side of the map; "timm" to shift before the padding, and to decide for each side
            separately; "torchvision" to pad before the shift, and to decide for each side
            separately.
        mlp: str, activation of the MLP (`keras_vit.layers.MLP`).
        qkv_bias: bool, whether the projection to queries, keys and values has a bias.
        dropout_rate: float in [0, 1), dropout after the attention and in the MLP.
        attention_dropout_rate: float in [0, 1), dropout on the attention scores.
        drop_path_rate: float in [0, 1), probability of dropping a residual branch for a sample.
        norm_epsilon: float, epsilon of every layer normalisation.
        remat: bool, whether training recomputes the block in the backward pass instead of keeping
            its intermediate results (gradient checkpointing).

    Call arguments:
        x: float tensor (B, h, w, D).
        training: bool, whether to apply dropout, drop path and `remat`.

    Returns:
        Map (B, h, w, D).

    Raises:
        ValueError: if a rate is outside [0, 1), or the input has another rank or a width that is
            not a multiple of `num_heads`.

    Example:
        >>> SwinBlock(num_heads=3, mlp_dim=384, shifted=True)(np.zeros((1, 56, 56, 96))).shape
        (1, 56, 56, 96)

    Sources: Liu et al. 2021 (arXiv:2103.14030), equation 3; Liu et al. 2022 (arXiv:2111.09883),
    section 3.2.
    """

    queries = "places"
    head_axis = 2  # after the windows

    def __init__(
        self,
        num_heads,
        mlp_dim,
        window_size=7,
        shifted=False,
        version=1,
        pretrained_window_size=None,
        convention="authors",
        mlp="gelu",
        qkv_bias=True,
        dropout_rate=0.0,
        attention_dropout_rate=0.0,
        drop_path_rate=0.0,
        norm_epsilon=1e-5,
        remat=False,
        **kwargs,
    ):
        super().__init__(remat=remat, **kwargs)
        check_choice(convention, "convention", CONVENTIONS)
        self.window_size = as_pair(window_size, "window_size")
        self.shifted = shifted
        self.version = version
        self.convention = convention
        layer = {"dtype": self.dtype_policy}
        attention = WindowAttention(
            num_heads,
            window_size,
            version,
            pretrained_window_size,
            qkv_bias=qkv_bias,
            attention_dropout_rate=attention_dropout_rate,
            dropout_rate=dropout_rate,
            name="attention",
            **layer,
        )
        self.add_branches(
            attention,
            MLP(mlp_dim, mlp, dropout_rate=dropout_rate, name="mlp", **layer),
            drop_path_rate=drop_path_rate,
            norm_epsilon=norm_epsilon,
            gamma_initializer="zeros" if version == 2 else "ones",  # 2 is the identity at first
        )

    def build(self, x_shape):
        check_map(x_shape, "SwinBlock")
        width = x_shape[-1]
        self.norm1.build(x_shape)
        self.attention.build((None, self.window_size[0] * self.window_size[1], width))
        self.norm2.build(x_shape)
        self.mlp.build((None, None, width))

    def call(self, x, training=None):
        return super().call(x, training)

    def compute(self, x, training=None):
        if self.version == 1:
            x = x + self.scaled(1, self._attend(sublayer(self.norm1, x), training), training)
            return x + self.scaled(2, self._mlp(sublayer(self.norm2, x), training), training)
        x = x + self.scaled(1, sublayer(self.norm1, self._attend(x, training)), training)
        return x + self.scaled(2, sublayer(self.norm2, self._mlp(x, training)), training)

    def _mlp(self, x, training):
        _, h, w, width = ops.shape(x)
        tokens = reshape(x, (-1, h * w, width))
        return reshape(sublayer(self.mlp, tokens, training=training), (-1, h, w, width))

    def _attend(self, x, training):
        _, h, w, _ = ops.shape(x)
        windows, mask, (down, right), padded = self._windows(x, training)
        windows = sublayer(self.attention, windows, shift_mask=mask, training=training)
        x = merge_windows(windows, self.window_size, padded)
        if self.convention == "timm":
            return _rolled(x[:, :h, :w], down, right, training)
        return _rolled(x, down, right, training)[:, :h, :w]  # (B, h, w, D)

    def _windows(self, x, training):
        """Windows (B*W, N, D) of a map, their mask or None, the shift, and the padded size."""
        _, h, w, _ = ops.shape(x)
        a, b = self.window_size
        down, right = 0, 0
        if self.shifted:
            down, right = shift_sizes((h, w), self.window_size, self.convention)
        if self.convention == "timm":
            x, padded = _padded(_rolled(x, -down, -right, training), a, b)
        else:
            x, padded = _padded(x, a, b)
            x = _rolled(x, -down, -right, training)
        mask = None
        if not _is_zero(down, right):
            mask = shift_mask(padded, self.window_size, (down, right))
        return partition_windows(x, self.window_size), mask, (down, right), padded

    def attention_scores(self, x):
        """Computes the attention scores for an input (B, h, w, D): float32 (B, W, H, N, N)."""
        windows, mask, _, _ = self._windows(self.norm1(x) if self.version == 1 else x, False)
        _, scores = self.attention(windows, mask, return_attention_scores=True)
        return reshape(scores, (x.shape[0], -1, *scores.shape[1:]))

    def window_places(self, size):
        """The position in the map of each position in the windows of `attention_scores`.

        Args:
            size: (h, w), ints, size of the map.

        Returns:
            int array (W, N), the index of the position, row by row from 0, or -1 for padding.
        """
        h, w = size
        numbers = reshape(ops.arange(1, h * w + 1, dtype="float32"), (1, h, w, 1))
        windows, _, _, _ = self._windows(numbers, False)  # exact in float32 up to 2^24
        return ops.convert_to_numpy(windows)[..., 0].astype(int) - 1

    def scores_on_grid(self, scores, x_shape, grid, num_prefix_tokens):
        """Arranges scores (B, W, H, N, N) on the map: NumPy array (B, H, h*w, h, w)."""
        h, w = x_shape[1:3]
        batch, _, heads, _, _ = scores.shape
        places = self.window_places((h, w))  # (W, N)
        maps = np.zeros((batch, heads, h * w + 1, h * w + 1), "float32")  # the last for padding, -1
        queries, keys = places[:, :, None], places[:, None, :]
        maps[:, :, queries, keys] = scores.transpose(0, 2, 1, 3, 4)
        return maps[:, :, :-1, :-1].reshape(batch, heads, h * w, h, w)

    def query_grid(self, x_shape, grid):
        return x_shape[1:3]

    def compute_output_shape(self, x_shape):
        return x_shape

    def num_windows(self, x_shape):
        """int, W, number of windows of a map of shape (B, h, w, D), padding included."""
        return -(-x_shape[1] // self.window_size[0]) * -(-x_shape[2] // self.window_size[1])

    def num_scores(self, x_shape):
        """int, number of attention scores of a map of shape (B, h, w, D)."""
        places = self.window_size[0] * self.window_size[1]
        return self.num_heads * self.num_windows(x_shape) * places**2

    def full_cost(self, x_shape):
        _, h, w, width = x_shape
        windows = self.num_windows(x_shape)
        a, b = self.window_size
        macs, activations = self.attention.cost((None, a * b, width))
        norms_and_sums = Cost(activations=4 * h * w * width)
        total = Cost(windows * macs, windows * activations) + norms_and_sums
        return total + self.mlp.cost((None, h * w, width))


def _is_zero(*numbers):
    return all(isinstance(x, int) and x == 0 for x in numbers)


def _padded(x, a, b):
    """The map, padded with zeros to multiples of (a, b), and its new size."""
    _, h, w, _ = ops.shape(x)
    below, beside = -h % a, -w % b
    if not _is_zero(below, beside):
        x = ops.pad(x, ((0, 0), (0, below), (0, beside), (0, 0)))
    return x, (h + below, w + beside)


def _rolled(x, down, right, training):
    """The map, rolled by `down` rows and `right` columns.

    At inference by slices, because LiteRT has no `roll`; training on TensorFlow is faster with it.
    """
    if training:
        return x if _is_zero(down, right) else ops.roll(x, (down, right), axis=(1, 2))
    for axis, by in ((1, down), (2, right)):
        if not _is_zero(by):
            cut = -by % ops.shape(x)[axis]
            parts = (x[:, cut:], x[:, :cut]) if axis == 1 else (x[:, :, cut:], x[:, :, :cut])
            x = ops.concatenate(parts, axis=axis)
    return x
