"""The optimizer of a recipe: rule, schedule, weight decay, clipping, accumulation, EMA."""

import math
import re

import keras

from keras_vit.optimizers import (
    LayerwiseAdamW,
    LayerwiseSGD,
    WarmupSchedule,
    backbone_shares,
    decays,
    head_shares,
    layer_shares,
)
from keras_vit.optimizers.schedules import SHAPES

NAMES = ("adamw", "lion", "muon", "sgd")


def optimizer(
    model,
    total_steps,
    name="adamw",
    learning_rate=1e-3,
    schedule="cosine",
    warmup_steps=0,
    cooldown_steps=0,
    weight_decay=0.0,
    beta_2=0.0,
    clip_norm=0.0,
    layer_decay=1.0,
    accumulate=1,
    ema=0.0,
    min_learning_rate=0.0,
    head_rate=1.0,
    backbone_rate=1.0,
    decay_all=False,
    drop_at=2 / 3,
    nesterov=True,
    skip_nonfinite=False,
):
    """Creates the optimizer of a recipe for `model.compile`.

    Args:
        model: `keras.Model` that is built. Frozen weights are not trained.
        total_steps: int, number of steps (batches) of the whole run.
        name: "adamw", "lion", "muon" (for matrices, with AdamW for the rest) or "sgd" (momentum
            0.9).
        learning_rate: float, learning rate at the end of the warm-up.
        schedule: str, the `shape` of `WarmupSchedule`.
        warmup_steps, cooldown_steps: int, as in `WarmupSchedule`.
        weight_decay: float, decoupled weight decay of matrices.
        beta_2: float in [0, 1), decay rate of the second moment in "adamw", or of the momentum in
            "lion"; 0 for Keras's default.
        clip_norm: float, largest global norm of the gradient, or 0 for no clipping.
        layer_decay: float in (0, 1], factor of the learning rate from one block to the block
            before, for fine-tuning; only for "adamw".
        accumulate: int, number of batches whose gradients are averaged for one update.
        ema: float in [0, 1), momentum per update of the moving average of the weights, such as
            0.9999; 0 for no average. `model.fit` ends with the average in the model.
        min_learning_rate: float, learning rate at the end of schedule "poly".
        head_rate: float, factor of the learning rate of the head (`head_shares`); only for "adamw"
            and "sgd".
        backbone_rate: float, factor of the learning rate of the backbone (`backbone_shares`); only
            for "adamw" and "sgd".
        decay_all: bool, whether weight decay applies to all variables, not only to matrices.
        drop_at: float in (0, 1), share of the steps after which schedule "step" drops.
        nesterov: bool, whether "sgd" uses Nesterov's momentum.
        skip_nonfinite: bool, whether steps whose gradients are not finite are skipped.

    Returns:
        `keras.optimizers.Optimizer`.

    Raises:
        ValueError: if a name is unknown, warm-up and cool-down are as long as the run, or the
            optimizer would ignore an argument.

    Example:
        >>> model.compile(optimizer(model, total_steps=1000, weight_decay=0.05), loss)

    Sources: Loshchilov and Hutter 2019 (arXiv:1711.05101), AdamW; Chen et al. 2023
    (arXiv:2302.06675), Lion; Liu et al. 2025 (arXiv:2502.16982), Muon; Bao et al. 2022
    (arXiv:2106.08254), rates by layer.
    """
    if name not in NAMES:
        raise ValueError(f"optimizer.name must be one of {', '.join(NAMES)}. Received: {name!r}")
    if schedule not in SHAPES:
        raise ValueError(
            f"optimizer.schedule must be one of {', '.join(SHAPES)}. Received: {schedule!r}"
        )
    if layer_decay != 1 and name != "adamw":
        raise ValueError(
            "optimizer.layer_decay needs optimizer.name='adamw'. "
            f"Received: layer_decay={layer_decay}, name={name!r}"
        )
    if beta_2 and name not in ("adamw", "lion"):
        raise ValueError(
            "optimizer.beta_2 needs optimizer.name='adamw' or 'lion'. "
            f"Received: beta_2={beta_2}, name={name!r}"
        )
    for key, rate in (("head_rate", head_rate), ("backbone_rate", backbone_rate)):
        if rate != 1 and name not in ("adamw", "sgd"):
            raise ValueError(
                f"optimizer.{key} needs optimizer.name='adamw' or 'sgd'. "
                f"Received: {key}={rate}, name={name!r}"
            )
    settings = dict(
        learning_rate=WarmupSchedule(
            learning_rate,
            total_steps,
            warmup_steps,
            schedule,
            cooldown_steps,
            min_learning_rate=min_learning_rate,
            drop_at=drop_at,
        ),
        weight_decay=weight_decay,
        global_clipnorm=clip_norm or None,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
        use_ema=ema > 0,
        # Keras updates the average after every batch, also while gradients are accumulated.
        ema_momentum=ema ** (1 / accumulate) if ema else 0.99,
    )
    if beta_2:
        settings["beta_2"] = beta_2
    if name == "sgd":
        settings |= {"momentum": 0.9, "nesterov": nesterov}
    shares = None
    if not layer_decay == head_rate == backbone_rate == 1:
        parts = (
            layer_shares(model, layer_decay),
            head_shares(model, head_rate),
            backbone_shares(model, backbone_rate),
        )
        shares = [math.prod(own) for own in zip(*parts, strict=True)]
    decayed = [decay_all or decays(v.path) for v in model.trainable_variables]
    found = _rule(model, name, shares, decayed, weight_decay, settings)
    if skip_nonfinite and model.dtype_policy.name != "mixed_float16":
        # It skips steps whose gradients are not finite; a scale of 1 changes nothing else.
        found = keras.optimizers.LossScaleOptimizer(found, 1.0, dynamic_growth_steps=2**31 - 1)
    return found


def updates(model):
    """The number of updates that the optimizer of a compiled model has made.

    Batches whose gradients are accumulated count as one update.
    """
    # The cast, because TensorFlow's variables on several devices cannot be converted directly.
    return int(keras.ops.cast(model.optimizer.iterations, "int32"))


def _rule(model, name, shares, decayed, weight_decay, settings):
    """The optimizer of this name; `decayed` says which variables have weight decay."""
    variables = model.trainable_variables
    if shares:
        layerwise = {"adamw": LayerwiseAdamW, "sgd": LayerwiseSGD}[name]
        return layerwise(shares=shares, decays=decayed, **settings)
    spared = [v for v, decay in zip(variables, decayed, strict=True) if not decay]
    if name == "muon":
        # Keras uses AdamW for weights that are not matrices, and for names that match these.
        plain = [v for v in variables if not decays(v.path) or "head" in v.path]
        exclude = [re.escape(v.path) for v in plain]
        found = keras.optimizers.Muon(
            exclude_layers=exclude, adam_weight_decay=weight_decay, **settings
        )
    else:
        found = {
            "adamw": lambda: keras.optimizers.AdamW(**settings),
            "lion": lambda: keras.optimizers.Lion(**settings),
            "sgd": lambda: keras.optimizers.SGD(**settings),
        }[name]()
    # By variable, because Keras matches patterns with names, and every kernel is named "kernel".
    found.exclude_from_weight_decay(var_list=spared)
    return found
