"""Layer-wise learning rates, selective weight decay, and learning rate schedules.

They are part of the library, and not of the training recipes, because a `.keras` file of a trained
model needs them to load.
"""

import math
import warnings

import keras
from keras import ops

from keras_vit.layers import Block

# Weight decay applies to matrices only, as in DeiT's code and big_vision: not to biases,
# normalisations, LayerScale, tokens and position embeddings.
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
    """Whether weight decay should apply to a variable.

    Args:
        path: str, path of the variable, such as "block00/mlp/fc1/kernel".

    Returns:
        bool, True for matrices, False for biases, normalisations, LayerScale, tokens and position
        embeddings.

    Example:
        >>> decays("block00/mlp/fc1/kernel"), decays("block00/norm1/gamma")
        (True, False)
    """
    *layers, name = path.split("/")
    # Only the end of a layer's name is compared: models with stages prefix it with the stage.
    return name not in NO_DECAY and not any(layer.endswith(NO_DECAY_LAYERS) for layer in layers)


def layer_shares(model, layer_decay):
    """The learning rate factors of layer-wise learning rate decay.

    The factor is 1 for the head and the last normalisation, `layer_decay` for the last block, its
    square for the block before, and smallest for the layers before the first block.

    Args:
        model: model of this library, or another functional model with blocks
            (`keras_vit.layers.Block`).
        layer_decay: float, factor from one block to the block before, such as 0.75.

    Returns:
        list of float, one per trainable variable, in the order of `model.trainable_variables`.

    Example:
        >>> shares = layer_shares(keras_vit.ViTTiny(num_classes=10), layer_decay=0.5)
        >>> shares[0], shares[-1]  # patch embedding, head
        (0.0001220703125, 1.0)

    Source: Clark et al. 2020 (arXiv:2003.10555); Bao et al. 2022 (arXiv:2106.08254) for ViT.
    """
    # Number of blocks after a layer; a layer between two blocks counts with the later one.
    distances, blocks = {}, 0
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

    def __init__(self, learning_rate=1e-3, weight_decay=0.0, shares=(), decays=(), **kwargs):
        super().__init__(learning_rate, **kwargs)
        if not all(0 <= share < float("inf") for share in shares):
            raise ValueError(f"shares must be 0 or more. Received: shares={list(shares)}")
        if 0 in shares:
            warnings.warn(
                "Variables with a share of 0 are not trained, but their gradients are computed. "
                "Freeze their layers instead, with layer.trainable=False. "
                f"Received: shares={list(shares)}",
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
        """Not supported: `decays` selects the variables that decay."""
        raise ValueError(
            "exclude_from_weight_decay is not supported: pass decays=[...] to LayerwiseAdamW, with "
            "one entry for each trainable variable. "
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
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate schedule with a linear warm-up, a decay, and a linear cool-down.

    Args:
        learning_rate: float, learning rate at the end of the warm-up.
        total_steps: int, number of steps (batches) of the whole run.
        warmup_steps: int, number of steps of linear growth from 0.
        shape: str, the decay after the warm-up: "cosine" (half a cosine, to 0 at the last step),
            "linear" (to 0 at the last step), "rsqrt" (1 / sqrt(1 + steps / timescale)) or
            "constant".
        cooldown_steps: int, number of last steps over which the rate is multiplied by a factor that
            falls linearly to 0.
        timescale: int, number of steps in which "rsqrt" falls by a factor of sqrt(2).

    Raises:
        ValueError: if the shape is unknown, the rate or a number of steps is negative, or no steps
            remain between warm-up and cool-down.

    Example:
        >>> float(WarmupSchedule(2.0, total_steps=110, warmup_steps=10)(60))
        1.0

    Sources: Loshchilov and Hutter 2017 (arXiv:1608.03983) for "cosine"; Zhai et al. 2022
    (arXiv:2106.04560), section 3.5, and big_vision `utils.py` for "rsqrt" with a cool-down.
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
            warnings.warn("Nothing is learned with learning_rate=0.", stacklevel=2)
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
