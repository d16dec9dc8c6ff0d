"""Learning rate schedules."""

import math
import warnings

import keras
from keras import ops

SHAPES = ("cosine", "linear", "rsqrt", "constant", "poly", "step")
TIMESCALE = 10_000  # batches
POWER = 0.9  # of "poly"
DROP, DROP_AT = 0.1, 2 / 3  # of "step"


@keras.saving.register_keras_serializable(package="keras_vit")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate schedule with a linear warm-up, a decay, and a linear cool-down.

    Args:
        learning_rate: float, learning rate at the end of the warm-up.
        total_steps: int, number of steps (batches) of the whole run.
        warmup_steps: int, number of steps of linear growth from 0.
        shape: str, the decay after the warm-up: "cosine" (half a cosine, to 0 at the last step),
            "linear" (to 0 at the last step), "rsqrt" (1 / sqrt(1 + steps / timescale)),
            "constant", "poly" (to `min_learning_rate` by the power 0.9 of the share of the steps
            that is left), or "step" (a tenth from the share `drop_at` of all steps on).
        cooldown_steps: int, number of last steps over which the rate is multiplied by a factor that
            falls linearly to 0.
        timescale: int, number of steps in which "rsqrt" falls by a factor of sqrt(2).
        min_learning_rate: float, learning rate at the end of "poly".
        drop_at: float in (0, 1), share of the steps after which "step" drops.

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
        drop_at=DROP_AT,
    ):
        super().__init__()
        if not 0 < drop_at < 1:
            raise ValueError(f"drop_at must be in (0, 1). Received: drop_at={drop_at}")
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
        if drop_at != DROP_AT and shape != "step":
            warnings.warn(f"drop_at={drop_at} has no effect with shape={shape!r}.", stacklevel=2)
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
        self.drop_at = drop_at

    def __call__(self, step):
        step = ops.cast(step, "float32")
        after = ops.maximum(step - self.warmup_steps, 0.0)
        done = ops.minimum(after / (self.total_steps - self.warmup_steps), 1.0)
        if self.shape == "poly":
            span = self.learning_rate - self.min_learning_rate
            rate = self.min_learning_rate + span * ops.power(1.0 - done, POWER)
        elif self.shape == "step":
            dropped = step >= round(self.drop_at * self.total_steps)
            rate = self.learning_rate * ops.where(dropped, DROP, 1.0)
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
            "drop_at": self.drop_at,
        }
