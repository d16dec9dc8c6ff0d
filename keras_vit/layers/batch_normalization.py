"""Batch normalisation as in PyTorch.

Letters: B batch, h x w grid, D width.
"""

import math

import keras
from keras import ops


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer over the last axis, with the epsilon, momentum and moving variance of PyTorch.

    The epsilon is 1e-5, and a training step moves the statistics by a tenth. The moving variance is
    that of a sample, unbiased; Keras's own layer keeps the biased one. Under every dtype policy the
    statistics are computed in float32.

    The statistics are those of the batch that a device sees. On JAX, where a batch that is
    distributed over devices is one array, that is the whole batch.

    For layers within others, whose class no file names.
    """

    def __init__(self, **kwargs):
        super().__init__(**{"epsilon": 1e-5, "momentum": 0.9, "axis": -1, **kwargs})

    def call(self, inputs, training=None):
        x = ops.cast(inputs, "float32")
        if training and self.trainable:
            mean, variance = self._moments(x, None)
            n = ops.cast(math.prod(ops.shape(x)[:-1]), "float32")
            unbiased = variance * (n / ops.maximum(n - 1.0, 1.0))
            for moving, new in ((self.moving_mean, mean), (self.moving_variance, unbiased)):
                moving.assign(moving * self.momentum + new * (1.0 - self.momentum))
        else:
            mean, variance = self.moving_mean, self.moving_variance
        # Variables may have 16 bits, which an export does not mix with 32.
        mean, variance, beta, gamma = (
            ops.cast(value, "float32") for value in (mean, variance, self.beta, self.gamma)
        )
        x = ops.batch_normalization(x, mean, variance, -1, beta, gamma, epsilon=self.epsilon)
        return ops.cast(x, self.compute_dtype)
