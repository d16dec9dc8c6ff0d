"""Opens a checkpoint file by its content: a single file, or an index of shards."""

from pathlib import Path

from keras_vit.checkpoints.errors import CheckpointError, readable
from keras_vit.checkpoints.readers.base import (
    MAX_EXPANSION,
    MAX_NAME,
    MAX_TENSORS,
    SMALL,
    Reader,
    Tensor,
    open_zip,
)
from keras_vit.checkpoints.readers.keras import Hdf5Reader, KerasReader
from keras_vit.checkpoints.readers.npz import NpzReader
from keras_vit.checkpoints.readers.safetensors import SafetensorsReader
from keras_vit.checkpoints.readers.torch import LegacyTorchReader, TorchReader
from keras_vit.checkpoints.untrusted import brief, read_json

MAX_SHARDS = 1000


class ShardedReader(Reader):
    """Several files and an index (`model.safetensors.index.json`): which array is in which."""

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
                        f"{self.path} and its shards disagree on where {brief(key)} is. "
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
    """(dict of array to file, names of the files) in an index of shards."""
    places = index["weight_map"]
    for name in places.values():
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
            raise ValueError(f"{brief(name)} is not the name of a file beside the index")
    names = sorted(set(places.values()))
    if len(names) > MAX_SHARDS:
        raise ValueError(f"{len(names)} shards")
    return places, names


def open_file(path):
    """Opens a checkpoint file by its content, whatever its suffix.

    Args:
        path: path of a `.safetensors`, `.npz`, `.pth`/`.bin`, `.weights.h5` or `.keras` file, or of
            an index of shards (`.json`).

    Returns:
        `Reader`; close it after use.

    Raises:
        CheckpointError: for a file that is broken or of another kind.
    """
    path = Path(path)
    return ShardedReader(path) if path.suffix == ".json" else open_weights(path)


def open_weights(path):
    """Opens a file as `open_file`, but not an index of shards."""
    with readable(path, "checkpoint"):
        if not path.is_file():
            raise ValueError("not a regular file")  # opening a pipe would wait for its writer
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
            f"{path} is not a checkpoint that can be read. Expected: .safetensors, .npz, a file of "
            "torch.save, .keras, .weights.h5 or an index of shards. Received: "
            f"{size} bytes that start with {start[:16]!r}"
        )
    reader = reader(path)
    with readable(path, "checkpoint"):
        _check_names(reader)
    return reader


def _reader_of(path, start):
    """The class that reads a file with this start, or None."""
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
    """Raises for too many names, for long ones, and for arrays that share too much data.

    A small file can name the same numbers a thousand times; the model built from it would be huge.
    """
    count = sum(map(len, reader.parts.values()))
    if count > MAX_TENSORS:
        raise ValueError(f"{count} arrays")
    for part, tensors in reader.parts.items():
        for name in (part, *tensors):
            if len(name) > MAX_NAME:
                raise ValueError(f"a name of {len(name)} characters")
        total = sum(tensor.nbytes for tensor in tensors.values())
        if total > max(SMALL, MAX_EXPANSION * reader.size):
            raise ValueError(f"arrays of {total} bytes in all in a file of {reader.size}")
