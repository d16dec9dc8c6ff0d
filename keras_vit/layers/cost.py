"""`Cost`, the result of a layer's `cost` method."""

from typing import NamedTuple


class Cost(NamedTuple):
    """Computation and memory of a forward pass over one image.

    Attributes:
        macs: int, multiply-accumulate operations (one multiplication and one addition) of matrix
            products and convolutions.
        activations: int, numbers that the forward pass keeps for the backward pass. Views, and
            attention scores that a fused kernel does not write to memory, do not count.
    """

    macs: int = 0
    activations: int = 0

    def __add__(self, other):
        return Cost(self.macs + other.macs, self.activations + other.activations)


def dense_cost(positions, inputs, outputs):
    """Cost of a `Dense` layer from `inputs` to `outputs` features, at `positions` positions."""
    return Cost(macs=positions * inputs * outputs, activations=positions * outputs)
