"""The same pictures from a folder, from TFRecord files and from tensorflow-datasets."""

import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import backends
from tests.training.helpers import plan
from tests.training.pictures import (
    CLASSES,
    COUNTS,
    RECIPE,
    picture,
    write_folder,
    write_records,
)
from training import data
from training.augment.transform import evaluation_transform, training_transform
from training.data import examples
from training.loop import run
from training.recipe.schema import AugmentTable, DataTable

# tf.data does all of this whatever the backend is.
pytestmark = backends("tensorflow")

EVERY = ("folder", "tfrecord", "tfds")


def write_tfds(path):
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():  # this may run twice in a process

        class TinyPets(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                names = tfds.features.ClassLabel(names=CLASSES)
                features = tfds.features.FeaturesDict(
                    {"image": tfds.features.Image(), "label": names}
                )
                return tfds.core.DatasetInfo(
                    builder=self, features=features, supervised_keys=("image", "label")
                )

            def _split_generators(self, download):
                return {split: self._generate_examples(split) for split in COUNTS}

            def _generate_examples(self, split):
                for index in range(COUNTS[split]):
                    contents, label = picture(split, index)
                    yield index, {"image": io.BytesIO(contents), "label": label}

    TinyPets(data_dir=path).download_and_prepare()
    return "tfds:tiny_pets"


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A `DataTable` for every kind of source, of the same pictures."""
    path = tmp_path_factory.mktemp("sources")
    options = {"validation": 0.2, "crop_fraction": 1.0}
    return {
        "folder": DataTable(write_folder(path / "folder"), **options),
        "tfrecord": DataTable(write_records(path / "records"), **options),
        "tfds": DataTable(write_tfds(path / "tfds"), data_dir=str(path / "tfds"), **options),
    }


def seen(split, table):
    """{(label, pixels)} of a split in evaluation."""
    dataset = data.evaluation_dataset(
        split, 4, data.classified(evaluation_transform(table, (16, 16, 3)), 3)
    )
    return {
        (int(label.argmax()), image.tobytes())
        for images, labels in dataset.as_numpy_iterator()
        for image, label in zip(images, labels, strict=True)
    }


def test_every_source_gives_the_same_images(tables):
    expected = {}
    transform = evaluation_transform(tables["folder"], (16, 16, 3))
    for split, count in COUNTS.items():
        pictures = [picture(split, index) for index in range(count)]
        expected[split] = {
            (label, transform(tf.constant(c)).numpy().tobytes()) for c, label in pictures
        }
    for name, table in tables.items():
        splits = data.load(table, 3)
        assert splits.class_names == (None if name == "tfrecord" else CLASSES)
        assert [len(split.labels) for split in splits[:3]] == [24, 6, 9]
        assert list(np.bincount(splits.validation.labels)) == [2, 2, 2]
        train, held_out = seen(splits.train, table), seen(splits.validation, table)
        assert train | held_out == expected["train"] and not train & held_out
        assert seen(splits.test, table) == expected["validation"]


@pytest.mark.parametrize("name", EVERY)
def test_order_and_pixels_are_functions_of_seed_epoch_and_index(tables, name):
    table = tables[name]
    split = data.load(table, 3).train
    augment = AugmentTable(crop_scale=(0.5, 1.0), flip=True, randaugment=(1, 9))
    transform = training_transform(augment, table, (16, 16, 3))

    def batches(epochs, batch_size=4):
        dataset = data.train_dataset(split, plan(split, 3, batch_size, transform, 5, epochs))
        return [image for images, _ in dataset.as_numpy_iterator() for image in images]

    whole, rest = batches(range(3)), batches(range(1, 3))
    assert len(whole) == 72
    np.testing.assert_array_equal(whole[24:], rest)
    np.testing.assert_array_equal(whole[24:], batches(range(1, 3), batch_size=6))
    assert len({image.tobytes() for image in whole}) == 72


def test_no_example_comes_twice_an_epoch_but_for_repeats(tables):
    table = tables["folder"]
    split = data.load(table, 3).train
    whole = evaluation_transform(table, (16, 16, 3))

    def shown(repeats, epochs):
        made = plan(split, 3, 8, lambda image, seed: whole(image), 0, epochs, repeats=repeats)
        dataset = data.train_dataset(split, made)
        return [image.tobytes() for images, _ in dataset.as_numpy_iterator() for image in images]

    assert len(set(shown(1, range(1)))) == 24
    threefold = shown(3, range(2))
    assert len(threefold) == 48 and len(set(threefold[:24])) == 8
    assert all(threefold[i] == threefold[i - i % 3] for i in range(24))
    assert set(threefold[:24]) != set(threefold[24:])


def test_repeats_are_changed_differently(tables):
    table = tables["folder"]
    transform = training_transform(AugmentTable(crop_scale=(0.2, 1.0)), table, (16, 16, 3))
    split = data.load(table, 3).train
    dataset = data.train_dataset(split, plan(split, 3, 8, transform, 0, range(1), repeats=3))
    images = [image.tobytes() for batch, _ in dataset.as_numpy_iterator() for image in batch]
    assert len(set(images)) == 24


def test_a_folder_without_splits_holds_out_a_share(tmp_path, tables):
    path = Path(tables["folder"].source.removeprefix("folder:"), "train")
    splits = data.load(DataTable(f"folder:{path}", test=0.3, validation=0.3), 3)
    assert [len(split.labels) for split in splits[:3]] == [15, 6, 9]
    assert list(np.bincount(splits.test.labels)) == [3, 3, 3]
    names = [split.images.name(i) for split in splits[:3] for i in range(len(split.labels))]
    assert len(set(names)) == 30 and splits.class_names == CLASSES


def test_splits_are_chosen_by_name(tables):
    source = tables["folder"].source
    joined = data.load(DataTable(source, train_split="train+validation"), 3)
    assert sum(len(split.labels) for split in joined[:3]) == 39
    swapped = DataTable(source, train_split="validation", test_split="train", validation=0.3)
    assert len(data.load(swapped, 3).test.labels) == 30
    for options, message in (
        ({"train_split": "trian"}, "train_split must be one of train, validation"),
        ({"test_split": "test"}, "test_split must be one of train, validation"),
        ({"test_split": "train"}, "must not be among the training images"),
    ):
        for name in EVERY:
            table = tables[name]
            table = DataTable(table.source, data_dir=table.data_dir, **options)
            with pytest.raises(ValueError, match=message):
                data.load(table, 3)


def test_sources_that_cannot_be_read_are_refused(tmp_path, tables):
    (tmp_path / "empty").mkdir()
    (tmp_path / "train-00000-of-00001").write_bytes(picture("train", 1)[0])
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "other" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "other" / "train" / "cat" / "1.png").write_bytes(picture("train", 0)[0])
    (tmp_path / "other" / "test" / "cow").mkdir(parents=True)
    for source, message in (
        (f"folder:{tmp_path}/nowhere", "existing folder"),
        (f"folder:{tmp_path}/empty", "one folder per class"),
        (f"folder:{tmp_path}", r"must have .jpg.*train/cat"),
        (f"folder:{tmp_path}/other", r"among those of the training images.*test/cow"),
        (f"tfrecord:{tmp_path}/nowhere*", "match existing files"),
        (f"tfrecord:{tmp_path}/train-00*", "complete and not compressed"),
        ("tfds:no_such_data_set_at_all", "name a data set"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            data.load(DataTable(source, data_dir=str(tmp_path)), 3)
        assert "Received: " in str(error.value)


def test_what_nobody_reads_is_counted_and_named(tmp_path):
    """And never opened: a pipe would be waited at for ever."""
    for index in range(12):
        contents, label = picture("train", index)
        path = tmp_path / "train" / CLASSES[label] / f"{index}.{'png' if index % 3 == 0 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)
    cats = tmp_path / "train" / "cat"
    (cats / "below").mkdir()
    for name in ("a\x1b[2J.HEIC", "b.heic", "below/c.jpg", ".hidden.heic", "../labels.txt"):
        (cats / name).touch()
    os.mkfifo(cats / "pipe.jpg")
    (cats / "dangling.png").symlink_to("nowhere.png")
    with pytest.warns(UserWarning) as warned:
        splits = data.load(DataTable(f"folder:{tmp_path}", validation=0.3), 3)
    (said,) = {str(warning.message) for warning in warned if "not read" in str(warning.message)}
    assert said.startswith("6 files are not read (2 .heic, 2 .jpg, 1 .txt, 1 .png): ")
    assert str(tmp_path / "train/labels.txt") in said and "\\x1b[2J.HEIC" in said
    assert sum(len(split.labels) for split in splits[:3]) == 12 and not splits.skipped
    (tmp_path / "other" / "cat").mkdir(parents=True)
    (tmp_path / "other" / "cat" / "only.heic").touch()
    with pytest.raises(ValueError, match="must have .jpg.*Received: .*cat with only.heic"):
        data.load(DataTable(f"folder:{tmp_path}/other"), 1)


def test_labels_out_of_range_stop_at_once_and_the_image_is_named(tmp_path, tables):
    with pytest.raises(ValueError, match=r"\[0, 2\).*Received: 2 at .*owl/002.JPEG"):
        data.load(tables["folder"], 2)
    source = write_records(tmp_path / "from_one", first_label=1)
    with pytest.raises(ValueError, match=r"Received: 3 at .*train-00000-of-00002 at byte \d+"):
        data.load(DataTable(source), 3)
    assert len(data.load(DataTable(source, first_label=1), 3).test.labels) == 9


def test_a_broken_record_file_is_named(tmp_path):
    source = write_records(tmp_path / "records")
    path = tmp_path / "records" / "train-00001-of-00002"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(ValueError, match=r"train-00001-of-00002 with a record that starts at"):
        data.load(DataTable(source), 3)
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"no example")
    with pytest.raises(ValueError, match=r"must be an Example with image/encoded.*at byte 12"):
        data.load(DataTable(source), 3)


BROKEN = {  # what breaks a file
    "cat/000.png": lambda contents: contents[:-40],
    "dog/004.JPEG": lambda contents: contents[: len(contents) * 3 // 4],
    "owl/029.JPEG": lambda contents: b"",
    "owl/005.JPEG": lambda contents: b"<html>not found</html>",
}


@pytest.fixture
def broken(tmp_path):
    source = write_folder(tmp_path / "broken")
    for name, change in BROKEN.items():
        path = tmp_path / "broken" / "train" / name
        path.write_bytes(change(path.read_bytes()))
    path = tmp_path / "broken" / "validation" / "cat" / "000.png"
    path.write_bytes(path.read_bytes()[:50])
    return source


def test_the_first_corrupt_image_stops(broken):
    with pytest.raises(ValueError, match=r"data.max_corrupt=0, and .*train/cat/000.png: \w+"):
        data.load(DataTable(broken), 3)
    with pytest.raises(ValueError, match=r"max_corrupt=4, and .*validation/cat/000.png: \w+"):
        data.load(DataTable(broken, max_corrupt=4), 3)


def test_corrupt_images_are_left_out_and_named(broken):
    splits = data.load(DataTable(broken, max_corrupt=5), 3)
    assert sum(len(split.labels) for split in splits[:3]) == 34
    found = [(split, "/".join(Path(image).parts[-2:])) for split, image, _ in splits.skipped]
    expected = [("train", name) for name in sorted(BROKEN)] + [("test", "cat/000.png")]
    assert found == expected
    assert all(reason and "second time" not in reason for *_, reason in splits.skipped)
    left = {split.images.name(i) for split in splits[:3] for i in range(len(split.labels))}
    assert not left & {image for _, image, _ in splits.skipped}
    assert len(seen(splits.train, DataTable(broken))) == len(splits.train.labels)


def test_examples_are_kept_and_read_back(tmp_path, tables, broken):
    for table in (tables["folder"], tables["tfrecord"], DataTable(broken, max_corrupt=5)):
        splits = data.load(table, 3)
        examples.save(splits, tmp_path / "examples.npz")
        again = data.load(table, 3, tmp_path / "examples.npz")
        assert again.class_names == splits.class_names
        for one, other in zip(splits[:3], again[:3], strict=True):
            np.testing.assert_array_equal(one.labels, other.labels)
            assert [one.images.name(i) for i in range(len(one.labels))] == [
                other.images.name(i) for i in range(len(other.labels))
            ]


def test_a_run_on_a_folder_with_corrupt_images(tmp_path, monkeypatch, broken, capsys):
    monkeypatch.chdir(tmp_path)
    Path("pets.toml").write_text(RECIPE.format(source=broken))
    job = run.prepare("pets.toml", run_dir="run")
    assert "5 broken images are left out" in capsys.readouterr().out
    with open("run/skipped.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["train"] * 4 + ["test"]
    run.fit(job)
    # A picture more, and one that breaks, change nothing about a run that goes on.
    (tmp_path / "broken/train/cat/added.png").write_bytes(picture("train", 3)[0])
    again = run.prepare("pets.toml", run_dir="run", resume=True)
    assert again.done["epochs"] == 2
    names = [again.splits.train.images.name(i) for i in range(len(again.splits.train.labels))]
    assert len(names) == len(job.splits.train.labels) and "added" not in "".join(names)
    result = run.finish(again, 0.0)
    assert result["test_images"] == 8
    assert Path("run/predictions.png").exists() and result["export_max_difference"] < 1e-4


def test_the_data_sets_of_tensorflow_datasets_itself_can_be_asked_for(tmp_path):
    """Where their files come from is read from the package, which needs more than it says."""
    import tensorflow_datasets as tfds

    assert tfds.builder("cifar10", data_dir=tmp_path).url_infos
