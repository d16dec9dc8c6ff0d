"""Adapts an array to a weight of another size: positions, tables, patches, channels."""

import math
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_vit.checkpoints.layouts import Facts, StageFacts
from keras_vit.checkpoints.patches import resample_patches
from keras_vit.layers import resample_grid
from keras_vit.layers.validation import as_pair
from keras_vit.preprocessing import Preprocessor

GRID = "position_embedding/grid"
PATCHES = "patch_embedding/projection/kernel"
RESAMPLED, CHANNELS = "resampled", "channels"


class Adapter(NamedTuple):
    """Changes position embeddings, tables and patches of another size, and input channels.

    Attributes:
        model: the model whose weights are filled.
        facts: `layouts.Facts` of the source, or None where it says nothing of itself.
        position_resample: how the source resamples its position embeddings.
        first_convolution: path of the kernel that reads the pixels.
        tables: the family's `RESAMPLED` (`checkpoints.families`).
    """

    model: object
    facts: Facts | StageFacts | None
    position_resample: str
    first_convolution: str
    tables: dict

    def changes(self, path, shape, expected):
        """What must change from one shape to the other: a tuple of `RESAMPLED` and `CHANNELS`.

        None if the one cannot be made from the other.
        """
        if shape == expected:
            return ()
        if len(shape) != len(expected) or shape[-1] != expected[-1] or 0 in shape:
            return None
        if path.endswith((GRID, *self.tables)):
            return (RESAMPLED,)
        if path not in (PATCHES, self.first_convolution) or self.facts is None:
            return None
        old, new = self._kernel(path, shape), self._target(path, expected)
        if old is None or new is None:
            return None
        found = (RESAMPLED,) * (old[:2] != new[:2]) + (CHANNELS,) * (old[2] != new[2])
        may = (RESAMPLED,) * (path == PATCHES) + (CHANNELS,) * (path == self.first_convolution)
        return found if set(found) <= set(may) else None

    def apply(self, path, array, expected):
        """The float32 array in the shape `expected`, by what `changes` says."""
        array = array.astype("float32", copy=False)
        if array.shape == expected:
            return array
        if path.endswith(GRID):
            grid = resample_grid(array, expected[:2], self.position_resample)
            return ops.convert_to_numpy(grid)
        for end, resample in self.tables.items():
            if path.endswith(end):
                table = resample(array, expected[:2], self.model.get_config())
                return ops.convert_to_numpy(table)
        kernel = array.reshape(*self._kernel(path, array.shape), -1)  # (p, q, C, D)
        p, q, channels = self._target(path, expected)
        if kernel.shape[2] != channels:
            kernel = adapt_channels(kernel, channels)
        if kernel.shape[:2] != (p, q):
            kernel = resample_patches(kernel, (p, q))
        return kernel.reshape(expected)

    def channels(self, path, shape, expected):
        """(C, C'): the input channels of a kernel in the source and in the model."""
        return self._kernel(path, shape)[2], self._target(path, expected)[2]

    def _kernel(self, path, shape):
        """(p, q, C) of the source's kernel, or None if its shape does not fit any patches."""
        if len(shape) == 4:
            return shape[:3]
        facts = self.facts.at(path)
        found = (*facts.patch_size, facts.num_channels)
        return found if math.prod(found) == shape[0] else None

    def _target(self, path, expected):
        """(p, q, C) of the model's kernel."""
        if len(expected) == 4:
            return expected[:3]
        layer = self.model.get_layer(path.partition("/")[0])
        p, q = as_pair(layer.patch_size, "patch_size")
        return p, q, expected[0] // (p * q)


def adapt_channels(kernel, channels):
    """Adapts a kernel that reads pixels to another number of input channels.

    For one channel the weights of all are added up, so that grey pictures give what they gave as
    RGB; for more they are repeated, R, G, B, R ..., and made smaller, so that outputs keep their
    size.

    Args:
        kernel: array (p, q, C, D).
        channels: int, C'.

    Returns:
        Array (p, q, C', D).

    Source: timm `models/_manipulate.py`, `adapt_input_conv`.
    """
    old = kernel.shape[2]
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    return kernel[:, :, np.arange(channels) % old] * np.float32(old / channels)


def preprocessor_for_channels(preprocessor, channels):
    """The `Preprocessor` for another number of channels, in the way of `adapt_channels`.

    One channel has the mean of all means (and of all standard deviations); more repeat them.
    """
    config = preprocessor.get_config()
    for name in ("mean", "std"):
        old = config[name]
        one = (sum(old) / len(old),)
        config[name] = one if channels == 1 else [old[i % len(old)] for i in range(channels)]
    return Preprocessor.from_config(config)
