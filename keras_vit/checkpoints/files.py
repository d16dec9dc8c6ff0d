"""Checkpoint files as named arrays that are read one at a time, and never run.

Every reader checks what a file says of itself before it believes it: names, shapes and extents
against the size of the file, and then what was read against what was promised. Nothing is
unpickled, nothing is larger in memory than its file says. SECURITY.md says what is promised.
"""

import contextlib
import io
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

from keras_vit.checkpoints.untrusted import MAX_AXES, MAX_JSON, brief, is_count, read_json

MAX_EXPANSION = 20  # no honest weights compress better than that
SMALL = 64 * 2**20  # bytes; files that unpack to no more are harmless however they compress
MAX_TENSORS = 10_000
MAX_NAME = 300  # characters
MAX_SHARDS = 1000

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


class ArgumentError(ValueError):
    """A mistake in the caller's arguments that shows while a file is read; none of the file's."""


@contextlib.contextmanager
def named(path):
    """Has every `CheckpointError` name the file, or the source as the user named it."""
    try:
        yield
    except CheckpointError as error:
        if str(path) in str(error):
            raise
        raise CheckpointError(f"{path}: {error}") from error


@contextlib.contextmanager
def readable(path, what):
    """Turns whatever goes wrong with what a file holds into one `CheckpointError` that names it.

    Args:
        path: the file, or the source as the user named it.
        what: str, what it should be, such as "safetensors".
    """
    try:
        with named(path):
            yield
    except (ArgumentError, CheckpointError):
        raise
    except MemoryError as error:
        raise CheckpointError(f"{path} needs more memory than there is.") from error
    except (
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
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
        advice = f"is no whole {what} file: download or write it again"
        if isinstance(error, OSError) and error.errno is not None:
            advice = "cannot be read"
        raise CheckpointError(
            f"{path} {advice}. Received: {type(error).__name__}: {str(error)[:300]}"
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


class ShardedReader(Reader):
    """Several files and an index (`model.safetensors.index.json`): which array is in which."""

    format = "sharded"

    def __init__(self, path):
        super().__init__(path)
        with readable(path, "index"):
            with self.path.open("rb") as file:
                index, names = shards_of(read_json(file))
            for name in names:
                if not (self.path.parent / name).is_file():
                    raise CheckpointError(
                        f"{self.path} names {name!r}, which is not beside it: download it too."
                    )
        self._shards = {}
        for name in names:  # none of which is an index in its turn
            self._shards[name] = open_weights(self.path.parent / name)
            for key, tensor in self._shards[name].tensors.items():
                if index.get(key) != name:
                    raise CheckpointError(
                        f"{self.path} and its shards do not agree on where {brief(key)} is. "
                        f"Received: {brief(index.get(key))} in the index, found in {name!r}"
                    )
                self.tensors[key] = Tensor(tensor.shape, tensor.dtype, name)
        missing = sorted(set(index) - set(self.tensors))
        if missing:
            raise CheckpointError(
                f"{self.path} names arrays that no shard has: {brief(missing[:5])}"
            )

    def read(self, name):
        return self._shards[self.tensors[name].place].read(name)

    def close(self):
        for shard in self._shards.values():
            shard.close()


def shards_of(index):
    """(dict of array to file, names of the files) of the content of an index of shards."""
    places = index["weight_map"]
    for name in places.values():
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
            raise ValueError(f"{brief(name)} is no plain file name beside the index")
    names = sorted(set(places.values()))
    if len(names) > MAX_SHARDS:
        raise ValueError(f"{len(names)} shards")
    return places, names


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
    path = Path(path)
    return ShardedReader(path) if path.suffix == ".json" else open_weights(path)


def open_weights(path):
    """Opens a file as `open_file`, which is no index of shards."""
    with readable(path, "checkpoint"):
        if not path.is_file():
            raise ValueError("no regular file")  # to open a pipe would wait for its writer
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(512)
    if size == 0:
        raise CheckpointError(f"{path} is empty: download or write it again.")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the file: run `git lfs pull`.")
    reader = _reader_of(path, start)
    if reader is None:
        raise CheckpointError(
            f"{path} is no checkpoint that can be read. Expected: .safetensors, .npz, .pth or .bin "
            "of torch.save, .keras, .weights.h5 or an index of shards. Received: "
            f"{size} bytes that start with {start[:16]!r}"
        )
    reader = reader(path)
    with readable(path, reader.format):
        _check_names(reader)
    return reader


def _reader_of(path, start):
    """The class that reads a file which starts like that, or None."""
    from keras_vit.checkpoints.readers.keras import Hdf5Reader, KerasReader
    from keras_vit.checkpoints.readers.npz import NpzReader
    from keras_vit.checkpoints.readers.torch import LegacyTorchReader, TorchReader

    if start.startswith(b"PK"):
        with readable(path, "zip"), open_zip(path) as archive:
            names = archive.namelist()
        if "config.json" in names and "model.weights.h5" in names:
            return KerasReader
        if any(name.endswith("/data.pkl") for name in names):
            return TorchReader
        is_npz = names and all(name.endswith(".npy") for name in names)
        return NpzReader if is_npz else None
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return Hdf5Reader
    if start.startswith(b"\x80\x02"):
        return LegacyTorchReader
    return SafetensorsReader if start[8:9] == b"{" else None


def _check_names(reader):
    """Raises for more, or longer, names than weights have, and for arrays that share their data.

    A small file can name the same numbers a thousand times, and the model of it would be huge.
    """
    if len(reader.tensors) > MAX_TENSORS:
        raise ValueError(f"{len(reader.tensors)} arrays")
    for name in reader.tensors:
        if len(name) > MAX_NAME:
            raise ValueError(f"a name of {len(name)} characters")
    total = sum(tensor.nbytes for tensor in reader.tensors.values())
    if total > max(SMALL, MAX_EXPANSION * reader.size):
        raise ValueError(f"arrays of {total} bytes in all in a file of {reader.size}")


def open_zip(path):
    """A `ZipFile` whose names are unique and which does not unpack to far more than its size."""
    archive = zipfile.ZipFile(path)
    try:
        _check_zip(archive, path)
    except BaseException:
        archive.close()
        raise
    return archive


def _check_zip(archive, path):
    entries, size = archive.infolist(), os.path.getsize(path)
    with open(path, "rb") as file:
        file.seek(max(size - 22 - len(archive.comment), 0))
        end = file.read(12)
    # The directory has no checksum: a damaged entry can swallow those that follow.
    if end[:4] != b"PK\5\6" or end[10:] != struct.pack("<H", min(len(entries), 0xFFFF)):
        raise ValueError(f"a directory of {len(entries)} entries, which is not whole")
    if len({entry.filename for entry in entries}) != len(entries):
        raise ValueError("two entries have the same name")
    if len(entries) > MAX_TENSORS:
        raise ValueError(f"{len(entries)} entries")
    for entry in entries:
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"compressed by method {entry.compress_type}")
        if entry.compress_type == zipfile.ZIP_STORED and entry.compress_size != entry.file_size:
            raise ValueError(f"{entry.compress_size} bytes for {entry.file_size} that were stored")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > max(SMALL, MAX_EXPANSION * size):
        raise ValueError(f"{size} bytes would unpack to {unpacked}")


def read_array(file, place, tensor):
    """The array that lies at byte `place` of a file: all of it, or an error."""
    file.seek(place)
    numbers = np.fromfile(file, tensor.dtype, math.prod(tensor.shape))  # fewer at the file's end
    return numbers.reshape(tensor.shape)


def checked_shape(name, shape):
    """The shape that a file gives an array, as a tuple."""
    is_shape = isinstance(shape, (list, tuple)) and len(shape) <= MAX_AXES
    if not is_shape or not all(is_count(side) for side in shape):
        raise ValueError(f"{brief(name)} has the shape {brief(shape)}")
    return tuple(shape)
