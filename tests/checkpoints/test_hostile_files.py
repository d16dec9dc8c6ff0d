"""Files that somebody wrote to do harm: one error that names the file, in little memory and time.

Random damage is in test_broken_files.py; here each file is made by hand, for one weakness.
"""

import contextlib
import io
import json
import os
import pickle
import struct
import sys
import time
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

from keras_vit.checkpoints.errors import CheckpointError
from keras_vit.checkpoints.readers import pickles
from keras_vit.checkpoints.readers.open import open_file
from keras_vit.checkpoints.readers.pickles import Inert, Storage, TorchTensor, interpret
from keras_vit.checkpoints.readers.torch import LEGACY_MAGIC, view
from keras_vit.checkpoints.untrusted import brief, read_json
from tests.checkpoints.fuzz import peak_memory
from tests.helpers import once

pytestmark = once  # what is read stays NumPy on every backend


def storage_id(key="0", numel=4, kind="FloatStorage"):
    """A storage of `torch.save` in pickle's words."""
    words = [b"X" + text(word) for word in ("storage", key, "cpu")]
    words.insert(1, f"ctorch\n{kind}\n".encode())
    return b"(" + b"".join(words) + number(numel) + b"tQ"


def text(value):
    data = value.encode()
    return struct.pack("<I", len(data)) + data


def number(value):
    return b"J" + struct.pack("<i", value)


def tensor(storage, offset=0, shape=(4,), strides=(1,)):
    axes = [b"(" + b"".join(map(number, x)) + b"t" for x in (shape, strides)]
    parts = storage, number(offset), *axes, b"\x89", b"}"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + b"".join(parts) + b"tR"


def state_dict(**tensors):
    items = b"".join(b"X" + text(name) + value for name, value in tensors.items())
    return b"\x80\x02}(" + items + b"u."


def torch_zip(path, program, **storages):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key.removeprefix('s')}", data)
    return path


def legacy_torch(path, program, *storages):
    parts = [
        pickle.dumps(LEGACY_MAGIC, 2),
        pickle.dumps(1001, 2),
        pickle.dumps({"little_endian": True}, 2),
        program,
        pickle.dumps([key for key, _, _ in storages], 2),
    ]
    parts += [struct.pack("<q", numel) + data for _, numel, data in storages]
    path.write_bytes(b"".join(parts))
    return path


def read_all(path):
    reader = open_file(path)
    try:
        return {name: np.array(reader.read(name)) for name in reader.tensors}
    finally:
        reader.close()


FOUR = np.arange(4, dtype="float32").tobytes()


def test_files_made_by_hand_are_read(tmp_path):
    """Without this the refusals below would prove nothing."""
    program = state_dict(a=tensor(storage_id()), b=tensor(storage_id(), 1, (2,), (2,)))
    for path in (
        torch_zip(tmp_path / "a.pth", program, s0=FOUR),
        legacy_torch(tmp_path / "b.pth", program, ("0", 4, FOUR)),
    ):
        found = read_all(path)
        np.testing.assert_array_equal(found["a"], [0, 1, 2, 3])
        np.testing.assert_array_equal(found["b"], [1, 3])


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((5,), (1,), 0), ((4,), (1,), 1), ((2, 2), (3, 1), 0), ((1,), (1,), -1), ((2,), (-1,), 1)]
    + [((5,), (0,), 0), ((-1,), (1,), 0), ((2,), (2**62,), 0)],
)
def test_no_view_reaches_beyond_its_numbers(shape, strides, offset):
    numbers = np.arange(4, dtype="float32")
    with pytest.raises(ValueError, match="in a storage of 4 numbers"):
        view(numbers, TorchTensor(Storage("FloatStorage", "0", 10**6), offset, shape, strides))
    with pytest.raises(ValueError, match="strides"):
        view(np.arange(8, dtype="float32")[::2], TorchTensor(None, 0, (4,), (1,)))


