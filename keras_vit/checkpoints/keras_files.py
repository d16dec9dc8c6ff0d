"""Keras's own files: `.weights.h5`, and `.keras` with the configuration beside the weights."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

from keras_vit.checkpoints.files import (
    CheckpointError,
    Reader,
    Tensor,
    open_zip,
    readable,
    unique_keys,
)

# The HDF5 library hangs or crashes on some broken files, so a process of its own reads them first.
TRIAL = """
import sys, zipfile, h5py
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
except ImportError:
    pass  # not on this system
path = sys.argv[1]
file = zipfile.ZipFile(path).open("model.weights.h5") if zipfile.is_zipfile(path) else path
def read(name, item):
    list(item.attrs.items())
    if isinstance(item, h5py.Dataset) and item.nbytes <= 20 * max(item.id.get_storage_size(), 4096):
        item[()]
h5py.File(file, "r").visititems(read)
"""


def try_first(path):
    """Raises where a process of its own cannot read the HDF5 file at `path` to its end."""
    size = Path(path).stat().st_size
    command = [sys.executable, "-I", "-c", TRIAL, str(path), str(2**31 + 3 * size)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=20 + size / 10e6)
    except subprocess.TimeoutExpired:
        said = "it did not end"
    else:
        if done.returncode == 0:
            return
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        said = said or f"the HDF5 library ended with {done.returncode}"
    raise CheckpointError(
        f"{path} is no whole Keras weights file: download or write it again. Received: {said[:300]}"
    )


class Hdf5Reader(Reader):
    """`.weights.h5`. Arrays are named by layer and number: `block00/attention/qkv/0`."""

    format = "keras"

    def __init__(self, path, file=None):
        super().__init__(path)
        try_first(path)
        with readable(path, "Keras weights"):
            self._file = h5py.File(file or self.path, "r")
            for group in self._file["layers"].values():
                name = group["vars"].attrs["name"]
                self._walk(group, name if isinstance(name, str) else name.decode())

    def _walk(self, group, name):
        for key, item in group.items():
            if isinstance(group.get(key, getlink=True), h5py.ExternalLink):
                raise ValueError(f"{name}/{key} lies in another file")
            if key != "vars":
                self._walk(item, f"{name}/{key}")
                continue
            for number, dataset in item.items():
                if dataset.external or dataset.is_virtual:
                    raise ValueError(f"{name}/{number} lies in another file")
                if dataset.nbytes > 20 * max(dataset.id.get_storage_size(), 4096):
                    raise ValueError(f"{name}/{number} claims {dataset.nbytes} bytes")
                tensor = Tensor(dataset.shape, dataset.dtype, dataset.name)
                if f"{name}/{number}" in self.tensors:
                    raise ValueError(f"{name}/{number} comes twice")
                self.tensors[f"{name}/{number}"] = tensor

    def read(self, name):
        with readable(self.path, "Keras weights"):
            return np.asarray(self._file[self.tensors[name].place])

    def close(self):
        self._file.close()


class KerasReader(Hdf5Reader):
    """`.keras`: a zip of `config.json` and `model.weights.h5`. `config` is the model's, as JSON."""

    def __init__(self, path):
        with readable(path, "Keras"):
            archive = open_zip(path)
            self.config = json.loads(archive.read("config.json"), object_pairs_hook=unique_keys)
            with archive.open("model.weights.h5") as weights:
                while weights.read(2**24):  # to the end: checks the CRC
                    pass
            self._weights = archive.open("model.weights.h5")
        super().__init__(path, self._weights)

    def close(self):
        super().close()
        self._weights.close()
