"""Keras's own files: `.weights.h5`, and `.keras` with the configuration beside the weights."""

import re
import shutil
import struct
import tempfile
import zipfile

from keras_vit.checkpoints.errors import readable
from keras_vit.checkpoints.readers.base import Reader, Tensor, open_zip, read_array
from keras_vit.checkpoints.readers.hdf5 import Group, Hdf5File
from keras_vit.checkpoints.untrusted import brief, read_json

MAX_DEPTH = 20  # of layers within layers


class Hdf5Reader(Reader):
    """`.weights.h5`. Arrays are named by layer and number: `block00/attention/qkv/0`.

    The layers of a list are named by class: `blocks/my_block_0`, `blocks/my_block_1` ...; in the
    file the first of them has no number.
    """

    def __init__(self, path):
        super().__init__(path)
        with readable(path, "Keras weights"):
            self._file = self.path.open("rb")
            self._find_arrays(0, self.size)

    def _find_arrays(self, start, length):
        hdf5 = Hdf5File(self._file, start, length)
        layers = _group(hdf5, _group(hdf5, hdf5.root).members["layers"])
        for address in layers.members.values():
            layer = _group(hdf5, address)
            own = _group(hdf5, layer.members.pop("vars"))
            name = own.attributes["name"]
            self._add(hdf5, own, name)
            self._walk(hdf5, layer, name, MAX_DEPTH)

    def _walk(self, hdf5, group, name, depth, is_list=False):
        if depth == 0:
            raise ValueError(f"groups within groups, more than {MAX_DEPTH} deep")
        for key, address in group.members.items():
            inner = _group(hdf5, address)
            if key == "vars":
                self._add(hdf5, inner, name)
            else:
                if is_list and not re.search(r"_\d+$", key):
                    key = f"{key}_0"
                is_layer = "vars" in inner.members
                self._walk(hdf5, inner, f"{name}/{key}", depth - 1, is_list=not is_layer)

    def _add(self, hdf5, group, name):
        for number, address in group.members.items():
            array = hdf5.item(address)
            if isinstance(array, Group):
                raise ValueError(f"{brief(name)}/{number} is not an array")
            if f"{name}/{number}" in self.tensors:
                raise ValueError(f"{brief(name)}/{number} comes twice")
            self.tensors[f"{name}/{number}"] = Tensor(*array)

    def read(self, name):
        tensor = self.tensors[name]
        with readable(self.path, "Keras weights"):
            return read_array(self._file, tensor.place, tensor)

    def close(self):
        self._file.close()


class KerasReader(Hdf5Reader):
    """`.keras`: a zip of `config.json` and `model.weights.h5`. `config` is the model's, as JSON."""

    def __init__(self, path):
        Reader.__init__(self, path)
        with readable(path, "Keras"), open_zip(path) as archive:
            with archive.open("config.json") as file:
                self.config = read_json(file)
            self._find_arrays(*self._whole_member(archive, "model.weights.h5"))

    def _whole_member(self, archive, name):
        """(start, length) in `self._file` of a member of a zip, whose CRC is checked.

        One that was only stored, as Keras writes it, is read where it is; any other is unpacked
        into a file without a name.
        """
        info = archive.getinfo(name)
        with archive.open(info) as member:
            if info.compress_type != zipfile.ZIP_STORED:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
                shutil.copyfileobj(member, self._file, 2**20)
                return 0, info.file_size
            while member.read(2**20):
                pass  # to the end, where the CRC is compared
        self._file = self.path.open("rb")
        self._file.seek(info.header_offset + 26)
        lengths = struct.unpack("<HH", self._file.read(4))  # of what the local header ends in
        return info.header_offset + 30 + sum(lengths), info.file_size


def _group(hdf5, address):
    found = hdf5.item(address)
    if not isinstance(found, Group):
        raise ValueError("an array where a group should be")
    return found
