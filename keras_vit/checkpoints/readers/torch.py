"""Reads files of `torch.save` (`.pth`, `.pt`, `.bin`, `.ckpt`) without running their code."""

import io
import math
import sys

import ml_dtypes
import numpy as np

from keras_vit.checkpoints.errors import CheckpointError, readable
from keras_vit.checkpoints.readers.base import Reader, Tensor, open_zip
from keras_vit.checkpoints.readers.pickles import TorchTensor, interpret, text
from keras_vit.checkpoints.untrusted import brief

MAX_PICKLE = 100_000_000  # bytes; names and shapes of the largest models take a hundredth of it
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
MAX_DEPTH = 8  # of dicts within dicts
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class StorageReader(Reader):
    """Tensors as views of storages: `_storage(key, dtype, numel)` reads one, in each format's way.

    Several tensors may share one, which is then kept until all of them were read.
    """

    def __init__(self, path):
        super().__init__(path)
        self._parts = {}

    @property
    def parts(self):
        return self._parts

    def _hold(self, content, storages):
        """Keeps the dicts of tensors in a pickle's value, and checks the storages that it names.

        Returns:
            dict of key to `Storage`.
        """
        self._parts, known = parts_of(content), {}
        if not self._parts:
            raise CheckpointError(
                f"{self.path} has no dict of tensors. Expected: a state dict, alone or within "
                f"other dicts. Received: {brief(content)}"
            )
        for storage in storages:
            if known.setdefault(storage.key, storage) != storage:
                raise ValueError(f"the storage {brief(storage.key)} is described in two ways")
        if len(self._parts) == 1:
            self.select(*self._parts)
        return known

    def select(self, part):
        """Makes `tensors` those of a part."""
        self.tensors, self._unread, self._kept = self._parts[part], {}, {}
        for name, tensor in self.tensors.items():
            storage = tensor.place.storage
            if tensor.dtype is None:
                raise CheckpointError(
                    f"{brief(name)} has an unknown type. Expected: any of "
                    f"{', '.join(STORAGE_DTYPES)}. Received: {brief(storage.type)}"
                )
            _check_extent(tensor.place, storage.numel)
            self._unread.setdefault(storage.key, set()).add(name)
        self._names = {key: frozenset(names) for key, names in self._unread.items()}

    def read(self, name):
        tensor = self.tensors[name]
        key, numel = tensor.place.storage.key, tensor.place.storage.numel
        with readable(self.path, "PyTorch"):
            numbers = self._kept.get(key)
            if numbers is None:
                numbers = self._storage(key, tensor.dtype, numel)
                if len(numbers) != numel:
                    raise ValueError(f"{len(numbers)} of the {numel} numbers of {brief(name)}")
            self._unread[key].discard(name)
            if self._unread[key]:
                self._kept[key] = numbers
            else:
                self._kept.pop(key, None)
                self._unread[key].update(self._names[key])
            return view(numbers, tensor.place)


class TorchReader(StorageReader):
    """A zip with one pickle, which names the tensors, and a file for every storage.

    Source: PyTorch `torch/serialization.py`, `_save`.
    """

    def __init__(self, path):
        super().__init__(path)
        with readable(path, "PyTorch"):
            self._zip = open_zip(self.path)
            sizes = {info.filename: info.file_size for info in self._zip.infolist()}
            (pickle,) = [name for name in sizes if name.endswith("/data.pkl")]
            self._root = pickle.removesuffix("data.pkl")
            if self._root + "byteorder" in sizes:
                order = self._zip.read(self._root + "byteorder")
                if order != sys.byteorder.encode():
                    raise ValueError(f"numbers of byte order {brief(order)}")
            if sizes[pickle] > MAX_PICKLE:
                raise ValueError(f"a pickle of {sizes[pickle]} bytes")
            storages = []
            content = interpret(io.BytesIO(self._zip.read(pickle)), storages)  # checks the CRC
            for storage in self._hold(content, storages).values():
                found = sizes.get(f"{self._root}data/{storage.key}")
                dtype = STORAGE_DTYPES.get(storage.type)
                if dtype is not None and found != storage.numel * dtype.itemsize:
                    raise ValueError(
                        f"a storage of {storage.numel} numbers of {storage.type}, {found} bytes "
                        "found"
                    )

    def _storage(self, key, dtype, numel):
        return np.frombuffer(self._zip.read(f"{self._root}data/{key}"), dtype)  # checks the CRC

    def close(self):
        self._zip.close()


