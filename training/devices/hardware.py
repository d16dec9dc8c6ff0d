"""What a run ran on and what it took of it."""

import resource
import sys
import time

import keras
import numpy as np

from keras_vit.hardware import accelerators


def peak_memory():
    """The most memory that this process has had, in bytes.

    Returns:
        (int of the host's, int of an accelerator's or None: there is none, or nobody says).
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


class Speed(keras.callbacks.Callback):
    """Measures how long epochs take; the first of a sitting, which compiles, counts only if alone.

    Attributes:
        epochs: list of seconds, training and validation.
        training: list of seconds, training alone.
    """

    def __init__(self):
        super().__init__()
        self.epochs, self.training = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self._begin, self._trained = time.perf_counter(), None

    def on_test_begin(self, logs=None):
        self._trained = self._trained or time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        now = time.perf_counter()
        self.epochs.append(now - self._begin)
        self.training.append((self._trained or now) - self._begin)

    def summary(self, images):
        """What is known after training.

        Args:
            images: int, training images an epoch.

        Returns:
            dict with `epoch_seconds` and `images_per_second`, of the median epoch; both None where
            no epoch was trained.
        """
        if not self.epochs:
            return {"epoch_seconds": None, "images_per_second": None}
        epoch, training = (np.median(x[1:] or x) for x in (self.epochs, self.training))
        return {
            "epoch_seconds": round(float(epoch), 3),
            "images_per_second": round(images / float(training), 1),
        }
