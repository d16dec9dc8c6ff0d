"""Pictures with boxes: every layout gives the same objects, and what is wrong is said."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import PHOTOS, once
from tests.training import box_scenes as scenes
from training.data import detection, fingerprint
from training.data.box_layouts import yaml_names
from training.data.boxes import Boxes
from training.data.digit_scenes import drawn
from training.data.examples import reader, restore, save
from training.data.sources import digits
from training.recipe.schema import DataTable

pytestmark = once  # without a backend

WRITE = {
    "coco": scenes.write_coco,
    "yolo": scenes.write_yolo,
    "voc": scenes.write_voc,
    "tfrecord": scenes.write_records,
}
real = pytest.mark.skipif(not PHOTOS.exists(), reason="needs tiny_coco")


def table(source, **settings):
    return DataTable(source, **{"validation": 0.25, **settings})


def found_objects(split):
    """list of arrays (n, 5) as `scenes.objects` gives them, through the reader of a run."""
    read = reader(split.labels)
    for i in range(len(split.labels)):
        corners, labels, _ = (x.numpy() for x in read(i))
        x0, y0, x1, y1 = corners.T
        yield np.stack([x0, y0, x1 - x0, y1 - y0, labels], axis=-1)


@pytest.mark.parametrize("layout", WRITE)
def test_every_layout_gives_the_objects(layout, tmp_path):
    source = WRITE[layout](tmp_path / "data")
    split, names = detection.read(table(source), "train", "auto")
    assert names == scenes.CLASSES
    assert len(split.labels) == len(split.images) == 12
    for index, found in enumerate(found_objects(split)):
        expected = np.array(scenes.objects(index), "float32").reshape(-1, 5)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert tuple(split.labels.sizes[index]) == scenes.size(index)
    assert split.labels.counts[3] == 0  # a picture without objects stays
    expected_ids = scenes.IDS if layout in ("coco", "tfrecord") else [0, 1, 2]
    assert split.labels.class_ids.tolist() == expected_ids


def test_the_splits_of_a_run_are_saved_and_compared(tmp_path):
    source = scenes.write_coco(tmp_path / "data")
    splits = detection.load(table(source), "auto")
    assert [len(x.labels) for x in splits[:3]] == [9, 3, 4]  # val is the test
    save(splits, tmp_path / "examples.npz")
    again = restore(tmp_path / "examples.npz", Boxes.of_arrays)
    for one, other in zip(splits[:3], again[:3], strict=True):
        for key, array in vars(one.labels).items():
            np.testing.assert_array_equal(array, getattr(other.labels, key), err_msg=key)
    assert again.class_names == scenes.CLASSES
    before = fingerprint.of_splits(splits)
    assert before == fingerprint.of_splits(again) and before["files"] == 16


def test_selecting_and_joining_pictures():
    boxes = Boxes.of_pictures(
        [[([1, 2, 3, 4], 0, 0, 12)], [], [([0, 0, 2, 2], 1, 1, 4), ([1, 1, 5, 5], 1, 0, 25)]],
        [(10, 10), (20, 20), (30, 30)],
        [5, 6, 7],
        [3, 9],
    )
    assert boxes.counts.tolist() == [1, 0, 1]  # without the crowd
    chosen = boxes[np.array([2, 0])]
    assert chosen.ids.tolist() == [7, 5] and chosen.boxes[-1].tolist() == [1, 2, 3, 4]
    assert chosen.starts.tolist() == [0, 2, 3]
    both = boxes[[True, False, False]] + boxes[1:]
    for key, array in vars(boxes).items():
        np.testing.assert_array_equal(array, getattr(both, key), err_msg=key)
    assert boxes.classes().tolist() == [0, 1] and boxes.max() == 1
    truth = boxes.truth(["a", "b"])
    assert [x["category_id"] for x in truth["annotations"]] == [3, 9, 9]
    assert [x["image_id"] for x in truth["annotations"]] == [1, 3, 3]
    assert [x["iscrowd"] for x in truth["annotations"]] == [0, 1, 0]


def edited(source, change, split="train"):
    """Rewrites the annotations of a split by a function of their content."""
    file = Path(source.partition(":")[2], "annotations", f"instances_{split}.json")
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_bad_boxes_are_counted_and_named(tmp_path):
    """Without an area, beyond the picture, not finite: the others are learned."""
    source = scenes.write_coco(tmp_path / "data")

    def change(content):
        boxes = [item["bbox"] for item in content["annotations"]]
        boxes[0][2] = 0
        boxes[1][0], boxes[1][2] = -3, 10
        boxes[2][1] = float("nan")
        boxes[3][0] = 500  # outside
        content["annotations"][4]["iscrowd"] = 1

    edited(source, change)
    with pytest.warns(UserWarning) as said:
        splits = detection.load(table(source), "auto")
    text = "\n".join(str(x.message) for x in said)
    assert "1 boxes that are not finite are left out: 0" in text
    assert "2 boxes without an area in the picture are not learned: 000.png [" in text
    assert "1 boxes that reach beyond the picture are cut off: 0" in text
    total = sum(len(scenes.objects(i)) for i in range(12))
    train = splits.train.labels + splits.validation.labels
    assert train.counts.sum() == total - 4
    corners = train.corners[train.learned]
    assert np.isfinite(corners).all() and (corners >= 0).all()
    assert (corners[:, 2:] > corners[:, :2]).all()


def test_corners_in_place_of_sides_are_suspected(tmp_path):
    source = scenes.write_coco(tmp_path / "data")

    def change(content):
        for item in content["annotations"]:
            item["bbox"] = [14, 14, 14 + 5, 14 + 5]

    edited(source, change)
    with pytest.warns(UserWarning, match="may be the corners x0, y0, x1, y1"):
        detection.read(table(source), "train", "auto")


def shares(content):
    for item in content["annotations"]:
        item["bbox"] = [x / 40 for x in item["bbox"]]


def clash(content):
    content["categories"][0]["name"] = "horse"


def unknown(content):
    content["annotations"][0]["category_id"] = 4


def twice(content):
    content["images"][1]["id"] = content["images"][0]["id"]


def other_size(content):
    content["images"][0]["width"] += 1


def no_categories(content):
    del content["categories"]


def no_box(content):
    del content["annotations"][0]["bbox"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (shares, "must be in pixels; those of this file seem to be shares of the picture"),
        (clash, "id 3 is 'horse' in .*train.json and 'cat' in .*val.json"),
        (unknown, "Received: category 4 in .*instances_train.json"),
        (twice, "an id of its own. Received: 2 twice"),
        (other_size, "set data.upright=false. Received: .*000.png of 32 x 20 pixels, and 33 x 20"),
        (no_categories, "without categories"),
        (no_box, "'annotations' must have image_id, category_id, bbox. .* one without bbox"),
    ],
)
def test_annotations_that_are_wrong(change, said, tmp_path):
    source = scenes.write_coco(tmp_path / "data")
    edited(source, change)
    with pytest.raises(ValueError, match=said):
        detection.read(table(source), "train", "auto")


def test_annotations_without_their_pictures(tmp_path):
    source = scenes.write_coco(tmp_path / "data")
    (tmp_path / "data" / "train" / "002.png").unlink()
    with pytest.raises(ValueError, match="with 1 of 12 missing, such as .*002.png"):
        detection.read(table(source), "train", "auto")
    for file in (tmp_path / "data" / "train").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="none of its 12 pictures in .*train"):
        detection.read(table(source), "train", "auto")
    with pytest.raises(ValueError, match="a JSON file, or a folder with"):
        (tmp_path / "empty").mkdir()
        detection.read(table(f"coco:{tmp_path / 'empty'}"), "", "auto")


def test_files_of_coco_as_others_lay_them_out(tmp_path):
    """One JSON file, Roboflow's folders, and annotations of captions beside those of objects."""
    path = tmp_path / "data"
    source = scenes.write_coco(path)
    expected, _ = detection.read(table(source), "train", "auto")
    (path / "annotations" / "person_keypoints_train.json").write_text("{}")
    again, _ = detection.read(table(source), "train", "auto")
    np.testing.assert_array_equal(again.labels.boxes, expected.labels.boxes)
    plain = path / "train" / "_annotations.coco.json"
    plain.write_text((path / "annotations" / "instances_train.json").read_text())
    one, _ = detection.read(table(f"coco:{plain}"), "", "auto")
    np.testing.assert_array_equal(one.labels.boxes, expected.labels.boxes)
    (path / "annotations").rename(tmp_path / "elsewhere")
    of_folder, _ = detection.read(table(f"coco:{path}"), "train", "auto")
    np.testing.assert_array_equal(of_folder.labels.boxes, expected.labels.boxes)


