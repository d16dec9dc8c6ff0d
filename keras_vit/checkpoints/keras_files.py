"""Keras's own files: `.weights.h5`, and `.keras` with the configuration beside the weights."""

import json

import h5py
import numpy as np

from keras_vit.checkpoints.files import Reader, Tensor, _unique, open_zip, readable


class Hdf5Reader(Reader):
    """`.weights.h5`. Arrays are named by layer and number: `block00/attention/qkv/0`."""

    format = "keras"

    def __init__(self, path, file=None):
        super().__init__(path)
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
            self.config = json.loads(archive.read("config.json"), object_pairs_hook=_unique)
            self._weights = archive.open("model.weights.h5")
        super().__init__(path, self._weights)

    def close(self):
        super().close()
        self._weights.close()
