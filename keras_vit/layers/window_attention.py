"""Multi-head self-attention within windows, with a relative position bias.

Letters: B batch, W windows of a map, a x b window, N = a*b positions in it, D width, H heads,
K = D / H width of a head.
"""

import math

import keras
from keras import ops

from keras_vit.layers.attention import head_width
from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.cost import Cost, dense_cost
from keras_vit.layers.initializers import Initial
from keras_vit.layers.position_bias import ContinuousPositionBias, RelativePositionBias
from keras_vit.layers.regularization import active, drop
from keras_vit.layers.sublayer import direct
from keras_vit.layers.tokenwise import linear
from keras_vit.layers.validation import (
    as_pair,
    check_choice,
    check_count,
    check_rate,
    check_tokens,
)
from keras_vit.ops.attention import attend
from keras_vit.ops.shapes import reshape, unstack


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class WindowAttention(ConfiguredLayer):
    """Multi-head self-attention within each window, with a relative position bias.

    Version 1 adds a learned bias for every relative position to q kᵀ / sqrt(K). Version 2 uses the
    cosine of q and k, multiplied by a learned factor per head, and adds a bias that a small network
    computes from the relative position. Its keys have no bias term.

    Args:
        num_heads: int, H; the width of the tokens must be a multiple of it.
        window_size: int or (a, b).
        version: 1 or 2.
        pretrained_window_size: int or (a, b), for version 2: window size by which relative
            positions are normalised; by default `window_size`.
        qkv_bias: bool, whether queries, values and (in version 1) keys have a bias.
        attention_dropout_rate: float in [0, 1), dropout on the attention scores.
        dropout_rate: float in [0, 1), dropout after the output projection.

    Call arguments:
        windows: float tensor (B*W, N, D).
        shift_mask: float array (W, N, N), added to the logits of the W windows of each map, or
            None.
        training: bool, whether to apply dropout.
        return_attention_scores: bool, whether to return the scores too, before dropout. They are
            computed explicitly; without them the backend's fused kernel is used, if it has one.

    Returns:
        Windows (B*W, N, D), or (windows, float32 scores (B*W, H, N, N)). Each row of the scores
        sums to one.

    Raises:
        ValueError: if the input has another rank, windows of another size, or a width that is not a
            multiple of `num_heads`.

    Example:
        >>> WindowAttention(3, window_size=7)(np.zeros((64, 49, 96))).shape
        (64, 49, 96)

    Sources: Liu et al. 2021 (arXiv:2103.14030), section 3.2; Liu et al. 2022 (arXiv:2111.09883),
    sections 3.2 and 3.3.
    """

    def __init__(
        self,
        num_heads,
        window_size=7,
        version=1,
        pretrained_window_size=None,
        qkv_bias=True,
        attention_dropout_rate=0.0,
        dropout_rate=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_count(num_heads, "num_heads")
        check_choice(version, "version", (1, 2))
        check_rate(attention_dropout_rate, "attention_dropout_rate")
        check_rate(dropout_rate, "dropout_rate")
        if pretrained_window_size is not None:
            pretrained_window_size = as_pair(pretrained_window_size, "pretrained_window_size")
        self.num_heads = num_heads
        self.window_size = as_pair(window_size, "window_size")
        self.version = version
        self.pretrained_window_size = pretrained_window_size
        self.qkv_bias = qkv_bias
        self.attention_dropout_rate = attention_dropout_rate
        self.dropout_rate = dropout_rate

    def build(self, windows_shape):
        check_tokens(windows_shape, "WindowAttention")
        _, n, width = windows_shape
        if n not in (None, self.window_size[0] * self.window_size[1]):
            raise ValueError(
                "WindowAttention expects windows of shape (batch * windows, "
                f"{self.window_size[0] * self.window_size[1]}, width) for its window_size. "
                f"Received: shape={tuple(windows_shape)}, window_size={self.window_size}"
            )
        self.head_dim = head_width(width, self.num_heads)
        layer = {"dtype": self.dtype_policy}
        normal = {"kernel_initializer": Initial(keras.initializers.TruncatedNormal(stddev=0.02))}
        whole = self.qkv_bias and self.version == 1
        self.qkv = keras.layers.Dense(3 * width, use_bias=whole, name="qkv", **normal, **layer)
        self.proj = keras.layers.Dense(width, name="proj", **normal, **layer)
        self.qkv.build(windows_shape)
        self.proj.build(windows_shape)
        if self.version == 1:
            self.position_bias = RelativePositionBias(
                self.num_heads, self.window_size, name="position_bias", **layer
            )
        else:
            self.logit_scale = self.add_weight(
                shape=(self.num_heads,),
                initializer=keras.initializers.Constant(math.log(10)),
                autocast=False,
                name="logit_scale",
            )
            if self.qkv_bias:
                self.query_bias, self.value_bias = (
                    self.add_weight(shape=(width,), initializer="zeros", name=name)
                    for name in ("query_bias", "value_bias")
                )
            self.position_bias = ContinuousPositionBias(
                self.num_heads,
                self.window_size,
                self.pretrained_window_size,
                name="position_bias",
                **layer,
            )
        self.position_bias.build()
        self.attention_dropout = keras.layers.Dropout(
            self.attention_dropout_rate, name="attention_dropout", **layer
        )
        self.dropout = keras.layers.Dropout(self.dropout_rate, name="dropout", **layer)

    def call(self, windows, shift_mask=None, training=None, return_attention_scores=False):
        _, n, width = ops.shape(windows)
        qkv = linear(self.qkv, windows)  # (B*W, N, 3D)
        if self.version == 2 and self.qkv_bias:
            bias = ops.concatenate([self.query_bias, self.query_bias * 0, self.value_bias])
            qkv = qkv + ops.cast(bias, qkv.dtype)
        qkv = reshape(qkv, (-1, n, 3, self.num_heads, self.head_dim))
        q, k, v = unstack(qkv, axis=2)  # (B*W, N, H, K) each
        scale = None
        if self.version == 2:
            factors = ops.exp(ops.minimum(self.logit_scale, math.log(100)))[:, None]  # (H, 1)
            q, k, scale = ops.cast(_unit(q) * factors, v.dtype), ops.cast(_unit(k), v.dtype), 1.0

        bias = self.position_bias.bias()[None]  # (1, H, N, N)
        if shift_mask is not None:
            bias = bias + ops.cast(shift_mask, bias.dtype)[:, None]  # (W, H, N, N)
        x, scores = attend(  # (B*W, N, H, K), (B*W, H, N, N)
            q,
            k,
            v,
            bias=bias,
            scale=scale,
            dropout=active(self.attention_dropout, training),
            return_scores=return_attention_scores,
        )
        x = reshape(x, (-1, n, width))
        x = drop(self.dropout, linear(self.proj, x), training)  # (B*W, N, D)
        return (x, scores) if return_attention_scores else x

    def compute_output_shape(self, windows_shape, shift_mask_shape=None):
        return windows_shape

    def cost(self, windows_shape):
        """`keras_vit.layers.cost.Cost` of one window."""
        _, n, width = windows_shape
        norms = Cost(activations=2 * n * width if self.version == 2 else 0)
        products = Cost(macs=2 * n * n * width, activations=n * width)  # q kᵀ and scores v
        return dense_cost(n, width, 3 * width) + norms + products + dense_cost(n, width, width)


def _unit(x):
    """Normalises vectors along the last axis to length one, in float32: float16 would overflow.

    The squared norm has a lower bound, because keys of padding are zeros, where the gradient of the
    square root is infinite.
    """
    x = ops.cast(x, "float32")
    return x * ops.rsqrt(ops.maximum(ops.sum(x * x, axis=-1, keepdims=True), 1e-24))