class LegacyTorchReader(StorageReader):
    """The format before PyTorch 1.6: pickles one after another, then the storages.

    Source: PyTorch `torch/serialization.py`, `_legacy_save`.
    """

    def __init__(self, path):
        super().__init__(path)
        with readable(path, "PyTorch"), self.path.open("rb") as file:
            pickles = _Clamped(file, min(self.size, MAX_PICKLE))
            if interpret(pickles) != LEGACY_MAGIC:
                raise CheckpointError(
                    f"{path} is a pickle, but not one of torch.save; none of its code was run."
                )
            interpret(pickles)  # the protocol
            if interpret(pickles).get("little_endian") is not (sys.byteorder == "little"):
                raise ValueError("numbers of another byte order")
            named = []
            storages = self._hold(interpret(pickles, named), named)
            self._places = {}
            for key in interpret(pickles):
                key = text(key)
                numel = int.from_bytes(file.read(8), "little")
                self._places[key] = file.tell()
                if key not in storages:
                    raise ValueError(f"a storage {key!r} that no tensor uses")
                storage = storages.pop(key)
                if storage.type not in STORAGE_DTYPES:
                    raise ValueError(f"a storage of unknown numbers, {brief(storage.type)}")
                if numel != storage.numel:
                    raise ValueError(f"a storage of {numel} numbers")
                end = file.tell() + numel * STORAGE_DTYPES[storage.type].itemsize
                if end > self.size:
                    raise ValueError(f"a storage up to byte {end} in a file of {self.size}")
                file.seek(end)
            if storages:
                raise ValueError(f"{len(storages)} storages are missing")

    def _storage(self, key, dtype, numel):
        return np.fromfile(self.path, dtype, numel, offset=self._places[key])


class _Clamped:
    """The start of a file; it is never read beyond its end, whatever a pickle claims."""

    def __init__(self, file, size):
        self._file, self._size = file, size

    def read(self, count):
        return self._file.read(min(count, self._left()))

    def readline(self):
        return self._file.readline(self._left())

    def _left(self):
        return max(self._size - self._file.tell(), 0)


def parts_of(content):
    """The dicts of tensors in what a file holds.

    Args:
        content: a dict: a state dict, or one of many things that a training script keeps.

    Returns:
        dict of name to dict of tensor name to `Tensor`, whose dtype is None where it is unknown.
        The name is "" for `content` itself, else the keys that lead to the dict, joined by dots.
    """
    parts, seen, level = {}, set(), [("", content)]
    for _ in range(MAX_DEPTH):
        inner = []
        for name, value in level:
            if not isinstance(value, dict) or id(value) in seen:
                continue  # the same one again has the same numbers
            seen.add(id(value))
            tensors = {
                key: Tensor(x.shape, STORAGE_DTYPES.get(x.storage.type), x)
                for key, x in value.items()
                if isinstance(key, str) and isinstance(x, TorchTensor)
            }
            if tensors and name in parts:
                raise ValueError(f"two dicts that are called {brief(name)}")
            if tensors:
                parts[name] = tensors
            inner += [
                (f"{name}.{key}" if name else str(key), x)
                for key, x in value.items()
                if isinstance(x, dict)
            ]
        level = inner
    return parts


def _check_extent(tensor, length):
    """Raises unless a `TorchTensor` lies within `length` numbers, and repeats none of them."""
    steps = zip(tensor.shape, tensor.strides, strict=True)
    count, end = math.prod(tensor.shape), tensor.offset + 1
    end += sum((side - 1) * step for side, step in steps)
    negative = min((tensor.offset, *tensor.shape, *tensor.strides)) < 0
    if negative or (count and (count > length or end > length)):
        raise ValueError(
            f"a tensor of offset {tensor.offset}, shape {tensor.shape}, strides {tensor.strides} "
            f"in a storage of {length} numbers"
        )


def view(numbers, tensor):
    """The array (`tensor.shape`) that a `TorchTensor` cuts out of the numbers of its storage (N,).

    Raises:
        ValueError: where it would reach beyond them, or they are not one after another.
    """
    if numbers.ndim != 1 or not numbers.flags.c_contiguous:
        raise ValueError(f"numbers of shape {numbers.shape} and strides {numbers.strides}")
    _check_extent(tensor, len(numbers))
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, numbers.dtype)
    strides = [step * numbers.itemsize for step in tensor.strides]
    numbers = numbers[tensor.offset :]
    return np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides, writeable=False)
