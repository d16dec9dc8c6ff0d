"""Stochastic depth and learned scaling of the residual branches."""

import functools

import keras
from keras import ops

from keras_vit.layers.configured import ConfiguredLayer
from keras_vit.layers.validation import check_rate


def drop(layer, x, training):
    """`layer(x)`, a `Dropout` or `DropPath`, called only where it does something.

    A block would call six of them for nothing, which PyTorch, without a compiler, spends a tenth of
    a millisecond each on.
    """
    return x if training is False or not layer.rate else layer(x, training=training)


def active(layer, training):
    """The `Dropout` layer as a function where it does something, or None."""
    return functools.partial(layer, training=True) if training and layer.rate else None


@keras.saving.register_keras_serializable(package="keras_vit")
class DropPath(ConfiguredLayer):
    """Drops a whole residual branch for some samples of the batch (stochastic depth).

    In training each sample is zeroed with probability `rate` and the others are divided by
    `1 - rate`, so that the expectation stays; at inference it is the identity.

    Args:
        rate: float in [0, 1), the probability of dropping a sample.
        seed: int or None.

    Call arguments:
        inputs: float tensor (B, ...).
        training: whether to drop.

    Returns:
        Tensor of the inputs' shape.

    Example:
        >>> DropPath(0.1)(np.ones((8, 197, 768)), training=True).shape
        (8, 197, 768)

    Source: Huang et al. 2016 (arXiv:1603.09382), scaled in training as timm and big_vision do.
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
        # Drawn in float32: float16 has too few numbers in [0, 1) for an exact rate.
        drawn = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        return inputs * ops.cast(ops.where(drawn < keep, 1.0 / keep, 0.0), inputs.dtype)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape


@keras.saving.register_keras_serializable(package="keras_vit")
class LayerScale(ConfiguredLayer):
    """Multiplies each channel by a learned factor that starts small.

    Args:
        initial_value: float, where every factor starts (1e-4 to 0.1 in CaiT, 1e-5 in DINOv2).

    Call arguments:
        inputs: float tensor (..., D).

    Returns:
        Tensor of the inputs' shape.

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
        return inputs * self.gamma

    def compute_output_shape(self, inputs_shape):
        return inputs_shape
