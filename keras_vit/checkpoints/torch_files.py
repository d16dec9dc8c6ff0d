"""`.pth`, `.pt` and `.bin` files of `torch.save`, read without PyTorch and without running them."""

import math
import sys

import ml_dtypes
import numpy as np

from keras_vit.checkpoints.files import CheckpointError, Reader, Tensor, open_zip, readable
from keras_vit.checkpoints.pickles import TorchTensor, interpret

STORAGE_DTYPES = {
    "DoubleStorage": np.dtype("float64"),
    "FloatStorage": np.dtype("float32"),
    "HalfStorage": np.dtype("float16"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("int64"),
    "IntStorage": np.dtype("int32"),
    "ShortStorage": np.dtype("int16"),
    "CharStorage": np.dtype("int8"),
    "ByteStorage": np.dtype("uint8"),
    "BoolStorage": np.dtype("bool"),
}
# Where training scripts put the weights, best first.
CONTAINERS = ("model_ema", "state_dict_ema", "state_dict", "model", "teacher", "module")
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class TorchReader(Reader):
    """A zip with one pickle, which names the tensors, and a file for every storage.

    Source: PyTorch `torch/serialization.py`, `_save`.
    """

    format = "torch"

    def __init__(self, path):
        super().__init__(path)
        with readable(path, "PyTorch"):
            self._zip = open_zip(self.path)
            (pickle,) = [n for n in self._zip.namelist() if n.endswith("/data.pkl")]
            self._root = pickle.removesuffix("data.pkl")
            if self._root + "byteorder" in self._zip.namelist():
                order = self._zip.read(self._root + "byteorder")
                if order != sys.byteorder.encode():
                    raise ValueError(f"numbers of byte order {order!r}")
            with self._zip.open(pickle) as file:
                self.tensors = named_tensors(interpret(file), path)
            sizes = {info.filename: info.file_size for info in self._zip.infolist()}
            for name, tensor in self.tensors.items():
                storage = tensor.place.storage
                found = sizes.get(f"{self._root}data/{storage.key}")
                if found != storage.numel * tensor.dtype.itemsize:
                    raise ValueError(f"{name!r} needs {storage.numel} numbers, {found} bytes found")

    def read(self, name):
        tensor = self.tensors[name]
        with readable(self.path, "PyTorch"):
            data = self._zip.read(f"{self._root}data/{tensor.place.storage.key}")  # checks the CRC
            return view(np.frombuffer(data, tensor.dtype), tensor.place)

    def close(self):
        self._zip.close()


class LegacyTorchReader(Reader):
    """The format before PyTorch 1.6: pickles one after another, then the storages.

    Source: PyTorch `torch/serialization.py`, `_legacy_save`.
    """

    format = "torch"

    def __init__(self, path):
        super().__init__(path)
        with readable(path, "PyTorch"), self.path.open("rb") as file:
            if interpret(file) != LEGACY_MAGIC:
                raise CheckpointError(
                    f"{path} is a pickle but not one of torch.save; nothing of it was run."
                )
            interpret(file)  # the protocol
            if interpret(file).get("little_endian") is not (sys.byteorder == "little"):
                raise ValueError("numbers of another byte order")
            self.tensors = named_tensors(interpret(file), path)
            storages = {t.place.storage.key: t for t in self.tensors.values()}
            self._places = {}
            for key in interpret(file):
                numel = int.from_bytes(file.read(8), "little")
                self._places[key] = file.tell()
                if key not in storages:
                    raise ValueError(f"a storage {key!r} that no weight uses")
                tensor = storages[key]
                if numel != tensor.place.storage.numel:
                    raise ValueError(f"a storage of {numel} numbers")
                file.seek(numel * tensor.dtype.itemsize, 1)
            if file.tell() > self.size or set(storages) - set(self._places):
                raise ValueError("storages beyond the end of the file")

    def read(self, name):
        tensor = self.tensors[name]
        storage = tensor.place.storage
        with readable(self.path, "PyTorch"):
            offset = self._places[storage.key]
            numbers = np.fromfile(self.path, tensor.dtype, storage.numel, offset=offset)
            return view(numbers, tensor.place)


def named_tensors(content, path):
    """The weights of what a file holds: a state dict, or one within a training checkpoint."""
    for key in CONTAINERS:
        if isinstance(content, dict) and _is_state_dict(content.get(key)):
            content = content[key]
            break
    if not _is_state_dict(content):
        keys = list(content) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(
            f"{path} has no state dict. Expected: a dict of tensors, or one under any of "
            f"{CONTAINERS}. Received: {str(keys)[:300]}"
        )
    tensors = {}
    for name, value in content.items():
        if isinstance(value, TorchTensor):
            tensors[name] = _tensor(name, value)
    return tensors


def _is_state_dict(value):
    return (
        isinstance(value, dict)
        and all(isinstance(key, str) for key in value)
        and any(isinstance(x, TorchTensor) for x in value.values())
    )


def _tensor(name, found):
    storage = found.storage
    if storage.type not in STORAGE_DTYPES:
        raise CheckpointError(
            f"{name!r} is of an unknown kind. Expected: any of {', '.join(STORAGE_DTYPES)}. "
            f"Received: {storage.type}"
        )
    count = math.prod(found.shape)
    last = sum((side - 1) * step for side, step in zip(found.shape, found.strides, strict=True))
    if count and (count > storage.numel or found.offset + last >= storage.numel):
        raise ValueError(f"{name!r} of shape {found.shape} in a storage of {storage.numel} numbers")
    return Tensor(found.shape, STORAGE_DTYPES[storage.type], found)


def view(numbers, tensor):
    """The array (`tensor.shape`) that a `TorchTensor` cuts out of the numbers of its storage."""
    strides = [step * numbers.itemsize for step in tensor.strides]
    numbers = numbers[tensor.offset :]
    return np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides, writeable=False)
