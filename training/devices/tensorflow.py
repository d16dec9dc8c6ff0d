"""Data parallelism on TensorFlow: `tf.distribute`, and workarounds for Keras 3.15."""

import json
import os


def start(group):
    """The `tf.distribute.Strategy` of all devices and processes; None for one device."""
    import tensorflow as tf

    if group.world_size > 1:
        task = {"type": "worker", "index": group.rank}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": group.addresses}, "task": task})
        return tf.distribute.MultiWorkerMirroredStrategy()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) == 1:
        return None
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def build(model, batch):
    """Creates the variables of metrics and optimizer.

    Keras 3.15 would take the shapes from a distributed batch, which fails for several workers with
    one device each.

    Args:
        model: compiled `keras.Model`.
        batch: (inputs, targets), arrays of a batch of one.
    """
    model._symbolic_build(data_batch=batch)
    model._maybe_symbolic_build = lambda **batch: None


def synchronize_statistics(model):
    """Lets batch normalisation take the statistics of the whole batch, over all replicas."""
    for layer in model._flatten_layers():
        if hasattr(layer, "synchronized"):
            layer.synchronized = True


def mean_of_workers(model):
    """Adds an axis to the results of a step, over which Keras 3.15 averages the workers."""
    for name in ("train_step", "test_step"):
        step = getattr(model, name)
        setattr(
            model,
            name,
            lambda batch, step=step: {key: value[None] for key, value in step(batch).items()},
        )


def clip_what_is_summed(optimizer):
    """Sums gradients over the replicas before they are clipped; Keras 3.15 clips each replica's."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    clip, summed = optimizer._clip_gradients, optimizer._all_reduce_sum_gradients
    optimizer._clip_gradients = lambda gradients: clip(
        [gradient for gradient, _ in summed([(gradient, gradient) for gradient in gradients])]
    )
    optimizer._all_reduce_sum_gradients = lambda pairs: pairs
