"""The peak memory of a run."""

import resource
import sys

import keras

from keras_vit.hardware import accelerators


def peak_memory():
    """The peak memory of this process, in bytes.

    Returns:
        (int, of the host; int, of an accelerator, or None if there is none or it is not known).
    """
    unit = 1 if sys.platform == "darwin" else 1024
    host = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if not accelerators():
        return host, None
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        return host, max(
            torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count())
        )
    if backend == "jax":
        import jax

        stats = [device.memory_stats() or {} for device in jax.local_devices()]
        return host, max(found.get("peak_bytes_in_use", 0) for found in stats) or None
    import tensorflow as tf

    names = [device.name.split(":", 1)[1] for device in tf.config.list_logical_devices("GPU")]
    names = [name.removeprefix("device:") for name in names]
    return host, max(tf.config.experimental.get_memory_info(name)["peak"] for name in names)
