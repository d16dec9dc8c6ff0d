"""`.npz` files of big_vision and vision_transformer."""

import ml_dtypes
import numpy as np

from keras_vit.checkpoints.errors import readable
from keras_vit.checkpoints.readers.base import Reader, Tensor, checked_shape, open_zip
from keras_vit.checkpoints.untrusted import brief


class NpzReader(Reader):
    """`.npz` of big_vision and vision_transformer: a zip of `.npy` files, `/` in their names.

    bfloat16, which `.npy` does not know, comes as two raw bytes a number ("|V2").
    """

    def __init__(self, path):
        super().__init__(path)
        with readable(path, "npz"):
            self._zip = open_zip(self.path)
            for info in self._zip.infolist():
                name = info.filename.removesuffix(".npy")
                with self._zip.open(info) as file:
                    shape, _, dtype = _npy_header(file)
                    header = file.tell()
                dtype = np.dtype(ml_dtypes.bfloat16) if dtype.str == "|V2" else dtype
                tensor = Tensor(checked_shape(name, shape), dtype, info)
                is_number = dtype.kind in "biuf" or dtype == ml_dtypes.bfloat16
                if not is_number or header + tensor.nbytes != info.file_size:
                    raise ValueError(
                        f"{brief(name)} has the shape {shape}, dtype {str(dtype)[:60]} but not its "
                        "data"
                    )
                self.tensors[name] = tensor

    def read(self, name):
        tensor = self.tensors[name]
        with readable(self.path, "npz"), self._zip.open(tensor.place) as file:
            shape, fortran_order, dtype = _npy_header(file)
            numbers = np.frombuffer(file.read(), tensor.dtype)  # to the end: checks the CRC
            if shape != tensor.shape or dtype.itemsize != tensor.dtype.itemsize:
                raise ValueError(f"{brief(name)} has become another array")
            return numbers.reshape(shape, order="F" if fortran_order else "C")

    def close(self):
        self._zip.close()


def _npy_header(file):
    """(shape, fortran_order, dtype) of a `.npy` file; it is then at its data."""
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    return readers[version](file)
