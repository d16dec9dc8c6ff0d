"""Gradient checkpointing on every backend, for layers with dropout too."""

import keras
from keras import ops

from keras_vit.hardware import jax_platform


def rematerialize(layer, function, *inputs):
    """Computes `function(*inputs)` without keeping its intermediate results for the backward pass.

    The backward pass recomputes them, which saves memory and costs about a third more computation
    (Chen et al. 2016, arXiv:1604.06174). `keras.remat` alone fails here: on JAX the state of the
    dropout seeds leaks out of the checkpoint, on TensorFlow variables and keyword arguments are not
    passed on, and on PyTorch the recomputation would draw other dropout masks. So all variables of
    the layer are passed in as arguments, and the updated state is returned: the recomputation
    starts from the same state.

    Args:
        layer: layer whose variables `function` reads or changes.
        function: function of tensors that returns one tensor and calls sub-layers of `layer`.
        inputs: float tensors.

    Returns:
        The tensor `function(*inputs)`. The state of the layer (its seeds) is updated as usual.
    """
    trainable = [v for v in layer.variables if v.trainable]
    state = [v for v in layer.variables if not v.trainable]
    # Copies, because PyTorch assigns in place and the recomputation needs the old values.
    before = [(v, ops.copy(v)) for v in state]
    count = len(inputs)

    def pure(*arguments):
        given, values = arguments[:count], arguments[count:]
        mapping = list(zip(trainable, values, strict=True)) + before
        with keras.StatelessScope(state_mapping=mapping) as scope:
            outputs = function(*given)
            return outputs, [scope.get_current_value(v) for v in state]

    values = [ops.convert_to_tensor(v) for v in trainable]
    outputs, after = _remat(pure)(*inputs, *values)
    for variable, value in zip(state, after, strict=True):
        variable.assign(value)
    return outputs


def _remat(function):
    """`keras.remat`, except for PyTorch, and for JAX on a CPU.

    PyTorch stops the recomputation by an exception as soon as it has what it needs. On its way out
    through Keras's layers the exception is kept in reference cycles, and with it the activations of
    the block, until the garbage is collected. Here the recomputation runs to its end.

    On a CPU XLA undoes `jax.checkpoint`: it removes the optimization barriers and merges the
    recomputation with the first computation. Here the recomputation depends on the gradient of its
    outputs, so XLA cannot merge them.
    """
    if keras.backend.backend() == "torch":
        from torch.utils import checkpoint

        def to_the_end(*arguments):
            with checkpoint.set_checkpoint_early_stop(False):
                return checkpoint.checkpoint(function, *arguments, use_reentrant=False)

        return to_the_end
    if keras.backend.backend() != "jax":
        return keras.remat(function)
    import jax

    if jax_platform() != "cpu":
        return keras.remat(function)

    def backward(arguments, gradients):
        first, *others = arguments
        first = first + 0 * ops.ravel(gradients[0])[0]
        return jax.vjp(function, first, *others)[1](gradients)

    checkpointed = jax.custom_vjp(function)
    checkpointed.defvjp(lambda *arguments: (function(*arguments), arguments), backward)
    return checkpointed
