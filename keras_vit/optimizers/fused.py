"""The step of an optimizer on PyTorch by few kernels over many variables, not by some for each.

Keras's classes keep their slots, configuration, schedules and accumulation. Only the arithmetic of
a step is replaced, and its results are the same up to rounding.
"""

import functools
import itertools
import types
from collections import defaultdict

import keras
from keras import ops

from keras_vit.fast_paths import fast_paths_enabled

DEVICES = ("cpu", "cuda")


def fuse(optimizer):
    """Lets an optimizer compute its steps by PyTorch's fused kernels.

    This has an effect on PyTorch alone, and on `keras.optimizers.Adam` and `AdamW` and the
    optimizers of this library; one of any other class, also of a subclass, stays as it is.
    Variables that are not in float32, and `amsgrad`, are updated by Keras, and so are all with
    `keras_vit.set_fast_paths(False)`.

    Args:
        optimizer: `keras.optimizers.Optimizer`, changed in place; or None.
    """
    if keras.config.backend() != "torch" or optimizer is None:
        return
    outer = optimizer
    optimizer = getattr(outer, "inner_optimizer", outer)  # of a LossScaleOptimizer
    own = vars(type(optimizer)).get("_fused_step")
    step = own.__func__ if own else _step_of_keras(type(optimizer))
    if step is None:
        return
    import torch

    # A method that somebody replaced for this object stays.
    if "apply" not in vars(outer):  # torch.compile, where Keras uses it, cannot trace the kernels
        outer.apply = types.MethodType(torch.compiler.disable(type(outer).apply), outer)
    for name, function in {"_backend_update_step": step, **COMMON}.items():
        if name not in vars(optimizer):
            setattr(optimizer, name, types.MethodType(_switch(name, function), optimizer))


class FusesOptimizer:
    """Mixin of a `keras.Model`: `fit` and `train_on_batch` fuse the optimizer's steps."""

    def make_train_function(self, force=False):
        fuse(self.optimizer)
        return super().make_train_function(force)


@functools.cache
def _step_of_keras(kind):
    # On PyTorch, Keras's constructors return objects of classes of its own.
    adam = {type(made()) for made in (keras.optimizers.Adam, keras.optimizers.AdamW)}
    return adam_step if kind in adam else None


def _switch(name, function):
    """The method `name` of an optimizer: `function` where it applies, Keras's own elsewhere."""

    def method(optimizer, *args):
        lists = (x for x in args if isinstance(x, (list, tuple)))
        if fast_paths_enabled() and not getattr(optimizer, "amsgrad", False) and _plain(*lists):
            import torch

            with torch.no_grad():
                return function(optimizer, *args)
        return getattr(type(optimizer), name)(optimizer, *args)

    return method


def _plain(*lists):
    """Whether these gradients and variables are float32 tensors that a fused kernel can take."""
    import torch

    owned = next((x for x in itertools.chain(*lists) if isinstance(x, keras.Variable)), None)
    if owned is not None and owned.value is not _value(owned):  # in a `keras.StatelessScope`
        return False
    for value in map(_value, itertools.chain(*lists)):
        if type(value) not in (torch.Tensor, torch.nn.Parameter):  # such as a DTensor
            return False
        if value.dtype != torch.float32 or value.device.type not in DEVICES:
            return False
    return True


def _value(variable):
    """The tensor of a variable; a tensor as it is. `Variable.value` looks for scopes each time."""
    return getattr(variable, "_value", variable)


