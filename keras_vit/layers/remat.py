"""Gradient checkpointing that works on every backend, dropout included."""

import keras
from keras import ops

from keras_vit.hardware import jax_platform


def rematerialize(layer, function, inputs):
    """Computes `function(inputs)` without keeping its intermediate results for the backward pass.

    The backward pass computes them again: memory for about a third more work (Chen et al. 2016,
    arXiv:1604.06174). `keras.remat` alone fails here: on JAX the state of dropout's seeds leaks out
    of the checkpoint, on TensorFlow variables and keyword arguments do not pass, on PyTorch the
    second computation would draw other masks. So everything that the layer holds goes in as an
    argument, and what it changed comes out: the recomputation starts from the very same state.

    Args:
        layer: the layer whose variables `function` reads or changes.
        function: maps one tensor to one tensor, calling the sub-layers of `layer`.
        inputs: tensor.

    Returns:
        The tensor `function(inputs)`; the layer's state (seeds) is updated as without checkpoint.
    """
    trainable = [v for v in layer.variables if v.trainable]
    state = [v for v in layer.variables if not v.trainable]
    # Copies, because PyTorch assigns in place and the recomputation needs the values of before.
    before = [(v, ops.copy(v)) for v in state]

    def pure(inputs, *values):
        mapping = list(zip(trainable, values, strict=True)) + before
        with keras.StatelessScope(state_mapping=mapping) as scope:
            outputs = function(inputs)
            return outputs, [scope.get_current_value(v) for v in state]

    values = [ops.convert_to_tensor(v) for v in trainable]
    outputs, after = _remat(pure)(inputs, *values)
    for variable, value in zip(state, after, strict=True):
        variable.assign(value)
    return outputs


def _remat(function):
    """`keras.remat`, but for JAX on a CPU: there XLA undoes `jax.checkpoint`.

    It drops the barriers early and merges the recomputation with the first computation. Here the
    recomputation waits for the gradient of its outputs, which no compiler can take away.
    """
    if keras.backend.backend() != "jax":
        return keras.remat(function)
    import jax

    if jax_platform() != "cpu":
        return keras.remat(function)

    def backward(arguments, gradients):
        inputs, *values = arguments
        inputs = inputs + 0 * ops.ravel(gradients[0])[0]
        return jax.vjp(function, inputs, *values)[1](gradients)

    checkpointed = jax.custom_vjp(function)
    checkpointed.defvjp(lambda *arguments: (function(*arguments), arguments), backward)
    return checkpointed