def test_raw_ids_are_the_classes(tmp_path):
    source = scenes.write_coco(tmp_path / "data")
    split, names = detection.read(table(source, raw_ids=True), "train", 91)
    plain, _ = detection.read(table(source), "train", 3)
    np.testing.assert_array_equal(split.labels.labels, np.array(scenes.IDS)[plain.labels.labels])
    assert names is None and len(split.labels.class_ids) == 91
    with pytest.raises(ValueError, match=r"must lie in \[0, 2\).*Received: class 2 in 0"):
        detection.read(table(source), "train", 2)


def test_yolo_files_that_are_wrong(tmp_path):
    source = scenes.write_yolo(tmp_path / "data")
    file = tmp_path / "data" / "labels" / "train" / "000.txt"
    for line, said in (
        ("1 12 9 5 6", "seem to be pixels.*'1 12 9 5 6' in .*000.txt, line 1"),
        ("1 0.5 0.5 0.1", "a class and x, y, width, height.*line 1"),
        ("cat 0.5 0.5 0.1 0.1", "a class and x, y, width, height"),
        ("3 0.5 0.5 0.1 0.1", "one of the 3 names. Received: class 3"),
    ):
        file.write_text(line + "\n")
        with pytest.raises(ValueError, match=said):
            detection.read(table(source), "train", "auto")
    file.write_text("1 0.5 0.5 nan 0.1\n")
    with pytest.warns(UserWarning, match="not finite"):
        detection.read(table(source), "train", "auto")


