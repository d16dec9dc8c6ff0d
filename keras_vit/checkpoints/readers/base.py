"""The base class of checkpoint readers, and the checks that they share.

Every reader checks names, shapes and extents against the size of the file, then what it reads
against them. Nothing is unpickled, and nothing takes more memory than the file says. SECURITY.md
lists what is promised.
"""

import math
import os
import struct
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_vit.checkpoints.untrusted import MAX_AXES, brief, is_count

MAX_EXPANSION = 20  # no real weights compress better
SMALL = 64 * 2**20  # bytes; files that unpack to no more are harmless however they compress
MAX_TENSORS = 10_000
MAX_NAME = 300  # characters


class Tensor(NamedTuple):
    """What a file says of one of its arrays, before any of its data is read."""

    shape: tuple
    dtype: np.dtype | None
    place: object  # where the data lies; each reader's own

    @property
    def nbytes(self):
        return math.prod(self.shape) * (0 if self.dtype is None else self.dtype.itemsize)


class Reader:
    """Named arrays of one file. `tensors` maps names to `Tensor`; `read(name)` gives an array.

    A file of PyTorch may hold several dicts of arrays, its parts: `tensors` are those of the only
    part, or of the one that was chosen by `select`.
    """

    config = None  # the model's configuration, where the file holds it too

    def __init__(self, path):
        self.path = Path(path)
        self.size = self.path.stat().st_size
        self.tensors = {}

    @property
    def parts(self):
        """dict of name to dict of tensor name to `Tensor`."""
        return {"": self.tensors}

    def select(self, part):
        """Makes `tensors` those of a part."""

    def read(self, name):
        raise NotImplementedError

    def close(self):
        pass


def open_zip(path):
    """Opens a zip; raises for repeated names and for one that unpacks to far more than its size."""
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
    """Reads the array at byte `place` of a file; raises if the file ends before it."""
    file.seek(place)
    numbers = np.fromfile(file, tensor.dtype, math.prod(tensor.shape))  # fewer at the file's end
    return numbers.reshape(tensor.shape)


def checked_shape(name, shape):
    """The shape that a file gives an array, as a tuple."""
    is_shape = isinstance(shape, (list, tuple)) and len(shape) <= MAX_AXES
    if not is_shape or not all(is_count(side) for side in shape):
        raise ValueError(f"{brief(name)} has the shape {brief(shape)}")
    return tuple(shape)
