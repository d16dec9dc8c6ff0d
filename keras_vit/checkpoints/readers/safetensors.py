"""`.safetensors` files."""

import io

import ml_dtypes
import numpy as np

from keras_vit.checkpoints.errors import readable
from keras_vit.checkpoints.readers.base import Reader, Tensor, checked_shape, read_array
from keras_vit.checkpoints.untrusted import MAX_JSON, brief, is_count, read_json

SAFETENSORS_DTYPES = {
    "F64": np.dtype("float64"),
    "F32": np.dtype("float32"),
    "F16": np.dtype("float16"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("int64"),
    "I32": np.dtype("int32"),
    "I16": np.dtype("int16"),
    "I8": np.dtype("int8"),
    "U8": np.dtype("uint8"),
    "BOOL": np.dtype("bool"),
}


class SafetensorsReader(Reader):
    """`.safetensors`: eight bytes of length, a JSON header, then the arrays one after another.

    Source: https://github.com/huggingface/safetensors, "Format". The file is read, not mapped:
    mapped pages would count as memory of the process twice while a model is being filled.
    """

    def __init__(self, path):
        super().__init__(path)
        with readable(path, "safetensors"):
            self._file = self.path.open("rb")
            length = int.from_bytes(self._file.read(8), "little")
            if self.size < 8 or length > min(MAX_JSON, self.size - 8):
                raise ValueError(f"a header of {length} bytes in a file of {self.size}")
            header = read_json(io.BytesIO(self._file.read(length)))
            header.pop("__metadata__", None)
            start = 8 + length
            for name, entry in header.items():
                self.tensors[name] = self._tensor(name, entry, start)
            end = start
            for tensor in sorted(self.tensors.values(), key=lambda t: t.place):
                if tensor.place != end:
                    raise ValueError(f"arrays overlap or leave a gap at byte {end}")
                end += tensor.nbytes
            if end != self.size:
                raise ValueError(f"arrays up to byte {end} in a file of {self.size}")

    def _tensor(self, name, entry, start):
        if entry["dtype"] not in SAFETENSORS_DTYPES:
            raise ValueError(f"{brief(name)} has the dtype {brief(entry['dtype'])}")
        shape, (begin, end) = checked_shape(name, entry["shape"]), entry["data_offsets"]
        if not is_count(begin) or not is_count(end):
            raise ValueError(f"{brief(name)} has the data_offsets {brief(entry['data_offsets'])}")
        tensor = Tensor(shape, SAFETENSORS_DTYPES[entry["dtype"]], start + begin)
        if end - begin != tensor.nbytes:
            raise ValueError(f"{brief(name)} has the shape {shape} but {end - begin} bytes")
        return tensor

    def read(self, name):
        tensor = self.tensors[name]
        with readable(self.path, "safetensors"):
            return read_array(self._file, tensor.place, tensor)

    def close(self):
        self._file.close()