def test_names_in_yaml():
    for text in (
        "names: [cat, 'dog', \"owl\"]  # a list",
        "path: x\nnames:\n  - cat\n  - dog\n  - owl\nnc: 3",
        "names:\n  0: cat\n  1: dog  # with a comment\n  2: owl\n",
        "names: ['cat',\n  'dog', 'owl']",
        "names:\n- cat\n- dog\n- owl",
    ):
        assert yaml_names(text) == scenes.CLASSES, text
    assert yaml_names("nc: 3") is None


def test_other_sources_of_yolo_and_voc(tmp_path):
    path = tmp_path / "data"
    scenes.write_yolo(path)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (path / split).mkdir(exist_ok=True)
            (path / kind / split).rename(path / split / kind)
    (path / "images").rmdir()
    (path / "labels").rmdir()
    split, _ = detection.read(table(f"yolo:{path}"), "val", "auto")
    assert len(split.labels) == 4
    path = tmp_path / "voc"
    scenes.write_voc(path)
    (path / "ImageSets" / "Main" / "cat_train.txt").write_text("000 -1\n")  # of a class
    file = path / "Annotations" / "000.xml"
    file.write_text(file.read_text().replace("<difficult>0", "<difficult>1"))
    split, _ = detection.read(table(f"voc:{path}"), "train", "auto")
    assert split.labels.crowd.sum() == len(scenes.objects(0)) and split.labels.counts[0] == 0
    file.write_text("<annotation>")
    with pytest.raises(ValueError, match="must be XML with size.*000.xml"):
        detection.read(table(f"voc:{path}"), "train", "auto")


def test_sources_that_are_none(tmp_path):
    for source, said in (
        ("npz:x", "data.source must be digits, coco:PATH, yolo:PATH"),
        ("coco:/nowhere", "must name an existing folder"),
        ("digits:x", "data.source must be digits"),
    ):
        with pytest.raises(ValueError, match=said):
            detection.read(table(source), "", "auto")
    source = scenes.write_coco(tmp_path / "data")
    with pytest.raises(ValueError, match="--split must be one of train, val"):
        detection.read(table(source), "test", "auto")


