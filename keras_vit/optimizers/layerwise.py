"""Optimizers with a learning rate factor and a weight decay switch for each variable."""

import warnings

import keras
from keras import ops

from keras_vit.optimizers.fused import adam_step, fuse, sgd_step


class _Layerwise:
    """Mixin of an optimizer: a learning rate factor and a weight decay switch for each variable."""

    def _set(self, weight_decay, shares, decays):
        if not all(0 <= share < float("inf") for share in shares):
            raise ValueError(f"shares must be 0 or more. Received: shares={list(shares)}")
        if 0 in shares:
            warnings.warn(
                "Variables with a share of 0 are not trained, but their gradients are computed. "
                "Freeze their layers instead, with layer.trainable=False. "
                f"Received: shares={list(shares)}",
                stacklevel=3,
            )
        self.layer_weight_decay = weight_decay
        self.shares = list(shares)
        self.decays = list(decays)
        fuse(self)

    def build(self, variables):
        if not len(variables) == len(self.shares) == len(self.decays):
            raise ValueError(
                "shares and decays must have an entry for each trainable variable. Received: "
                f"{len(self.shares)} shares, {len(self.decays)} decays, {len(variables)} variables"
            )
        if self.layer_weight_decay and not any(self.decays):
            warnings.warn(
                f"weight_decay={self.layer_weight_decay} has no effect: decays is False for every "
                "variable.",
                stacklevel=2,
            )
        super().build(variables)

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Not supported: `decays` selects the variables that decay."""
        raise ValueError(
            f"exclude_from_weight_decay is not supported: pass decays=[...] to "
            f"{type(self).__name__}, with one entry for each trainable variable. "
            f"Received: var_list={var_list}, var_names={var_names}"
        )

    def update_step(self, gradient, variable, learning_rate):
        # By index, because on TensorFlow this is not the Keras variable and has no path.
        index = self._get_variable_index(variable)
        rate = ops.cast(learning_rate, variable.dtype) * self.shares[index]
        if self.decays[index] and self.layer_weight_decay:
            self.assign_sub(variable, variable * (rate * self.layer_weight_decay))
        super().update_step(gradient, variable, rate)

    def get_config(self):
        return {
            **super().get_config(),
            "weight_decay": self.layer_weight_decay,
            "shares": self.shares,
            "decays": self.decays,
        }


@keras.saving.register_keras_serializable(package="keras_vit")
class LayerwiseAdamW(_Layerwise, keras.optimizers.Adam):
    """AdamW with a learning rate factor and a weight decay switch for each variable.

    Args:
        learning_rate: float or `keras.optimizers.schedules.LearningRateSchedule`.
        weight_decay: float, decoupled weight decay: each step subtracts `weight_decay` times the
            variable times its learning rate.
        shares: list of float, learning rate factor of each trainable variable, in the order of
            `model.trainable_variables`, such as from `layer_shares`.
        decays: list of bool in the same order, whether weight decay applies to the variable, such
            as from `decays`.
        **kwargs: further arguments of `keras.optimizers.Adam`.

    Raises:
        ValueError: if a share is negative or infinite, or the optimizer is built for another number
            of variables.

    Example:
        >>> optimizer = LayerwiseAdamW(
        ...     1e-3,
        ...     weight_decay=0.05,
        ...     shares=layer_shares(model, layer_decay=0.75),
        ...     decays=[decays(variable.path) for variable in model.trainable_variables],
        ... )
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> model.compile(optimizer, loss)

    Source: Loshchilov and Hutter 2019 (arXiv:1711.05101), algorithm 2.
    """

    _fused_step = staticmethod(adam_step)

    def __init__(self, learning_rate=1e-3, weight_decay=0.0, shares=(), decays=(), **kwargs):
        super().__init__(learning_rate, **kwargs)
        self._set(weight_decay, shares, decays)


@keras.saving.register_keras_serializable(package="keras_vit")
class LayerwiseSGD(_Layerwise, keras.optimizers.SGD):
    """SGD with a learning rate factor and a weight decay switch for each variable.

    Args:
        learning_rate, weight_decay, shares, decays: as in `LayerwiseAdamW`.
        momentum: float, such as 0.9.
        nesterov: bool, whether to use Nesterov's momentum.
        **kwargs: further arguments of `keras.optimizers.SGD`.

    Raises:
        ValueError: as `LayerwiseAdamW`.

    Example:
        >>> shares = head_shares(model, head_rate=10.0)
        >>> none = [False] * len(shares)
        >>> optimizer = LayerwiseSGD(0.01, momentum=0.9, shares=shares, decays=none)
    """

    _fused_step = staticmethod(sgd_step)

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.0,
        nesterov=False,
        weight_decay=0.0,
        shares=(),
        decays=(),
        **kwargs,
    ):
        super().__init__(learning_rate, momentum, nesterov, **kwargs)
        self._set(weight_decay, shares, decays)
