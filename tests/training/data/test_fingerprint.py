"""A run that goes on notices that its data are others, and only then complains."""

import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.helpers import once
from tests.training.pictures import RECIPE, example, picture, write_folder, write_records
from training import data
from training.cnn import SmallCNN
from training.data import fingerprint
from training.loop import run
from training.recipe.schema import DataTable

# The same on every backend.
pytestmark = once


def refused(recipe, *parts):
    """A resume that must be refused; the message has all parts and says what to do."""
    with pytest.raises(ValueError) as error:
        run.prepare(recipe, run_dir="run", resume=True)
    message = str(error.value)
    for part in (*parts, "restore them", "--new", "Received: "):
        assert part in message, message


@pytest.fixture
def arrays(small):
    """Arrays of digits' size, and a run that has begun with them."""
    rng = np.random.default_rng(0)
    found = {}
    for name, count in (("train", 300), ("test", 40)):
        found[f"{name}_images"] = rng.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
        found[f"{name}_labels"] = np.arange(count) % 10
    np.savez("images.npz", **found)
    run.prepare(small, ["data.source=npz:images.npz", "train.epochs=9"], "run")
    return found


def test_arrays_are_known_by_content(small, arrays):
    run.prepare(small, run_dir="run", resume=True)
    np.savez_compressed("images.npz", **arrays)  # another file, the same images
    run.prepare(small, run_dir="run", resume=True)

    def change(key, value):
        np.savez("images.npz", **{**arrays, key: value})

    brighter, swapped = arrays["train_images"].copy(), arrays["train_images"].copy()
    brighter[7, 3, 3, 0] ^= 1
    swapped[[0, 10]] = swapped[[10, 0]]  # of the same class
    relabelled = arrays["test_labels"].copy()
    relabelled[5] = 9
    change("train_images", brighter)
    refused(
        small,
        "images, uint8 (270, 8, 8, 1), have other values or another order",
        "data.source=npz:images.npz",
    )
    change("train_images", swapped)
    refused(small, "images, uint8 (270, 8, 8, 1), have other values or another order")
    change("test_labels", relabelled)
    refused(small, "test labels, int64 (40,), have other values")
    change("test_images", arrays["test_images"].astype("float32"))
    refused(small, "test images are float32 (40, 8, 8, 1), were uint8 (40, 8, 8, 1)")
    np.savez("images.npz", **{k: v[:-1] if "test" in k else v for k, v in arrays.items()})
    refused(small, "test images are uint8 (39, 8, 8, 1), were", "test labels are int64 (39,), were")
    np.savez("images.npz", **arrays)
    run.prepare(small, run_dir="run", resume=True)


def test_a_run_of_before_there_was_a_record_passes_and_has_one_then(small, arrays):
    Path("run/data.json").unlink()
    np.savez("images.npz", **{**arrays, "train_images": arrays["train_images"][::-1]})
    run.prepare(small, run_dir="run", resume=True)
    np.savez("images.npz", **arrays)
    refused(small, "train images, uint8 (270, 8, 8, 1), have other values")


def finish(folder, monkeypatch):
    """Makes a run that has begun a finished one."""
    monkeypatch.setattr(run, "restore", lambda model, path: {"epochs": 9, "step": 0})
    Path(folder, "model.keras").touch()
    Path(folder, "result.json").write_text("{}")


def test_a_finished_run_shows_its_result_without_its_data(small, arrays, monkeypatch):
    finish("run", monkeypatch)
    np.savez("images.npz", **{**arrays, "test_labels": arrays["test_labels"][::-1]})
    assert run.prepare(small, run_dir="run", resume=True).finished
    with pytest.raises(ValueError, match="test labels, .*have other values"):
        run.prepare(small, ["train.epochs=10"], "run", resume=True)
    assert Path("run/result.json").exists()


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """A folder of pictures, one of which is broken, and a run that has begun with them."""
    monkeypatch.chdir(tmp_path)
    source = write_folder(tmp_path / "pets")
    Path("pets/train/cat/003.png").write_bytes(b"broken")
    Path("pets.toml").write_text(RECIPE.format(source=source))
    run.prepare("pets.toml", run_dir="run")
    return tmp_path / "pets"