def test_scenes_of_digits_are_drawn_again():
    split = digits()
    one, two = (drawn(split, 12, seed) for seed in (0, 0))
    np.testing.assert_array_equal(one.images, two.images)
    np.testing.assert_array_equal(one.labels.boxes, two.labels.boxes)
    assert not np.array_equal(one.images, drawn(split, 12, 1).images)
    assert 1 <= one.labels.counts.min() < one.labels.counts.max() <= 4
    sides = one.labels.boxes[:, 2:]
    assert sides.min() >= 3 and (one.labels.corners[:, 2:] <= one.images.shape[1]).all()
    # Inside of a box there is a digit: its pixels are brighter than those of the scene.
    brightness = one.images.mean(axis=-1)
    inside = [
        brightness[i, y : y + h, x : x + w].max()
        for i, (x, y, w, h) in zip(one.labels.pictures, one.labels.boxes.astype(int), strict=True)
    ]
    assert np.mean(inside) > np.mean(brightness) + 60


@real
def test_cocos_own_files():
    """50 and 50 pictures; crowds are no targets, and boxes at the border are not beyond it."""
    split, names = detection.read(table(f"coco:{PHOTOS.parent}"), "val2017", "auto")
    content = json.loads((PHOTOS.parent / "annotations" / "instances_val2017.json").read_text())
    assert len(names) == 80 and len(split.labels) == 50
    crowds = sum(x["iscrowd"] for x in content["annotations"])
    assert split.labels.crowd.sum() == crowds > 0
    assert split.labels.counts.sum() == len(content["annotations"]) - crowds
    first = Image.open(PHOTOS / content["images"][0]["file_name"])
    assert tuple(split.labels.sizes[0]) == first.size[::-1]


def test_tensorflow_datasets(tmp_path):
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():  # this may run twice in a process

        class TinyBoxes(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                item = {
                    "bbox": tfds.features.BBoxFeature(),
                    "label": tfds.features.ClassLabel(names=scenes.CLASSES),
                    "is_crowd": np.bool_,
                }
                image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
                features = {"image": image, "objects": tfds.features.Sequence(item)}
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, download):
                return {"train": self._examples(range(8)), "validation": self._examples(range(2))}

            def _generate_examples(self, name):
                raise NotImplementedError

            def _examples(self, indices):
                for index in indices:
                    height, width = scenes.size(index)
                    found = [
                        {
                            "bbox": tfds.features.BBox(
                                y / height, x / width, (y + h) / height, (x + w) / width
                            ),
                            "label": label,
                            "is_crowd": index == 1,
                        }
                        for x, y, w, h, label in scenes.objects(index)
                    ]
                    yield index, {"image": scenes.picture(index), "objects": found}

    TinyBoxes(data_dir=tmp_path).download_and_prepare()
    own = table("tfds:tiny_boxes", data_dir=str(tmp_path))
    split, names = detection.read(own, "train", "auto")
    assert names == scenes.CLASSES and len(split.labels) == 8
    # tensorflow-datasets has an order of its own: by size and number of objects.
    found = sorted((tuple(size), x.tolist()) for size, x in of_pictures(split))
    expected = sorted(
        (scenes.size(i), np.array([] if i == 1 else scenes.objects(i), "float32").tolist())
        for i in range(8)
    )
    for (size, objects), (other_size, others) in zip(found, expected, strict=True):
        assert size == other_size
        np.testing.assert_allclose(
            np.reshape(objects, (-1, 5)), np.reshape(others, (-1, 5)), atol=1e-3
        )
    assert split.labels.crowd.sum() == len(scenes.objects(1))


def of_pictures(split):
    """(size, objects, rounded) of every picture."""
    for size, found in zip(split.labels.sizes.tolist(), found_objects(split), strict=True):
        yield size, np.round(found, 2)
