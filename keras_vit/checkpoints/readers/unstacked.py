"""Splits arrays that stack all blocks of a model into an array per block."""

from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.readers.base import MAX_TENSORS, Tensor

STACK = "Transformer/encoderblock/"


class Unstacked:
    """big_vision's scanned models keep all blocks in one array: here it is one array a block."""

    def __init__(self, reader):
        self.reader = reader
        self.path = reader.path
        self.config = reader.config
        self.tensors = unstacked(reader.tensors)
        self._last = (None, None)

    def read(self, name):
        if name in self.reader.tensors:
            return self.reader.read(name)
        stack, i = self.tensors[name].place
        if self._last[0] != stack:
            self._last = (stack, self.reader.read(stack))
        return self._last[1][i]

    def close(self):
        self.reader.close()


def unstacked(tensors):
    """dict of name to `Tensor`, with one for each block of those that stack all of them."""
    found = {}
    for name, tensor in tensors.items():
        if STACK not in name:
            found[name] = tensor
            continue
        if not tensor.shape or tensor.shape[0] > 1000 or len(found) > MAX_TENSORS:
            raise CheckpointError(f"{name!r} is not a stack of blocks. Received: {tensor.shape}")
        for i in range(tensor.shape[0]):
            block = name.replace(STACK, f"Transformer/encoderblock_{i}/")
            found[block] = Tensor(tensor.shape[1:], tensor.dtype, (name, i))
    return found
