"""Checkpoint files as named arrays that are read one at a time, and never run.

Every reader checks what a file says of itself before it believes it: names, shapes and extents
against the size of the file. Nothing is unpickled, nothing is larger in memory than its file says.
"""

import contextlib
import json
import math
import os
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

MAX_HEADER = 100_000_000  # bytes, the limit of the safetensors format
MAX_EXPANSION = 20  # no honest weights compress better than that
SMALL = 64 * 2**20  # bytes; files that unpack to no more are harmless however they compress

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


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or does not fit; says what was expected and what came."""


class Tensor(NamedTuple):
    """What a file says of one of its arrays, before any of its data is read."""

    shape: tuple
    dtype: np.dtype
    place: object  # where the data lies; each reader's own

    @property
    def nbytes(self):
        return math.prod(self.shape) * self.dtype.itemsize


class Reader:
    """Named arrays of one file. `tensors` maps names to `Tensor`; `read(name)` gives an array."""

    format = None

    config = None  # the model's configuration, where the file holds it too

    def __init__(self, path):
        self.path = Path(path)
        self.size = self.path.stat().st_size
        self.tensors = {}

    def read(self, name):
        raise NotImplementedError

    def close(self):
        pass


@contextlib.contextmanager
def readable(path, what):
    """Turns whatever a library says about a broken file into one `CheckpointError`."""
    try:
        yield
    except CheckpointError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        NotImplementedError,
        OSError,
        RuntimeError,  # RecursionError among them
        SyntaxError,
        TypeError,
        ValueError,
        struct.error,
        tokenize.TokenError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise CheckpointError(
            f"{path} is no whole {what} file: download or write it again. "
            f"Received: {type(error).__name__}: {str(error)[:300]}"
        ) from error


class SafetensorsReader(Reader):
    """`.safetensors`: eight bytes of length, a JSON header, then the arrays one after another.

    Source: https://github.com/huggingface/safetensors, "Format". The file is read, not mapped:
    mapped pages would count as memory of the process twice while a model is being filled.
    """

    format = "safetensors"

    def __init__(self, path):
        super().__init__(path)
        with readable(path, "safetensors"):
            self._file = self.path.open("rb")
            length = int.from_bytes(self._file.read(8), "little")
            if self.size < 8 or length > min(MAX_HEADER, self.size - 8):
                raise ValueError(f"a header of {length} bytes in a file of {self.size}")
            header = json.loads(self._file.read(length), object_pairs_hook=unique_keys)
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
            raise ValueError(f"{name!r} has the dtype {entry['dtype']!r}")
        shape, (begin, end) = _checked_shape(name, entry["shape"]), entry["data_offsets"]
        tensor = Tensor(shape, SAFETENSORS_DTYPES[entry["dtype"]], start + begin)
        if begin < 0 or end - begin != tensor.nbytes:
            raise ValueError(f"{name!r} has the shape {shape} but {end - begin} bytes")
        return tensor

    def read(self, name):
        tensor = self.tensors[name]
        with readable(self.path, "safetensors"):
            self._file.seek(tensor.place)
            array = np.fromfile(self._file, tensor.dtype, math.prod(tensor.shape))
            return array.reshape(tensor.shape)

    def close(self):
        self._file.close()


class NpzReader(Reader):
    """`.npz` of big_vision and vision_transformer: a zip of `.npy` files, `/` in their names.

    bfloat16, which `.npy` does not know, comes as two raw bytes a number ("|V2").
    """

    format = "npz"

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
                tensor = Tensor(_checked_shape(name, shape), dtype, info)
                if dtype.hasobject or header + tensor.nbytes != info.file_size:
                    raise ValueError(
                        f"{name!r} has the shape {shape}, dtype {dtype} but not its data"
                    )
                self.tensors[name] = tensor

    def read(self, name):
        tensor = self.tensors[name]
        with readable(self.path, "npz"), self._zip.open(tensor.place) as file:
            shape, fortran_order, _ = _npy_header(file)
            array = np.frombuffer(file.read(), tensor.dtype)  # to the end: checks the CRC
            return array.reshape(shape, order="F" if fortran_order else "C")

    def close(self):
        self._zip.close()


class ShardedReader(Reader):
    """Several files and an index (`model.safetensors.index.json`): which array is in which."""

    format = "sharded"

    def __init__(self, path):
        super().__init__(path)
        with readable(path, "index"):
            text = self.path.read_text("utf-8")
            index = json.loads(text, object_pairs_hook=unique_keys)["weight_map"]
            names = sorted(set(index.values()))
            for name in names:
                if Path(name).name != name or name in ("", ".", ".."):
                    raise ValueError(f"{name!r} is no plain file name beside the index")
                if not (self.path.parent / name).is_file():
                    raise CheckpointError(
                        f"{self.path} names {name!r}, which is not beside it: download it too."
                    )
        self._shards = {}
        for name in names:
            self._shards[name] = open_file(self.path.parent / name)
            for key, tensor in self._shards[name].tensors.items():
                if index.get(key) != name:
                    raise CheckpointError(
                        f"{self.path} and its shards do not agree on where {key!r} is. "
                        f"Received: {index.get(key)!r} in the index, found in {name!r}"
                    )
                self.tensors[key] = Tensor(tensor.shape, tensor.dtype, name)
        missing = sorted(set(index) - set(self.tensors))
        if missing:
            raise CheckpointError(f"{self.path} names arrays that no shard has: {missing[:5]}")

    def read(self, name):
        return self._shards[self.tensors[name].place].read(name)

    def close(self):
        for shard in self._shards.values():
            shard.close()


def open_file(path):
    """Opens a checkpoint file by what is in it, whatever its name ends in.

    Args:
        path: path of a `.safetensors`, `.npz`, `.pth`/`.bin`, `.weights.h5` or `.keras` file, or of
            an index of shards (`.json`).

    Returns:
        `Reader`; close it after use.

    Raises:
        CheckpointError: for a file that is broken or none of these.
    """
    from keras_vit.checkpoints.keras_files import Hdf5Reader, KerasReader
    from keras_vit.checkpoints.torch_files import LegacyTorchReader, TorchReader

    path = Path(path)
    with readable(path, "checkpoint"):
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(512)
    if size == 0:
        raise CheckpointError(f"{path} is empty: download or write it again.")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the file: run `git lfs pull`.")
    if path.suffix == ".json":
        return ShardedReader(path)
    if start.startswith(b"PK"):
        with readable(path, "zip"), open_zip(path) as archive:
            names = archive.namelist()
        if "config.json" in names and "model.weights.h5" in names:
            return KerasReader(path)
        if any(name.endswith("/data.pkl") for name in names):
            return TorchReader(path)
        if names and all(name.endswith(".npy") for name in names):
            return NpzReader(path)
    elif start.startswith(b"\x89HDF\r\n\x1a\n"):
        return Hdf5Reader(path)
    elif start.startswith(b"\x80\x02"):
        return LegacyTorchReader(path)
    elif start[8:9] == b"{":
        return SafetensorsReader(path)
    raise CheckpointError(
        f"{path} is no checkpoint that can be read. Expected: .safetensors, .npz, .pth or .bin of "
        f"torch.save, .keras, .weights.h5 or an index of shards. Received: {size} bytes that start "
        f"with {start[:16]!r}"
    )


def open_zip(path):
    """A `ZipFile` whose names are unique and which does not unpack to far more than its size."""
    archive = zipfile.ZipFile(path)
    names = archive.namelist()
    if len(set(names)) != len(names):
        archive.close()
        raise ValueError("two entries have the same name")
    unpacked, size = sum(info.file_size for info in archive.infolist()), os.path.getsize(path)
    if unpacked > max(SMALL, MAX_EXPANSION * size):
        archive.close()
        raise ValueError(f"{size} bytes would unpack to {unpacked}")
    return archive


def _npy_header(file):
    """(shape, fortran_order, dtype) of a `.npy` file; it is then at its data."""
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    return readers[version](file)


def _checked_shape(name, shape):
    if not isinstance(shape, (list, tuple)) or not all(
        isinstance(side, int) and 0 <= side < 2**40 for side in shape
    ):
        raise ValueError(f"{name!r} has the shape {shape!r}")
    return tuple(shape)


def unique_keys(pairs):
    """A dict of JSON pairs; a key that comes twice raises."""
    found = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} comes twice")
        found[key] = value
    return found
