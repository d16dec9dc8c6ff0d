"""The HDF5 reader beside the HDF5 library, on files as Keras writes them, large and small."""

import h5py
import keras
import numpy as np

from keras_vit.checkpoints.readers.hdf5 import Hdf5File
from keras_vit.checkpoints.readers.open import open_file
from tests.helpers import once, tiny_vit


@once
def test_groups_whose_names_take_trees_of_several_levels(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        f"a_layer_whose_name_is_long_{i:04}": rng.normal(size=(i % 3, 2)) for i in range(1500)
    }
    with h5py.File(tmp_path / "many.h5", "w") as file:
        for name, array in arrays.items():
            group = file.create_group(f"layers/{name}/vars")
            group.attrs["name"] = name[::-1]
            group.create_dataset("0", data=array)
    length = (tmp_path / "many.h5").stat().st_size
    with (tmp_path / "many.h5").open("rb") as file:
        read = Hdf5File(file, 0, length)
        layers = read.item(read.item(read.root).members["layers"])
        assert layers.members.keys() == arrays.keys()
        for name, array in arrays.items():
            group = read.item(read.item(layers.members[name]).members["vars"])
            found = read.item(group.members["0"])
            assert group.attributes == {"name": name[::-1]}
            assert found.shape == array.shape and found.dtype == array.dtype
            file.seek(found.place)
            assert file.read(array.nbytes) == array.tobytes()


@once
def test_every_kind_of_number(tmp_path):
    kinds = ["float16", "float32", "float64", "int8", "uint8", "int32", "int64", "uint16"]
    with h5py.File(tmp_path / "kinds.h5", "w") as file:
        for kind in kinds:
            file[kind] = np.arange(3).astype(kind)
        file["scalar"] = np.float32(3)
    length = (tmp_path / "kinds.h5").stat().st_size
    with (tmp_path / "kinds.h5").open("rb") as file:
        read = Hdf5File(file, 0, length)
        members = read.item(read.root).members
        assert read.item(members["scalar"]).shape == ()
        for kind in kinds:
            found = read.item(members[kind])
            file.seek(found.place)
            assert found.dtype == kind
            assert file.read(3 * found.dtype.itemsize) == np.arange(3).astype(kind).tobytes()


def test_weights_in_bfloat16(tmp_path):
    model = tiny_vit(dtype="bfloat16")
    for file in ("model.keras", "model.weights.h5"):
        save = model.save if file == "model.keras" else model.save_weights
        save(tmp_path / file)
        reader = open_file(tmp_path / file)
        kernel = keras.ops.convert_to_numpy(
            keras.ops.cast(model.get_layer("patch_embedding").projection.kernel, "float32")
        )
        found = reader.read("patch_embedding/projection/0")
        assert found.dtype.name == "bfloat16" and np.any(kernel)
        np.testing.assert_array_equal(found.astype("float32"), kernel)
        reader.close()