def claim_more(path, name, size):
    """Makes the directory of a zip, and it alone, say that a member has `size` bytes."""
    data = bytearray(path.read_bytes())
    at = data.rindex(name.encode()) - 46
    assert data[at : at + 4] == b"PK\x01\x02"
    data[at + 24 : at + 28] = struct.pack("<I", size)
    path.write_bytes(data)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_that_claims_more_than_it_holds(compression, tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(
            "archive/data.pkl", state_dict(a=tensor(storage_id(numel=4096), 0, (4096,)))
        )
        archive.writestr("archive/data/0", FOUR)
    claim_more(path, "archive/data/0", 4 * 4096)
    with pytest.raises(CheckpointError, match=f"{path} "):
        read_all(path)


def test_a_file_that_shrinks_after_it_was_opened(tmp_path):
    program = state_dict(a=tensor(storage_id(numel=4096), 0, (4096,)))
    path = legacy_torch(tmp_path / "a.pth", program, ("0", 4096, bytes(4 * 4096)))
    reader = open_file(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=f"{path} .*4071 of the 4096 numbers of 'a'"):
        reader.read("a")


@pytest.mark.parametrize("other", [{"numel": 2}, {"kind": "IntStorage"}])
def test_tensors_that_do_not_agree_on_their_storage(other, tmp_path):
    wrong = {"numel": 1000, **other} if "numel" in other else other
    shape = (wrong.get("numel", 4),)
    program = state_dict(a=tensor(storage_id(**wrong), 0, shape), b=tensor(storage_id(numel=4)))
    for path in (
        legacy_torch(tmp_path / "a.pth", program, ("0", 4, FOUR)),
        torch_zip(tmp_path / "b.pth", program, s0=FOUR),
    ):
        with pytest.raises(CheckpointError, match=f"{path} .*is described in two ways"):
            read_all(path)


def test_shared_storages_are_read_once_a_round(tmp_path, monkeypatch):
    """Also by turns: a hundred tensors of two storages are not a hundred readings of both."""
    tensors = {f"t{i}": tensor(storage_id(str(i % 2)), i // 2 % 4, (1,)) for i in range(100)}
    path = torch_zip(tmp_path / "a.pth", state_dict(**tensors), s0=FOUR, s1=FOUR)
    reader, read = open_file(path), []
    storage = reader._storage
    monkeypatch.setattr(reader, "_storage", lambda *x: read.append(x[0]) or storage(*x))
    for _ in range(2):
        for i in range(100):
            np.testing.assert_array_equal(reader.read(f"t{i}"), [i // 2 % 4])
    assert sorted(read) == ["0", "0", "1", "1"]
    assert not reader._kept


def doubled(times):
    """A tuple of two references to a tuple of two references to ...: 2^times leaves."""
    return b")" + b"".join(b"q%bh%b\x86" % (bytes([i]), bytes([i])) for i in range(times))


PAIRS = b"]q\0(" + b"K\1" * 2000 + b"e0"  # a list, in the memo
DUPLICATED = b"X" + text("a") + b"K\1X" + text("a") + b"K\2"
PROGRAMS = {
    "repr of references": b"\x80\x02}X\1\0\0\0a" + doubled(100) + b"s.",
    "references as key": b"\x80\x02}" + doubled(100) + b"K\1s.",
    "references as name": b"\x80\x02" + doubled(100) + b"X\1\0\0\0a\x93.",
    "references as storage": b"\x80\x02" + doubled(100) + b"Q.",
    "references as class": b"\x80\x02" + doubled(100) + b")R.",
    "references as shape": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
    + storage_id()
    + b"K\0"
    + doubled(100)
    + doubled(100)
    + b"tR.",
    "pairs of 2000": b"\x80\x02"
    + PAIRS
    + b"ccollections\nOrderedDict\n]("
    + b"h\0" * 9000
    + b"e\x85R.",
    "a dict from one list, often": b"\x80\x02]q\0("
    + b"".join(b"X" + text(f"k{i}") + b"N\x86" for i in range(2000))
    + b"e0("
    + b"ccollections\nOrderedDict\nh\0\x85R" * 20000
    + b"l.",
    "too many values": b"\x80\x02(" + b"N" * 20_000 + b"l.",
    "a key twice": b"\x80\x02}(" + DUPLICATED + b"u.",
    "a key twice, by turns": b"\x80\x02}X\1\0\0\0aK\1sX\1\0\0\0aK\2s.",
    "a key without a value": b"\x80\x02}(X\1\0\0\0au.",
    "a long key": b"\x80\x02}X" + text("a" * 10**6) + b"Ns.",
    "a long class": b"\x80\x02c" + b"a" * 10**6 + b"\nb\n.",
    "a long class, often": b"\x80\x02ctorch\n"
    + b"a" * 10**5
    + b"\nq\x000("
    + (b"(" + b"X" + text("storage") + b"h\0X" + text("0") + b"NK\1tQ") * 1000
    + b"l.",
    "a number of a million bytes": b"\x80\x02}\x8b"
    + struct.pack("<i", 10**6)
    + b"\x7f" * 10**6
    + b"Ns.",
    "a text of 2^62 bytes": b"\x80\x02\x8d" + struct.pack("<Q", 2**62) + b"a.",
    "a list in itself": b"\x80\x02]q\0h\0a.",
    "deep": b"\x80\x02" + b"(" * 9000 + b"N" + b"l" * 9000 + b".",
    "nothing on the stack": b"\x80\x02\x85.",
    "no end": b"\x80\x02}",
    "no dict": b"\x80\x02K\1.",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_pickles_that_describe_more_than_they_hold(program, tmp_path, little_memory, monkeypatch):
    monkeypatch.setattr(pickles, "MAX_OPERATIONS", 20_000)
    for path in (
        torch_zip(tmp_path / "a.pth", program),
        legacy_torch(tmp_path / "b.pth", program),
    ):
        with little_memory(30), pytest.raises(CheckpointError, match=f"{path}:? "):
            open_file(path)


@pytest.fixture
def little_memory():
    """A context that fails where Python's objects took more than so many MiB at a time."""

    @contextlib.contextmanager
    def limited(mebibytes):
        tracemalloc.start()
        try:
            yield
            assert tracemalloc.get_traced_memory()[1] < mebibytes * 2**20
        finally:
            tracemalloc.stop()

    return limited


def test_words_on_untrusted_values_are_few():
    value = ()
    for _ in range(100):
        value = (value, value)
    many = {str(i): value for i in range(1000)}
    for x in (value, [value] * 5, [value] * 10**6, many, 10**10000, "a" * 10**7, b"\x1b[2J" * 99):
        words = brief(x)
        assert len(words) < 600 and "\x1b" not in words
    assert brief([32, "a", None]) == "[32, 'a', None]"
    assert brief(many).startswith("a dict of 1000 items such as '0', '1'")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1, "a": 2}', "'a' comes twice"),
        (b'{"a": {"b": [NaN]}}', "the number NaN"),
        (b"[Infinity]", "the number Infinity"),
        (b"[1e999]", "the number 1e999"),
        (b"[" + b"9" * 5000 + b"]", "a number of 5000 digits"),
        (b"[" * 200 + b"]" * 200, "more than 100 deep"),
        (b"[" * 10**5 + b"]" * 10**5, "recursion"),
        (b" " * (16 * 2**20 + 1), "bytes of JSON"),
        (b"\xff\xfe[\0]\0", "utf-8"),
        (b"", "Expecting value"),
    ],
)
def test_json_that_no_library_writes(content, message):
    with pytest.raises((ValueError, RecursionError), match=message):
        read_json(io.BytesIO(content))
    assert read_json(io.BytesIO(b'{"a": [1, 2.5, "b", null, true]}')) == {
        "a": [1, 2.5, "b", None, True]
    }


def test_an_index_that_names_an_index(tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    other = tmp_path / "other.json"
    for name in (path.name, other.name):
        path.write_text(json.dumps({"weight_map": {"a": name}}))
        other.write_text(json.dumps({"weight_map": {"a": path.name}}))
        with pytest.raises(CheckpointError, match="is not a checkpoint that can be read"):
            open_file(path)
    path.write_text(json.dumps({"weight_map": {f"a{i}": f"b{i}" for i in range(1001)}}))
    with pytest.raises(CheckpointError, match=f"{path} .*1001 shards"):
        open_file(path)


def test_many_names_for_the_same_numbers(tmp_path):
    tensors = {f"t{i}": tensor(storage_id(numel=10**6), 0, (10**6,)) for i in range(100)}
    path = torch_zip(tmp_path / "a.pth", state_dict(**tensors), s0=bytes(4 * 10**6))
    with pytest.raises(CheckpointError, match=f"{path} .*arrays of 400000000 bytes in all"):
        open_file(path)


def worst_files(folder):
    """Files that reach a limit each, of as few bytes as possible."""
    for name, words in (("lists", b"[],"), ("dicts", b"{},"), ("numbers", b"7,")):
        header = b'{"a":[' + words * ((16 * 2**20 - 20) // len(words)) + b"0]}"
        path = folder / f"{name}.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header)
        yield path
    values = {"dicts": b"}", "lists": b"]", "kept": b"]\x94", "numbers": b"J\1\1\1\1"}
    for name, value in values.items():
        path = folder / f"{name}.pth"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/data.pkl", b"\x80\x02(" + value * 499_000 + b"l.")
        yield path
    path = folder / "text.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        value = "\U0001f600a" * (10 * 2**20)
        archive.writestr("a/data.pkl", b"\x80\x02(X" + text(value) + b"l.")
    yield path
    path = folder / "entries.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(10_001):
            archive.writestr(f"{i}.npy", b"")
    yield path
    path = folder / "names.safetensors"
    tensor = {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}
    names = {f"{'blocks.1.' * 32}{i}": tensor for i in range(10_000)}
    for i, name in enumerate(names):
        names[name] = {**tensor, "data_offsets": [4 * i, 4 * i + 4]}
    header = json.dumps(names).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4 * len(names)))
    yield path


@pytest.mark.slow
def test_the_worst_that_the_limits_allow(tmp_path):
    """What SECURITY.md promises, measured: memory of the process and its processor time."""
    import keras_vit

    for path in worst_files(tmp_path):
        memory, seconds = peak_memory(), time.process_time()
        with pytest.raises(CheckpointError, match=f"{path}"):
            keras_vit.from_pretrained(path)
        seconds, memory = time.process_time() - seconds, peak_memory() - memory
        figures = f"{memory / 2**20:6.0f} MiB {seconds:5.1f} s"
        print(f"{path.name:20} {path.stat().st_size:>9} bytes {figures}")
        assert memory < 2**30 and seconds < 60


def keras_weights(path, layers=2):
    """A file as Keras writes it, and its `h5py.File`, to be made worse."""
    file = h5py.File(path, "w")
    for i in range(layers):
        group = file.create_group(f"layers/dense{i}/vars")
        group.attrs["name"] = f"block{i:02d}"
        group["0"] = np.full((2, 3), i, "float32")
    return file


def test_weights_made_by_hand_are_read(tmp_path):
    """Many layers, so that names take several nodes; values of every dtype that Keras writes."""
    path = tmp_path / "a.weights.h5"
    with keras_weights(path, 300) as file:
        group = file["layers/dense7"].create_group("inner/vars")
        for i, dtype in enumerate(("float16", "float64", "int8", "uint32", "int64")):
            group[str(i)] = np.arange(-3 if dtype[0] != "u" else 0, 4).astype(dtype)
        group["5"], group["6"] = np.float32(7), np.zeros((0, 2), "float32")
        group.attrs["numbers"] = np.arange(5)
    found = read_all(path)
    assert len(found) == 307
    for i in range(300):
        np.testing.assert_array_equal(found[f"block{i:02d}/0"], np.full((2, 3), i, "float32"))
    with h5py.File(path) as file:
        for i in range(7):
            expected = file[f"layers/dense7/inner/vars/{i}"][()]
            np.testing.assert_array_equal(found[f"block07/inner/{i}"], expected)
            assert found[f"block07/inner/{i}"].dtype == expected.dtype


def soft_root(file, folder):
    del file["layers"]
    file["layers"] = h5py.SoftLink("/other")


def external(place):
    def change(file, folder):
        with keras_weights(folder / "other.h5"):
            pass
        del file[place]
        file[place] = h5py.ExternalLink(str(folder / "other.h5"), "/layers")

    return change


def soft(place):
    def change(file, folder):
        file[place] = h5py.SoftLink("/layers/dense0")

    return change


def hard(place, target):
    def change(file, folder):
        file[place] = file[target]

    return change


def diamonds(file, folder):
    group = file["layers/dense0"]
    for _ in range(60):
        inner = group.create_group("a")
        group["b"] = inner
        group = inner


def dataset(**options):
    def change(file, folder):
        del file["layers/dense0/vars/0"]
        shape = options.pop("shape", (2, 3))
        file["layers/dense0/vars"].create_dataset("0", shape, options.pop("dtype", "f4"), **options)

    return change


def virtual(file, folder):
    layout = h5py.VirtualLayout((2, 3), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "x", (2, 3))
    del file["layers/dense0/vars/0"]
    file["layers/dense0/vars"].create_virtual_dataset("0", layout)


def no_name(file, folder):
    del file["layers/dense0/vars"].attrs["name"]


def long_name(file, folder):
    file["layers/dense0/vars"].attrs["name"] = "a" * 50000


def deep(file, folder):
    file.create_group("layers/dense0/" + "a/" * 50 + "vars")


HDF5 = {
    "a soft link at the root": soft_root,
    "an external link at the root": external("layers"),
    "an external link to a layer": external("layers/dense0"),
    "an external link in a layer": external("layers/dense0/vars"),
    "a soft link beside layers": soft("optimizer"),
    "a soft link to a layer": soft("layers/dense2"),
    "a soft link in a layer": soft("layers/dense1/x"),
    "a circle": hard("layers/dense1/x", "layers"),
    "a circle to the root": hard("layers/dense1/x", "/"),
    "two links to an array": hard("layers/dense1/vars/1", "layers/dense0/vars/0"),
    "diamonds": diamonds,
    "compressed": dataset(compression="gzip", chunks=(2, 3)),
    "chunks that are not there": dataset(shape=(10**6, 10**6), chunks=(1000, 1000)),
    "never written": dataset(shape=(10**6, 10**6)),
    "another file": dataset(external=[("secret.bin", 0, 24)]),
    "numbers of two parts": dataset(dtype="c8"),
    "references": dataset(dtype=h5py.ref_dtype),
    "texts": dataset(dtype=h5py.string_dtype()),
    "of another file": virtual,
    "no name": no_name,
    "a long name": long_name,
    "deep": deep,
}


@pytest.mark.parametrize("change", HDF5.values(), ids=HDF5)
def test_hdf5_that_keras_does_not_write(change, tmp_path, little_memory):
    path = tmp_path / "a.weights.h5"
    with keras_weights(path) as file:
        change(file, tmp_path)
    archive = tmp_path / "a.keras"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("config.json", "{}")
        file.write(path, "model.weights.h5")
    for name in (path, archive):
        with (
            little_memory(20),
            pytest.raises(CheckpointError, match=f"{name} is not a complete Keras"),
        ):
            read_all(name)


def test_a_keras_file_may_be_compressed_and_its_checksum_counts(tmp_path):
    weights = tmp_path / "a.weights.h5"
    keras_weights(weights).close()
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = tmp_path / f"{compression}.keras"
        with zipfile.ZipFile(path, "w", compression) as file:
            file.writestr("config.json", "{}")
            file.write(weights, "model.weights.h5")
        np.testing.assert_array_equal(read_all(path)["block01/0"], np.ones((2, 3)))
    data = bytearray((tmp_path / "0.keras").read_bytes())
    data[data.index(np.ones(6, "float32").tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{path} .*Bad CRC-32"):
        read_all(path)


def test_a_directory_that_lost_an_entry(tmp_path):
    """Its comment, of which the zip format keeps no checksum, takes the next entry in."""
    path = tmp_path / "a.npz"
    np.savez(path, a=np.zeros(3), b=np.zeros(3))
    assert len(read_all(path)) == 2
    data = bytearray(path.read_bytes())
    first, second = (data.rindex(name) - 46 for name in (b"a.npy", b"b.npy"))
    length = data.rindex(b"PK\5\6") - second
    data[first + 32 : first + 34] = struct.pack("<H", length)
    path.write_bytes(data)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["a.npy"]
    with pytest.raises(CheckpointError, match="1 entries, which is not whole"):
        open_file(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(method, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as file:
        file.writestr("a.npy", b"")
    with pytest.raises(CheckpointError, match="compressed by method"):
        open_file(tmp_path / "a.npz")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="model.pth .*not a regular file"):
        open_file(tmp_path / "model.pth")


def test_a_numpy_array_in_fortran_order_and_others(tmp_path):
    array = np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3))
    np.savez(tmp_path / "a.npz", a=array, b=np.int64(3))
    np.testing.assert_array_equal(read_all(tmp_path / "a.npz")["a"], array)
    for wrong in (np.array(["a"]), np.array([1j]), np.zeros(2, [("a", "f4")])):
        np.savez(tmp_path / "b.npz", a=wrong)
        with pytest.raises(CheckpointError, match="b.npz .*but not its data"):
            open_file(tmp_path / "b.npz")


def test_what_numpy_leaves_beside_the_weights_is_passed_over():
    """By both names of its module; by protocol 2 bytes are a text that is to be encoded."""
    state = np.random.RandomState(0).get_state()
    content = {"best": np.float64(0.5), "state": state, "epoch": 3}
    for protocol in (2, 4):
        program = pickle.dumps(content, protocol)
        old = program.replace(b"numpy._core", b"numpy.core") if protocol == 2 else program
        assert b"numpy._core" in program and (protocol == 4 or b"numpy.core" in old)
        for found in (interpret(io.BytesIO(program)), interpret(io.BytesIO(old))):
            assert found["epoch"] == 3
            assert found["best"] == Inert() and found["state"][1] == Inert()


# What is no tensor, but may stand beside some: nothing of it is imported, called or kept.
PASSED_OVER = {
    "_codecs encode",
    "argparse Namespace",
    "collections Counter",
    "collections defaultdict",
    "numpy dtype",
    "numpy.core.multiarray _reconstruct",
    "numpy.core.multiarray scalar",
    "numpy._core.multiarray _reconstruct",
    "numpy._core.multiarray scalar",
    "torch Size",
    "torch device",
    "pathlib PosixPath",
    "yacs.config CfgNode",
}


def called(name, arguments=b")"):
    """A pickle of what a call gives, with an attribute and an item of its own."""
    made = b"c" + name.replace(" ", "\n").encode() + b"\n" + arguments + b"R"
    item, attributes = b"X" + text("a") + b"K\1s", b"}X" + text("b") + b"K\1sb"
    return b"\x80\x02" + made + item + attributes + b"."


def test_the_calls_that_a_pickle_may_make():
    assert pickles.HARMLESS == PASSED_OVER
    tensors = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
    tensors.add("torch._utils _rebuild_parameter")
    loaded = set(sys.modules)
    for name in PASSED_OVER:
        found = interpret(io.BytesIO(called(name)))
        assert type(found) is Inert and found == [] and vars(found) == {}
    others = [name.rpartition(" ")[0] for name in PASSED_OVER | tensors]
    others = {f"{module} system" for module in others} | {"builtins eval", "os system"}
    others |= {name.upper() for name in PASSED_OVER} | {"numpy.core.multiarray fromfile"}
    others |= {name.replace(" ", ".x ") for name in PASSED_OVER}
    for name in others:
        with pytest.raises(CheckpointError, match="none of its code was run"):
            interpret(io.BytesIO(called(name)))
    assert set(sys.modules) == loaded


def test_dicts_that_are_parts_of_each_other(tmp_path):
    """Each dict is looked at once, however many ways lead to it, and some levels deep at most."""
    many = b"\x80\x02}q\0(" + b"".join(b"X" + text(f"k{i}") + b"h\0" for i in range(200)) + b"u."
    doubled = b"\x80\x02}" + b"".join(
        b"q%b}(X\1\0\0\0ah%bX\1\0\0\0bh%bu" % ((bytes([i]),) * 3) for i in range(100)
    )
    for program in (many, doubled + b"."):
        with pytest.raises(CheckpointError, match="has no dict of tensors"):
            open_file(torch_zip(tmp_path / "a.pth", program))
    name = b"\x80\x02}X" + text("k" * 400) + state_dict(a=tensor(storage_id()))[2:-1] + b"s."
    with pytest.raises(CheckpointError, match="a name of 400 characters"):
        open_file(torch_zip(tmp_path / "a.pth", name, s0=FOUR))
    inner = b"".join(b"}X" + text("k" * 900) for _ in range(2000)) + b"N" + b"s" * 2000
    with pytest.raises(CheckpointError, match="has no dict of tensors"):
        open_file(torch_zip(tmp_path / "a.pth", b"\x80\x02" + inner + b"."))


def test_storages_of_what_is_no_weight(tmp_path):
    """A list of tensors, such as states of random numbers, is passed over in either format."""
    program = b"\x80\x02}(X" + text("model") + state_dict(a=tensor(storage_id()))[2:-1]
    program += b"X" + text("rng") + b"]" + tensor(storage_id("1", 3)) + b"au."
    path = legacy_torch(tmp_path / "b.pth", program, ("0", 4, FOUR), ("1", 3, FOUR[:12]))
    np.testing.assert_array_equal(read_all(path)["a"], [0, 1, 2, 3])
    path = torch_zip(tmp_path / "a.pth", program, s0=FOUR, s1=FOUR[:12])
    np.testing.assert_array_equal(read_all(path)["a"], [0, 1, 2, 3])
