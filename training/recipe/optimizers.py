"""The optimizer of a recipe: rule, schedule, decay, clipping, accumulation, average."""

import re

import keras

from keras_vit.optimizers import SHAPES, LayerwiseAdamW, WarmupSchedule, decays, layer_shares

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
    skip_nonfinite=False,
):
    """An optimizer for a model, ready for `model.compile`.

    Args:
        model: `keras.Model` that is built; what is frozen stays out.
        total_steps: int, batches of the whole run.
        name: "adamw", "lion", "muon" (matrices; AdamW for the rest) or "sgd" (Nesterov, 0.9).
        learning_rate: float, the highest rate.
        schedule, warmup_steps, cooldown_steps: see `WarmupSchedule`; counted in batches.
        weight_decay: float, share of the rate by which matrices shrink a step.
        beta_2: float in [0, 1), how long "adamw" and "lion" remember; 0 for their own default.
        clip_norm: float, largest norm of the whole gradient, or 0 for no clipping.
        layer_decay: float in (0, 1], how much slower every layer learns than the next one, for
            fine-tuning; "adamw" alone.
        accumulate: int, batches whose gradients are averaged for one update.
        ema: float in [0, 1), momentum of the average of the weights from update to update (0.9999
            say); 0 for none. `model.fit` ends with the average in the model.
        skip_nonfinite: bool, whether a step whose gradient is not finite leaves the weights alone.

    Returns:
        `keras.optimizers.Optimizer`.

    Raises:
        ValueError: for unknown names, a warm-up and cool-down as long as the run, or an argument
            that the named optimizer would ignore.

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
    settings = dict(
        learning_rate=WarmupSchedule(
            learning_rate, total_steps, warmup_steps, schedule, cooldown_steps
        ),
        weight_decay=weight_decay,
        global_clipnorm=clip_norm or None,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
        use_ema=ema > 0,
        # Keras averages after every batch, also those that are only accumulated.
        ema_momentum=ema ** (1 / accumulate) if ema else 0.99,
    )
    if beta_2:
        settings["beta_2"] = beta_2
    found = _rule(model, name, layer_decay, weight_decay, settings)
    if skip_nonfinite and model.dtype_policy.name != "mixed_float16":
        # Where a scaled loss overflows, this leaves the step out; a scale of 1 changes nothing.
        found = keras.optimizers.LossScaleOptimizer(found, 1.0, dynamic_growth_steps=2**31 - 1)
    return found


def updates(model):
    """How often the optimizer of a compiled model has updated the weights: not every batch does."""
    # Of batches whose gradients are accumulated, all as one. TensorFlow's variables of several
    # devices are no numbers, what is computed of them is.
    return int(keras.ops.cast(model.optimizer.iterations, "int32"))


def _rule(model, name, layer_decay, weight_decay, settings):
    """The optimizer of that name, which decays what should decay."""
    variables = model.trainable_variables
    if layer_decay != 1:
        return LayerwiseAdamW(
            shares=layer_shares(model, layer_decay),
            decays=[decays(v.path) for v in variables],
            **settings,
        )
    if name == "muon":
        # Keras gives to AdamW what is no matrix, and what these patterns find by name.
        exclude = [re.escape(v.path) for v in variables if not decays(v.path) or "head" in v.path]
        found = keras.optimizers.Muon(
            exclude_layers=exclude, adam_weight_decay=weight_decay, **settings
        )
    else:
        found = {
            "adamw": lambda: keras.optimizers.AdamW(**settings),
            "lion": lambda: keras.optimizers.Lion(**settings),
            "sgd": lambda: keras.optimizers.SGD(momentum=0.9, nesterov=True, **settings),
        }[name]()
    # By variable: Keras would match patterns with names, and every kernel is named "kernel".
    found.exclude_from_weight_decay(var_list=[v for v in variables if not decays(v.path)])
    return found
