"""Broken and hostile files: a clear error, nothing executed, little memory, the model as it was."""

import json
import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

import keras_vit
from keras_vit.checkpoints.errors import CheckpointError
from tests.checkpoints import fuzz
from tests.checkpoints.helpers import GOLDEN
from tests.helpers import once, to_numpy

pytestmark = once  # files are read the same way on every backend
# 2000 of each with -m slow; the table of outcomes: python -m tests.checkpoints.fuzz
MUTATIONS = 100
CONFIG_MUTATIONS = 8  # of what a configuration says a model is built, which takes longer


def model():
    return keras_vit.VisionTransformer(
        image_size=(24, 16), patch_size=8, width=32, depth=2, num_heads=4, mlp_dim=64, num_classes=5
    )


@pytest.mark.parametrize(
    ("kind", "mutations"),
    [(kind, CONFIG_MUTATIONS if kind in fuzz.CONFIGS else MUTATIONS) for kind in fuzz.KINDS]
    + [pytest.param(kind, 2000, marks=pytest.mark.slow) for kind in fuzz.KINDS],
)
def test_damaged_files_are_read_or_refused(kind, mutations, tmp_path):
    """One error that names the file, or the numbers of the whole file where it has a checksum."""
    before = fuzz.peak_memory()
    found = fuzz.outcomes(kind, mutations, 0, tmp_path)
    assert found.total() == mutations and found["refused"] > mutations / 10
    assert fuzz.peak_memory() - before < 2**30


@pytest.mark.parametrize("kind", ["safetensors", "torch", "npz", "weights.h5"])
def test_a_failed_load_leaves_the_model_as_it_was(kind, tmp_path):
    path = fuzz.whole_file(kind, tmp_path)
    if kind == "weights.h5":
        model().save_weights(path)
    whole = path.read_bytes()
    standing = keras_vit.VisionTransformer(
        image_size=24 if kind == "npz" else (24, 16),
        patch_size=8,
        width=32,
        depth=2,
        num_heads=4,
        mlp_dim=64,
        num_classes=5,
    )
    before = {w.path: to_numpy(w) for w in standing.weights}
    rng = np.random.default_rng(1)
    failures = 0
    for _ in range(60):
        path.write_bytes(fuzz.mutate(whole, rng))
        try:
            keras_vit.load_weights(standing, path)
            before = {w.path: to_numpy(w) for w in standing.weights}
        except CheckpointError:
            failures += 1
            for weight in standing.weights:
                np.testing.assert_array_equal(to_numpy(weight), before[weight.path])
    assert failures > 3


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_wants_to_run_code_is_named_and_not_run(legacy, tmp_path):
    """Once more by hand beside the golden file that PyTorch wrote."""
    proof = tmp_path / "EVIL_RAN"
    program = pickle.dumps({"model": Evil(str(proof))}, protocol=2)
    path = tmp_path / "evil.pth"
    if legacy:
        path.write_bytes(program)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", program)
    with pytest.raises(CheckpointError, match="none of its code was run.*: a call of .*open"):
        keras_vit.from_pretrained(path)
    assert not proof.exists()
    with pytest.raises(
        CheckpointError, match="none of its code was run.*Received: a call of posix.system"
    ):
        keras_vit.from_pretrained(GOLDEN / "torch_evil" / "model.pth")
    assert not Path("EVIL_RAN").exists()


def header(text, data=b""):
    text = text.encode()
    return struct.pack("<Q", len(text)) + text + data


TENSOR = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "is not a checkpoint that can be read"),
        (struct.pack("<Q", 2**62) + b"{}", "a header of 4611686018427387904 bytes"),
        (header("{}" + "[" * 100000), "JSONDecodeError"),
        (header('{"a":' + "[" * 100000), "RecursionError|JSONDecodeError"),
        (header(f'{{"a":{TENSOR},"a":{TENSOR}}}', b"\0" * 8), "'a' comes twice"),
        (header(f'{{"a":{TENSOR}}}', b"\0" * 4), "arrays up to byte"),
        (header(f'{{"a":{TENSOR},"b":{TENSOR}}}', b"\0" * 8), "overlap or leave a gap"),
        (header(f'{{"a":{TENSOR.replace("[2]", "[99999999999]")}}}', b"\0" * 8), "but 8 bytes"),
        (header(f'{{"a":{TENSOR.replace("[2]", "[-2]")}}}', b"\0" * 8), "shape \\[-2\\]"),
        (header(f'{{"a":{TENSOR.replace("F32", "F5")}}}', b"\0" * 8), "dtype 'F5'"),
        (header('{"a":7}'), "TypeError"),
        (header("[]"), "not a complete safetensors|is not a checkpoint"),
    ],
    ids=range(14),
)
def test_absurd_safetensors_are_refused(content, message, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        keras_vit.from_pretrained(tmp_path / "model.safetensors")


def test_a_small_file_that_unpacks_to_much_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(200 * 2**20))
    with pytest.raises(CheckpointError, match="would unpack to 209715200"):
        keras_vit.from_pretrained(tmp_path / "bomb.npz")


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "", "..", "a/b"])
def test_an_index_that_leaves_its_folder_is_refused(shard, tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(CheckpointError, match="not the name of a file beside the index"):
        keras_vit.from_pretrained(path)


def test_a_missing_shard_is_named(tmp_path):
    folder = shutil.copytree(GOLDEN / "hf_sharded", tmp_path / "sharded")
    shard = sorted(folder.glob("model-*"))[1]
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"names '{shard.name}', which is not beside it"):
        keras_vit.from_pretrained(folder)


def test_a_keras_file_makes_no_class_but_ours(tmp_path):
    """Neither a Lambda layer nor a class of another module is made from a file."""
    path = tmp_path / "model.keras"
    model().save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    evil = {"class_name": "Popen", "module": "subprocess", "config": {"args": ["touch", "EVIL"]}}
    for key, value, message in [
        ("preprocessor", evil, "must be a keras_vit.Preprocessor"),
        ("dtype", evil, "dtype|policy|Invalid"),
        ("depth", 10**6, "contradict each other. Expected: depth=2"),
        ("width", 10**6, "contradict each other. Expected: width=32"),
        ("image_size", [48, 32], "contradict each other. Received: weights of another shape"),
    ]:
        changed = json.loads(json.dumps(config))
        changed["config"][key] = value
        parts["config.json"] = json.dumps(changed).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, data)
        for other in ({}, {"name": "mine"}):  # which changes no weight
            with pytest.raises(ValueError, match=message):
                keras_vit.from_pretrained(path, **other)
    assert not Path("EVIL").exists()
