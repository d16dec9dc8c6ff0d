"""The cost of a layer for one image. Every layer counts its own in `cost`."""

from typing import NamedTuple


class Cost(NamedTuple):
    """Work and memory of one forward pass over one image.

    Attributes:
        macs: multiply-accumulates (one multiplication and one addition), matrix products only.
        activations: numbers that the backward pass needs, results of the forward pass; views, and
            attention scores that a fused kernel never writes, do not count.
    """

    macs: int = 0
    activations: int = 0

    def __add__(self, other):
        return Cost(self.macs + other.macs, self.activations + other.activations)


def dense_cost(positions, inputs, outputs):
    """Cost of a `Dense` layer from `inputs` to `outputs` features at each of `positions` places."""
    return Cost(macs=positions * inputs * outputs, activations=positions * outputs)
