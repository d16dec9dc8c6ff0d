"""Layer-wise learning rates, selective weight decay, and learning rate schedules.

They belong to the library, not to the training recipes, because a trained `.keras` file needs them
to load.
"""

import math
import warnings

import keras
from keras import ops

from keras_vit.layers import Block

# Only the matrices of linear maps decay. Biases, norms, layer scales and tokens do not: pulled to
# zero they would stop working instead of becoming simpler.
NO_DECAY = ("bias", "query_bias", "value_bias", "gamma", "beta", "probe", "logit_scale")
NO_DECAY_LAYERS = (
    "class_token",
    "distillation_token",
    "registers",
    "position_embedding",
    "position_bias",
)
SHAPES = ("cosine", "linear", "rsqrt", "constant")
TIMESCALE = 10_000  # batches


def decays(path):
    """Whether weight decay applies to the variable at a path such as "block00/mlp/fc1/kernel"."""
    *layers, name = path.split("/")
    # The last part of a layer's name counts: models with stages put the stage before it.
    return name not in NO_DECAY and not any(layer.endswith(NO_DECAY_LAYERS) for layer in layers)


def layer_shares(model, layer_decay):
    """The factor of the learning rate for every trainable variable, as a list of floats.

    It is 1 for the head and the last norm, `layer_decay` for the last block, its square for the
    block before, and smallest for the patch embedding.
    """
    distances, blocks = {}, 0  # from the end; a layer between two blocks counts with the later one
    for layer in reversed(model.layers):
        blocks += isinstance(layer, Block)
        distances[layer.name] = blocks
    for layer in model.layers:
        if isinstance(layer, Block):
            break
        distances[layer.name] = blocks + 1
    owners = {id(v): layer.name for layer in model.layers for v in layer.trainable_variables}
    return [layer_decay ** distances[owners[id(v)]] for v in model.trainable_variables]


@keras.saving.register_keras_serializable(package="keras_vit")
class LayerwiseAdamW(keras.optimizers.Adam):
    """AdamW with a factor of the learning rate for each variable, applied to its decay too.

    Args:
        learning_rate: float or schedule.
        weight_decay: float, decoupled weight decay; each step subtracts `rate * weight_decay`
            times the variable.
        shares: list of floats, the factor for each trainable variable, in the model's order.
        decays: list of bools in the same order, whether the variable decays.
        **kwargs: of `keras.optimizers.Adam`.

    Raises:
        ValueError: for a negative share, or when built for another number of variables.
    """

    def __init__(self, learning_rate=1e-3, weight_decay=0.0, shares=(), decays=(), **kwargs):
        super().__init__(learning_rate, **kwargs)
        if not all(0 <= share < float("inf") for share in shares):
            raise ValueError(f"shares must be 0 or more. Received: shares={list(shares)}")
        if 0 in shares:
            warnings.warn(
                "Variables with a share of 0 are not trained, at the cost of training them. Freeze "
                f"their layers by layer.trainable=False. Received: shares={list(shares)}",
                stacklevel=2,
            )
        self.layer_weight_decay = weight_decay
        self.shares = list(shares)
        self.decays = list(decays)

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
        """Not supported, since `decays` says which variables decay."""
        raise ValueError(
            "Pass decays=[...] to LayerwiseAdamW, one entry for each trainable variable. "
            f"Received: var_list={var_list}, var_names={var_names}"
        )

    def update_step(self, gradient, variable, learning_rate):
        # By index: on TensorFlow the variable is not Keras's own here and has no path.
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
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate with linear warm-up, a shape, and a linear cool-down.

    Args:
        learning_rate: float, the rate at the end of the warm-up.
        total_steps: int, batches of the whole run.
        warmup_steps: int, batches of linear growth.
        shape: "cosine" (half a cosine to 0 at the end), "linear" (a line to 0), "rsqrt" (one over
            the square root of the steps, falling from the end of the warm-up) or "constant".
        cooldown_steps: int, last batches, over which the rate is also scaled down to 0 linearly.
        timescale: int, batches after which "rsqrt" has fallen by the square root of 2.

    Raises:
        ValueError: for another shape, a negative rate, negative numbers of steps, or a
            warm-up and cool-down that leave nothing between them.

    Example:
        >>> float(WarmupSchedule(2.0, total_steps=110, warmup_steps=10)(60))
        1.0

    Sources: Loshchilov and Hutter 2017 (arXiv:1608.03983), cosine; Zhai et al. 2022
    (arXiv:2106.04560), section 3.5, and big_vision `utils.py`, rsqrt with a cool-down.
    """

    def __init__(
        self,
        learning_rate,
        total_steps,
        warmup_steps=0,
        shape="cosine",
        cooldown_steps=0,
        timescale=TIMESCALE,
    ):
        super().__init__()
        if shape not in SHAPES:
            raise ValueError(
                f"shape must be one of {', '.join(map(repr, SHAPES))}. Received: shape={shape!r}"
            )
        if not 0 <= learning_rate < float("inf"):
            raise ValueError(
                f"learning_rate must be 0 or more. Received: learning_rate={learning_rate}"
            )
        if learning_rate == 0:
            warnings.warn("Nothing is learned at learning_rate=0.", stacklevel=2)
        if warmup_steps < 0 or cooldown_steps < 0 or timescale <= 0:
            raise ValueError(
                "warmup_steps and cooldown_steps must be 0 or more, timescale above 0. "
                f"Received: warmup_steps={warmup_steps}, cooldown_steps={cooldown_steps}, "
                f"timescale={timescale}"
            )
        if timescale != TIMESCALE and shape != "rsqrt":
            warnings.warn(
                f"timescale={timescale} has no effect with shape={shape!r}.", stacklevel=2
            )
        if warmup_steps + cooldown_steps >= total_steps:
            raise ValueError(
                "warmup_steps + cooldown_steps must be less than total_steps: lower them, or train "
                f"for more epochs. Received: warmup_steps={warmup_steps}, "
                f"cooldown_steps={cooldown_steps}, total_steps={total_steps}"
            )
        self.learning_rate = learning_rate
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.shape = shape
        self.cooldown_steps = cooldown_steps
        self.timescale = timescale

    def __call__(self, step):
        step = ops.cast(step, "float32")
        after = ops.maximum(step - self.warmup_steps, 0.0)
        done = ops.minimum(after / (self.total_steps - self.warmup_steps), 1.0)
        rate = (
            self.learning_rate
            * {
                "cosine": lambda: 0.5 * (1.0 + ops.cos(math.pi * done)),
                "linear": lambda: 1.0 - done,
                "rsqrt": lambda: ops.rsqrt(1.0 + after / self.timescale),
                "constant": lambda: ops.ones_like(step),
            }[self.shape]()
        )
        if self.warmup_steps:
            rate = rate * ops.minimum(step / self.warmup_steps, 1.0)
        if self.cooldown_steps:
            left = ops.maximum(self.total_steps - step, 0.0)
            rate = rate * ops.minimum(left / self.cooldown_steps, 1.0)
        return rate

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "shape": self.shape,
            "cooldown_steps": self.cooldown_steps,
            "timescale": self.timescale,
        }
