"""Times the epochs of a run."""

import time

import keras
import numpy as np


class Speed(keras.callbacks.Callback):
    """Times epochs. The first one, which compiles, counts only if there is no other.

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
        """The median times after training.

        Args:
            images: int, training images an epoch.

        Returns:
            dict with `epoch_seconds` and `images_per_second` of the median epoch; both None if no
            epoch was trained.
        """
        if not self.epochs:
            return {"epoch_seconds": None, "images_per_second": None}
        epoch, training = (np.median(x[1:] or x) for x in (self.epochs, self.training))
        return {
            "epoch_seconds": round(float(epoch), 3),
            "images_per_second": round(images / float(training), 1),
        }