def test_folders_are_known_by_names_and_sizes(pets, capsys):
    def again():
        run.prepare("pets.toml", run_dir="run", resume=True)

    again()
    shutil.copytree(pets, "copy")  # of another time
    shutil.rmtree(pets)
    shutil.move("copy", pets)
    (pets / "train/cat/003.png").unlink()  # it was left out
    (pets / "train/dog/notes.txt").write_text("no picture")
    capsys.readouterr()
    again()
    assert "than when the run started" not in capsys.readouterr().out

    for name in ("new1.png", "new2.JPEG"):
        (pets / "validation/owl" / name).write_bytes(picture("train", 1)[0])
    again()  # it has its own list of what it uses
    assert "1 more picture than when the run started" in capsys.readouterr().out  # one is gone

    one, other = pets / "train/dog/001.JPEG", pets / "validation/owl/002.JPEG"
    contents = one.read_bytes()
    one.write_bytes(contents + b"!")
    refused("pets.toml", f"1 of 38 files have another size: {one}. ")
    one.unlink()
    other.rename(other.with_name("renamed.JPEG"))
    refused("pets.toml", f"2 of 38 files are missing: {one}, {other}. ")
    shutil.rmtree(pets / "train")
    refused("pets.toml", "30 of 38 files are missing", ".png, ...")
    Path("run/data.json").unlink()
    again()


def test_a_shard_of_the_same_size_is_another_by_its_ends(tmp_path, monkeypatch):
    import tensorflow as tf

    monkeypatch.chdir(tmp_path)
    source = write_records(tmp_path / "records")
    Path("pets.toml").write_text(RECIPE.format(source=source))
    run.prepare("pets.toml", run_dir="run")
    run.prepare("pets.toml", run_dir="run", resume=True)
    shard = tmp_path / "records" / "train-00001-of-00002"
    before = shard.read_bytes()
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for index in range(1, 30, 2):  # other labels of the same pictures
            contents, label = picture("train", index)
            writer.write(example(contents, (label + 1) % 3))
    assert len(shard.read_bytes()) == len(before)
    refused("pets.toml", f"1 of 4 files have other contents: {shard}. ")
    shard.write_bytes(before[:-1])
    refused("pets.toml", f"1 of 4 files have another size: {shard}. ")
    shard.unlink()
    refused("pets.toml", f"1 of 4 files are missing: {shard}. ")
    shard.write_bytes(before)
    run.prepare("pets.toml", run_dir="run", resume=True)


def test_a_large_folder_is_listed_and_no_picture_opened(pets, monkeypatch):
    """What a million files take was measured: 4 seconds of a core."""
    splits = data.load(DataTable(f"folder:{pets}", max_corrupt=1), 3)
    listed, scandir = [], os.scandir

    def counted(path):
        listed.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    monkeypatch.setattr("builtins.open", None)
    found = fingerprint.of_splits(splits)
    assert len(listed) == 6 and found["files"] == 38 and min(found["sizes"]) > 50


def test_a_teacher_is_known_by_its_weights(small, monkeypatch):
    def teach(seed):
        keras.utils.set_random_seed(seed)
        SmallCNN(widths=(4,), image_size=8, num_channels=1, include_preprocessing=True).save(
            "teacher.keras"
        )

    teach(0)
    run.prepare(small, ["distill.teacher=teacher.keras"], "run")
    teach(0)  # another file, the same weights
    run.prepare(small, run_dir="run", resume=True)
    teach(1)
    refused(small, "teacher's weights", json.loads(Path("run/data.json").read_text())["teacher"])
    finish("run", monkeypatch)  # a finished run shows its result all the same
    assert run.prepare(small, run_dir="run", resume=True).finished