def adam_step(optimizer, gradients, variables, learning_rate):
    """Adam's update of all variables, in the formula of Keras: epsilon is not bias-corrected.

    Args:
        optimizer: `keras.optimizers.Adam`, or a subclass with `shares` and `decays`.
        gradients: list of tensors.
        variables: list of `keras.Variable`, those of the gradients.
        learning_rate: float or scalar tensor.

    Source: Kingma and Ba 2015 (arXiv:1412.6980), the formulation before section 2.1.
    """
    import torch

    step = ops.cast(optimizer.iterations + 1, "float32")
    first, second = (1.0 - beta**step for beta in (optimizer.beta_1, optimizer.beta_2))
    rate = ops.cast(learning_rate, "float32")
    corrected = rate * torch.sqrt(second) / first
    # The kernel's own bias correction is 1 after infinitely many steps.
    done = torch.full((), float("inf"), device=step.device)
    for share, indices, values, slopes in _groups(optimizer, gradients, variables):
        _decay(optimizer, indices, values, rate * share)
        torch._fused_adamw_(
            values,
            slopes,
            [_value(optimizer._momentums[i]) for i in indices],
            [_value(optimizer._velocities[i]) for i in indices],
            [],
            [done] * len(values),
            lr=corrected * share,
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            weight_decay=0.0,
            eps=optimizer.epsilon,
            amsgrad=False,
            maximize=False,
        )


def sgd_step(optimizer, gradients, variables, learning_rate):
    """The update of SGD, as `keras.optimizers.SGD` computes it.

    Args:
        optimizer: `LayerwiseSGD`.
        gradients, variables, learning_rate: as of `adam_step`.
    """
    import torch

    for share, indices, values, slopes in _groups(optimizer, gradients, variables):
        rate = ops.cast(learning_rate, "float32") * share
        _decay(optimizer, indices, values, rate)
        change = torch._foreach_mul(slopes, -rate)
        if optimizer.momentum:
            momenta = [_value(optimizer.momentums[i]) for i in indices]
            torch._foreach_mul_(momenta, optimizer.momentum)
            torch._foreach_add_(momenta, change)
            if optimizer.nesterov:
                torch._foreach_add_(change, momenta, alpha=optimizer.momentum)
            else:
                change = momenta
        torch._foreach_add_(values, change)


def _groups(optimizer, gradients, variables):
    """Yields (share, indices, values, gradients) of the variables that learn at the same rate."""
    found = defaultdict(list)
    shares = getattr(optimizer, "shares", None)
    for gradient, variable in zip(gradients, variables, strict=True):
        index, value = optimizer._get_variable_index(variable), _value(variable)
        if gradient.stride() != value.stride():  # the kernels read both in the order of memory
            import torch

            gradient = torch.empty_like(value).copy_(gradient)
        found[shares[index] if shares else 1.0].append((index, value, gradient))
    for share, members in found.items():
        yield share, *map(list, zip(*members, strict=True))


def _decay(optimizer, indices, values, rate):
    """Decoupled weight decay by `decays`; that of Keras's own classes is a step before."""
    import torch

    if getattr(optimizer, "layer_weight_decay", None):
        decaying = [v for i, v in zip(indices, values, strict=True) if optimizer.decays[i]]
        if decaying:
            torch._foreach_mul_(decaying, 1.0 - rate * optimizer.layer_weight_decay)


def _clip(optimizer, gradients):
    """The gradients, clipped by their common norm where `global_clipnorm` is set."""
    import torch

    if optimizer.clipnorm or not optimizer.global_clipnorm:
        return type(optimizer)._clip_gradients(optimizer, gradients)
    norm = torch.stack(torch._foreach_norm(gradients)).norm()
    scale = optimizer.global_clipnorm * torch.clamp(1.0 / norm, max=1.0 / optimizer.global_clipnorm)
    return torch._foreach_mul(gradients, scale + (norm - norm))  # NaN if the norm is not finite


def _average(optimizer, variables):
    """The moving average of all variables after an update."""
    import torch

    momentum = optimizer.ema_momentum * ops.cast(optimizer.iterations != 0, "float32")
    both = zip(variables, optimizer._model_variables_moving_average, strict=True)
    pairs = [(_value(v), _value(average)) for v, average in both if average is not None]
    if pairs:
        values, averages = map(list, zip(*pairs, strict=True))
        torch._foreach_mul_(averages, momentum)
        torch._foreach_add_(averages, torch._foreach_mul(values, 1.0 - momentum))


def _accumulate(optimizer, gradients, sums):
    import torch

    torch._foreach_add_(list(map(_value, sums)), gradients)


COMMON = {
    "_clip_gradients": _clip,
    "_update_model_variables_moving_average": _average,
    "_backend_increment_gradient_accumulators": _accumulate,
}
