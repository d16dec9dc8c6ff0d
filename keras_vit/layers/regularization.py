"""Stochastic depth (`DropPath`) and `LayerScale` of residual branches."""

import functools

import keras
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.sublayer import direct
from keras_vit.layers.validation import check_rate


def drop(layer, x, training):
    """Applies a `Dropout` or `DropPath` layer, but skips the call if it would be the identity.

    A block has six such layers, and each call costs about 0.1 ms on PyTorch without a compiler.
    """
    return x if training is False or not layer.rate else layer(x, training=training)


def active(layer, training):
    """The `Dropout` layer as a function, or None if it would be the identity."""
    return functools.partial(layer, training=True) if training and layer.rate else None


@keras.saving.register_keras_serializable(package="keras_vit")
class DropPath(ConfiguredLayer):
    """Drops a residual branch for random samples of the batch (stochastic depth).

    During training each sample is set to zero with probability `rate`, and the others are divided
    by `1 - rate`, so that the expected value does not change. At inference it is the identity.

    Args:
        rate: float in [0, 1), probability of dropping a sample.
        seed: int, random seed, or None.

    Call arguments:
        inputs: float tensor (B, ...).
        training: bool, whether to drop samples.

    Returns:
        Tensor of the same shape as the input.

    Raises:
        ValueError: if the rate is outside [0, 1).

    Example:
        >>> DropPath(0.1)(np.ones((8, 197, 768)), training=True).shape
        (8, 197, 768)

    Source: Huang et al. 2016 (arXiv:1603.09382), scaled during training as in timm and big_vision.
    """

    def __init__(self, rate=0.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        check_rate(rate, "rate")
        self.rate = rate
        self.seed = seed
        if rate > 0:
            self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs, training=None):
        if not training or self.rate == 0:
            return inputs
        keep = 1.0 - self.rate
        shape = (ops.shape(inputs)[0], *[1] * (len(inputs.shape) - 1))  # (B, 1, ...)
        # Drawn in float32, because float16 has too few numbers in [0, 1) for an exact rate.
        drawn = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        return inputs * ops.cast(ops.where(drawn < keep, 1.0 / keep, 0.0), inputs.dtype)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape


@direct
@keras.saving.register_keras_serializable(package="keras_vit")
class LayerScale(ConfiguredLayer):
    """Multiplies each channel by a learned factor with a small initial value.

    Args:
        initial_value: float, initial value of every factor (0.1 to 1e-6 in CaiT, 1e-5 in DINOv2).

    Call arguments:
        inputs: float tensor (..., D).

    Returns:
        Tensor of the same shape as the input.

    Raises:
        ValueError: if `initial_value` is not a number.

    Example:
        >>> LayerScale(1e-5)(np.ones((1, 197, 768))).shape
        (1, 197, 768)

    Source: Touvron et al. 2021 (arXiv:2103.17239), equation 4.
    """

    def __init__(self, initial_value=1e-5, **kwargs):
        super().__init__(**kwargs)
        if isinstance(initial_value, bool) or not isinstance(initial_value, (int, float)):
            raise ValueError(
                f"initial_value must be a number. Received: initial_value={initial_value!r}"
            )
        self.initial_value = initial_value

    def build(self, inputs_shape):
        self.gamma = self.add_weight(
            shape=(inputs_shape[-1],),
            initializer=keras.initializers.Constant(self.initial_value),
            name="gamma",
        )

    def call(self, inputs):
        return inputs * ops.cast(self.gamma, inputs.dtype)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape
