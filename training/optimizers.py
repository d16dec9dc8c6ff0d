"""AdamW with decay only where it belongs, and its schedule of rates."""

import keras

# Weight decay pulls towards zero. That is meant for the matrices of linear maps only: at zero a
# norm, a layer scale or a token is not simpler, it is dead.
NO_DECAY = ("bias", "gamma", "beta")
NO_DECAY_LAYERS = ("class_token", "registers", "position_embedding")


def adamw(model, learning_rate, weight_decay, warmup_steps, total_steps, clip_norm):
    """AdamW for a model, with warm-up, cosine decay to zero and clipping of the gradient.

    Args:
        model: `keras.Model` that is built.
        learning_rate: float, the rate at the end of the warm-up.
        weight_decay: float, share of the rate by which matrices shrink a step.
        warmup_steps: int, steps of linear growth from 0.
        total_steps: int, steps of the whole run; the rate ends at 0.
        clip_norm: float, largest norm of the whole gradient, or 0 for no clipping.

    Returns:
        `keras.optimizers.AdamW`.

    Raises:
        ValueError: if the warm-up is as long as the run.

    Sources: Loshchilov and Hutter 2019 (arXiv:1711.05101); warm-up, cosine and clipping as in
    Steiner et al. 2022 (arXiv:2106.10270).
    """
    optimizer = keras.optimizers.AdamW(
        warmup_cosine(learning_rate, warmup_steps, total_steps),
        weight_decay=weight_decay,
        global_clipnorm=clip_norm or None,
    )
    # By variable: Keras would match patterns with names, and every kernel is named "kernel".
    excluded = [v for v in model.trainable_variables if not decays(v.path)]
    optimizer.exclude_from_weight_decay(var_list=excluded)
    return optimizer


def warmup_cosine(learning_rate, warmup_steps, total_steps):
    """Linear growth from 0 to `learning_rate`, then half a cosine down to 0 at `total_steps`."""
    if warmup_steps >= total_steps:
        raise ValueError(
            "optimizer.warmup_steps must be fewer than the steps of the run; lower it or raise "
            f"train.epochs. Received: warmup_steps={warmup_steps}, {total_steps} steps"
        )
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else learning_rate,
        decay_steps=total_steps - warmup_steps,
        warmup_target=learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )


def decays(path):
    """Whether weight decay is for the variable at a path such as "block00/mlp/hidden/kernel"."""
    *layers, name = path.split("/")
    return name not in NO_DECAY and not any(layer in NO_DECAY_LAYERS for layer in layers)
