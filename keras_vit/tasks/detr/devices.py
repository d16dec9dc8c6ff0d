"""Sums over the batches of all devices, for losses that are divided by them."""

import keras


def over_devices(x):
    """The sum of a scalar over the devices that train together, divided by their number.

    The gradients of devices are averaged, so a loss that is divided by it is that of all batches
    together, divided by the sum over them. On JAX a batch on several devices is one array, and `x`
    is the sum over all of it already.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            total = context.all_reduce(tf.distribute.ReduceOp.SUM, x)
            return total / context.num_replicas_in_sync
    if backend == "torch":
        import torch

        if torch.distributed.is_available() and torch.distributed.is_initialized():
            total = x.detach().clone()
            torch.distributed.all_reduce(total)
            return total / torch.distributed.get_world_size()
    return x
