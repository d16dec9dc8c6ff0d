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
# First layers of the weight paths of what a pre-trained encoder does not bring.
HEADS = ("head", "distillation_head", "decoder")
AUXILIARY = "auxiliary_head"  # and a number
SHAPES = ("cosine", "linear", "rsqrt", "constant", "poly")
TIMESCALE = 10_000  # batches
POWER = 0.9  # of "poly"


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
    # Layers beside the graph, such as auxiliary heads, come after all blocks.
    own = [distances.get(owners.get(id(v)), 0) for v in model.trainable_variables]
    return [layer_decay**distance for distance in own]


def head_shares(model, head_rate):
    """The learning rate factors of a model whose head learns at another rate than the rest.

    The head is what a pre-trained encoder does not bring: the classifiers `head` and
    `distillation_head`, or the `decoder` and the auxiliary heads of a task.

    Args:
        model: model of this library.
        head_rate: float, the factor of the head, such as 10; that of the rest is 1.

    Returns:
        list of float, one per trainable variable, in the order of `model.trainable_variables`.

    Example:
        >>> shares = head_shares(keras_vit.ViTTiny(num_classes=10), head_rate=10.0)
        >>> shares[0], shares[-1]  # patch embedding, head
        (1.0, 10.0)

    Source: Zheng et al. 2021 (arXiv:2012.15840), whose code multiplies the rate of every weight
    with "head" in its name by 10.
    """
    parts = [v.path.partition("/")[0] for v in model.trainable_variables]
    is_head = [part in HEADS or part.startswith(AUXILIARY) for part in parts]
    return [float(head_rate) if own else 1.0 for own in is_head]


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


@keras.saving.register_keras_serializable(package="keras_vit")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate schedule with a linear warm-up, a decay, and a linear cool-down.

    Args:
        learning_rate: float, learning rate at the end of the warm-up.
        total_steps: int, number of steps (batches) of the whole run.
        warmup_steps: int, number of steps of linear growth from 0.
        shape: str, the decay after the warm-up: "cosine" (half a cosine, to 0 at the last step),
            "linear" (to 0 at the last step), "rsqrt" (1 / sqrt(1 + steps / timescale)),
            "constant", or "poly" (to `min_learning_rate` by the power 0.9 of the share of the steps
            that is left).
        cooldown_steps: int, number of last steps over which the rate is multiplied by a factor that
            falls linearly to 0.
        timescale: int, number of steps in which "rsqrt" falls by a factor of sqrt(2).
        min_learning_rate: float, learning rate at the end of "poly".

    Raises:
        ValueError: if the shape is unknown, the rate or a number of steps is negative, or no steps
            remain between warm-up and cool-down.

    Example:
        >>> float(WarmupSchedule(2.0, total_steps=110, warmup_steps=10)(60))
        1.0

    Sources: Loshchilov and Hutter 2017 (arXiv:1608.03983) for "cosine"; Zhai et al. 2022
    (arXiv:2106.04560), section 3.5, and big_vision `utils.py` for "rsqrt" with a cool-down; mmcv
    `PolyLrUpdaterHook` for "poly".
    """

    def __init__(
        self,
        learning_rate,
        total_steps,
        warmup_steps=0,
        shape="cosine",
        cooldown_steps=0,
        timescale=TIMESCALE,
        min_learning_rate=0.0,
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
        if not 0 <= min_learning_rate <= learning_rate:
            raise ValueError(
                "min_learning_rate must be 0 or more, and at most learning_rate. Received: "
                f"min_learning_rate={min_learning_rate}, learning_rate={learning_rate}"
            )
        if min_learning_rate and shape != "poly":
            warnings.warn(
                f"min_learning_rate={min_learning_rate} has no effect with shape={shape!r}.",
                stacklevel=2,
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
        self.min_learning_rate = min_learning_rate

    def __call__(self, step):
        step = ops.cast(step, "float32")
        after = ops.maximum(step - self.warmup_steps, 0.0)
        done = ops.minimum(after / (self.total_steps - self.warmup_steps), 1.0)
        if self.shape == "poly":
            span = self.learning_rate - self.min_learning_rate
            rate = self.min_learning_rate + span * ops.power(1.0 - done, POWER)
        else:
            rate = self._decayed(after, done)
        if self.warmup_steps:
            rate = rate * ops.minimum(step / self.warmup_steps, 1.0)
        if self.cooldown_steps:
            left = ops.maximum(self.total_steps - step, 0.0)
            rate = rate * ops.minimum(left / self.cooldown_steps, 1.0)
        return rate

    def _decayed(self, after, done):
        """The rate `after` so many steps of the decay, which are the share `done` of it."""
        return (
            self.learning_rate
            * {
                "cosine": lambda: 0.5 * (1.0 + ops.cos(math.pi * done)),
                "linear": lambda: 1.0 - done,
                "rsqrt": lambda: ops.rsqrt(1.0 + after / self.timescale),
                "constant": lambda: ops.ones_like(after),
            }[self.shape]()
        )

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "shape": self.shape,
            "cooldown_steps": self.cooldown_steps,
            "timescale": self.timescale,
            "min_learning_rate": self.min_learning_rate,
        }
