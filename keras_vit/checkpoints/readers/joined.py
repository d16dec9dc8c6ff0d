"""Several files whose arrays belong to one model."""

from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.untrusted import brief


class Joined:
    """The arrays of several readers under their names, none of which may come twice."""

    config = None

    def __init__(self, readers):
        self.readers = readers
        self.path = readers[0].path
        self.tensors, self._of = {}, {}
        for reader in readers:
            for name, tensor in reader.tensors.items():
                if name in self._of:
                    raise CheckpointError(
                        f"{reader.path} and {self._of[name].path} both hold {brief(name)}."
                    )
                self.tensors[name], self._of[name] = tensor, reader

    @property
    def parts(self):
        return {"": self.tensors}

    def select(self, part):
        pass

    def read(self, name):
        return self._of[name].read(name)

    def close(self):
        for reader in self.readers:
            reader.close()
