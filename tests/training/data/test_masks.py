"""Sources of pictures and masks, and what stops a run before it starts."""

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.helpers import once
from tests.training import scenes
from training.data import coco, examples, fingerprint, mask_records
from training.data.masks import COLOR, LabelMap, Masks, Packed, color_code, pixel_values
from training.data.segmentation import load, read
from training.recipe.schema import DataTable

# tf.data does all of this whatever the backend is.
pytestmark = once

CAMVID = Path(__file__).parents[4] / "shared" / "data" / "camvid"
COLORS = {"sky": [128, 128, 128], "road": [128, 64, 128], "car": [64, 0, 128]}


def labels_of(split):
    label = examples.reader(split.labels)
    return [label(i).numpy() for i in range(len(split.labels))]


def one(path, pixels, table=None, classes=scenes.K, **arguments):
    """Loads a folder with a single mask for each split."""
    for split in ("train", "test"):
        scenes.save(path / split / "images" / "a.png", np.zeros((*pixels.shape[:2], 3), "uint8"))
        scenes.save(path / split / "images" / "b.png", np.zeros((*pixels.shape[:2], 3), "uint8"))
        scenes.save(path / split / "masks" / "a.png", pixels, **arguments)
        scenes.save(path / split / "masks" / "b.png", pixels, **arguments)
    table = {"validation": 0.5, **(table or {})}
    return load(DataTable(f"folder:{path}", **table), classes)


def files(pixels, *modes):
    for mode in modes:
        file = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(file, "PNG")
        yield file.getvalue()


def test_every_kind_of_index_file_gives_its_values():
    """Grey of every depth, palettes, 16 bits, a grey picture in colours; by both decoders."""
    values = np.array([[0, 1, 3], [1, 0, 2]], "uint8")
    found = list(files(values, "L", "RGB", "LA", "RGBA"))
    palette = Image.fromarray(values)
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    for arguments in ({"bits": 2}, {"bits": 8}):
        file = io.BytesIO()
        palette.save(file, "PNG", **arguments)
        found.append(file.getvalue())
    file = io.BytesIO()
    Image.fromarray(values.astype("uint16")).save(file, "PNG")
    found.append(file.getvalue())
    found.append(tf.io.encode_png(values[..., None]).numpy())
    for contents in found:
        np.testing.assert_array_equal(LabelMap().decode(tf.constant(contents))[0], values)
        np.testing.assert_array_equal(pixel_values(contents), values)
    binary = io.BytesIO()
    Image.fromarray(values > 0).save(binary, "PNG")
    np.testing.assert_array_equal(LabelMap().decode(tf.constant(binary.getvalue()))[0], values > 0)
    # Of a palette the colours, where these are asked for.
    values_of = LabelMap(colors=True).decode(tf.constant(found[4]))[1].numpy()
    assert values_of[0, 0] == color_code((255, 0, 0)) and values_of[0, 2] == color_code((9, 9, 9))
    grey = LabelMap(colors=True).decode(tf.constant(found[0]))[1].numpy()
    assert grey[1, 2] == color_code((2, 2, 2)) >= COLOR


LAYOUTS = {
    "images and masks": ("images/{}", "masks/{}"),
    "splits": ("{}/images", "{}/annotations"),
    "segnet": ("{}", "{}annot"),
    "voc's names": ("JPEGImages/{}", "SegmentationClass/{}"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pictures_and_masks_are_matched_by_stem_in_every_layout(layout, tmp_path):
    images, masks = LAYOUTS[layout]
    index = 0
    for split, count in (("train", 6), ("val", 2), ("test", 3)):
        for _ in range(count):
            scenes.save(
                tmp_path / images.format(split) / "city" / f"{index}.bmp", scenes.picture(index)
            )
            scenes.save(
                tmp_path / masks.format(split) / "city" / f"{index}.png", scenes.mask(index)
            )
            index += 1
    found = load(DataTable(f"folder:{tmp_path}", validation_split="val"), scenes.K)
    assert [len(part.labels) for part in found[:3]] == [6, 2, 3]
    numbers = [int(Path(name).stem) for name in map(found.test.images.name, range(3))]
    assert sorted(numbers) == [8, 9, 10]
    for number, labels in zip(numbers, labels_of(found.test), strict=True):
        np.testing.assert_array_equal(labels, scenes.mask(number))
        counts = [(scenes.mask(number) == label).sum() for label in range(scenes.K)]
        np.testing.assert_array_equal(found.test.labels.counts[numbers.index(number)], counts)


def test_without_splits_shares_are_held_out(tmp_path):
    for index in range(10):
        scenes.save(tmp_path / "images" / f"{index}.png", scenes.picture(index))
        scenes.save(tmp_path / "masks" / f"{index}.png", scenes.mask(index))
    found = load(DataTable(f"folder:{tmp_path}", validation=0.25), "auto")
    names = [[part.images.name(i) for i in range(len(part.labels))] for part in found[:3]]
    assert [len(x) for x in names] == [6, 2, 2] and len(set(sum(names, []))) == 10
    again = load(DataTable(f"folder:{tmp_path}", validation=0.25), "auto")
    assert names[2] == [again.test.images.name(i) for i in range(2)]


def test_colour_masks_by_a_palette(tmp_path):
    colors = np.array([*COLORS.values(), [0, 0, 0]], "uint8")
    index = np.array([[0, 1, 2, 3], [2, 2, 0, 1]])
    found = one(tmp_path, colors[index], {"palette": {**COLORS, "void": [0, 0, 0]}})
    assert found.class_names == ["sky", "road", "car"]
    np.testing.assert_array_equal(labels_of(found.test)[0], np.where(index == 3, 255, index))
    with pytest.raises(
        ValueError, match=r"one of the 3 values.*a\.png with the colour \[0, 0, 0\]"
    ):
        one(tmp_path, colors[index], {"palette": COLORS})
    with pytest.raises(
        ValueError, match=r"need data\.palette.*the colours \[0, 0, 0\], \[64, 0, 128"
    ):
        one(tmp_path, colors[index])


def test_reduce_zero_label_on_and_off(tmp_path):
    values = np.array([[0, 1, 2], [3, 255, 0]], "uint8")
    off = one(tmp_path, values, classes=4)
    np.testing.assert_array_equal(labels_of(off.test)[0], values)
    on = one(tmp_path, values, {"reduce_zero_label": True}, classes=3)
    np.testing.assert_array_equal(labels_of(on.test)[0], [[255, 0, 1], [2, 255, 255]])
    assert on.test.labels.counts[0].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match=r"\[0, 3\).*label 3 in .*a\.png"):
        one(tmp_path, values, classes=3)  # off
    with pytest.raises(ValueError, match=r"label 2 \(after reduce_zero_label\) in"):
        one(tmp_path, values, {"reduce_zero_label": True}, classes=2)


def test_bad_masks_stop_the_run_and_are_named(tmp_path):
    labels = np.zeros((4, 5), "uint8")
    with pytest.raises(ValueError, match=r"below 255, or 255.*a\.png with the value 300"):
        one(tmp_path, labels.astype("uint16") + 300)
    one(tmp_path, labels)
    masks = tmp_path / "train" / "masks"
    scenes.save(masks / "b.png", np.zeros((5, 4), "uint8"))
    table = DataTable(f"folder:{tmp_path}", validation=0.5)
    with pytest.raises(ValueError, match=r"size of its picture.*b\.png of 5 x 4 .* of 4 x 5"):
        load(table, 3)
    (masks / "b.png").write_bytes((masks / "a.png").read_bytes()[:50])
    with pytest.raises(ValueError, match=r"complete picture file.*b\.png: "):
        load(table, 3)
    (masks / "b.png").unlink()
    with pytest.raises(ValueError, match=r"picture must have a mask.*images/b\.png without one"):
        load(table, 3)
    (masks / "b.png").write_bytes((masks / "a.png").read_bytes())
    (tmp_path / "train" / "images" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"mask must have a picture.*masks/a\.png without one"):
        load(table, 3)
    for file in masks.iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"There must be masks"):
        load(table, 3)
    with pytest.raises(ValueError, match=r"folder with pictures and masks.*with cats"):
        (tmp_path / "no" / "cats").mkdir(parents=True)
        load(DataTable(f"folder:{tmp_path / 'no'}"), 3)
    with pytest.raises(ValueError, match=r"must be digits, npz:PATH, folder:PATH.*tfds:NAME"):
        load(DataTable("pictures:here"), 3)


def test_a_turned_photo_has_the_size_that_is_seen(tmp_path):
    """EXIF turns the picture; its mask was drawn on what a viewer shows."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in "abcd":
        path = tmp_path / "images" / f"{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((4, 6, 3), "uint8")).save(path, exif=exif)
        scenes.save(tmp_path / "masks" / f"{name}.png", np.zeros((6, 4), "uint8"))
    table = {"validation": 0.3, "test": 0.3}
    assert load(DataTable(f"folder:{tmp_path}", **table), 2).train.labels.sizes[0].tolist() == [
        6,
        4,
    ]
    with pytest.raises(ValueError, match="size of its picture"):
        load(DataTable(f"folder:{tmp_path}", upright=False, **table), 2)


def test_cityscapes_ids_become_training_ids(tmp_path):
    ids = np.array([[7, 8, 33, 0], [29, 11, 26, 34]], "uint8")
    for split, city in (("train", "aachen"), ("train", "bonn"), ("val", "ulm"), ("test", "rom")):
        stem = f"{split}/{city}/{city}_000000_000019"
        scenes.save(
            tmp_path / "leftImg8bit" / f"{stem}_leftImg8bit.png", np.zeros((2, 4, 3), "uint8")
        )
        scenes.save(tmp_path / "gtFine" / f"{stem}_gtFine_labelIds.png", ids)
    source = f"cityscapes:{tmp_path}"
    with pytest.raises(ValueError, match="one of the 35 values.*with the value 34"):
        load(DataTable(source, validation=0.5), 19)
    for path in tmp_path.rglob("*_labelIds.png"):
        scenes.save(path, np.where(ids == 34, 255, ids).astype("uint8"))
    found = load(DataTable(source, validation=0.5), 19)
    np.testing.assert_array_equal(labels_of(found.test)[0], [[0, 1, 18, 255], [255, 2, 13, 255]])
    assert "ulm" in found.test.images.name(0) and found.class_names[13] == "car"
    assert len(found.class_names) == 19


def test_ade20k_and_voc(tmp_path):
    values = np.array([[0, 1, 150]], "uint8")
    for split, names in (("training", "ab"), ("validation", "c")):
        for name in names:
            scenes.save(tmp_path / "images" / split / f"{name}.jpg", np.zeros((1, 3, 3), "uint8"))
            scenes.save(tmp_path / "annotations" / split / f"{name}.png", values)
    found = load(DataTable(f"ade20k:{tmp_path}", validation=0.5, reduce_zero_label=True), 150)
    np.testing.assert_array_equal(labels_of(found.test)[0], [[255, 0, 149]])
    voc = tmp_path / "voc"
    for name in "abcd":
        scenes.save(voc / "JPEGImages" / f"{name}.jpg", np.zeros((1, 3, 3), "uint8"))
    for name in "abc":  # the test pictures have no masks
        mask = np.array([[0, 20, 255]], "uint8")
        scenes.save(voc / "SegmentationClass" / f"{name}.png", mask, bytes(range(256)) * 3)
    lists = voc / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, names in (("train", "a\nb\n"), ("val", "c\n"), ("test", "d\n")):
        (lists / f"{split}.txt").write_text(names)
    found = load(DataTable(f"voc:{voc}", validation=0.5), "auto")
    np.testing.assert_array_equal(labels_of(found.test)[0], mask)
    assert found.class_names[20] == "tvmonitor" and len(found.test.labels) == 1
    with pytest.raises(ValueError, match="must have JPEGImages"):
        load(DataTable(f"voc:{tmp_path}"), "auto")


def test_coco_draws_polygons_and_run_lengths(tmp_path):
    source = scenes.write_coco(tmp_path)
    found = load(DataTable(source, validation=0.5), "auto")
    assert found.class_names == ["background", "dog", "cat"]
    first, second = sorted(labels_of(found.test), key=lambda x: -x.size)
    expected = np.zeros((12, 16), int)
    expected[2:10, 2:10] = 2
    expected[4:6, 4:6] = 1  # the smaller one is in front
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, [[0, 0], [1, 0], [1, 0]])
    assert found.test.labels.files.name(0) == f"{tmp_path}/annotations/instances_val.json, a.png"
    (tmp_path / "val" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"picture of the annotations must be there.*val/a\.png"):
        load(DataTable(source, validation=0.5), "auto")


def test_run_lengths_of_coco():
    # Packed by pycocotools 2.0.11: mask[1:4, 2:6] of 6 x 8, and its run lengths.
    assert coco.unpack("=3300000;") == [13, 3, 3, 3, 3, 3, 3, 3, 14]
    square = np.zeros((6, 8), bool)
    square[1:4, 2:6] = True
    for counts in ("=3300000;", [13, 3, 3, 3, 3, 3, 3, 3, 14]):
        np.testing.assert_array_equal(coco.shape_of({"counts": counts}, (6, 8)), square)
    rng = np.random.default_rng(0)
    blots = rng.random((40, 20)) < 0.1
    blots[:, 5:15] = True
    packed = "11?0B040O0l00YO0H021OO50L010402000J0O020j00WO050G_<o0aC^O0I050O0J00060I0V10gN0O0o0"
    np.testing.assert_array_equal(coco.shape_of({"counts": packed}, (40, 20)), blots)
    with pytest.raises(ValueError, match="must cover the picture of 6 x 9"):
        coco.shape_of({"counts": [13, 3]}, (6, 9))


def test_a_polygon_has_the_pixels_whose_centres_are_inside():
    triangle = coco.polygon([0, 0, 8, 0, 0, 8], (8, 8))
    i, j = np.indices((8, 8)) + 0.5
    np.testing.assert_array_equal(triangle[i + j != 8], (i + j < 8)[i + j != 8])
    bow = coco.polygon([0, 0, 4, 4, 4, 0, 0, 4], (4, 4))
    assert not bow[0, 1] and bow[1, 0] and bow.sum() < 16
    assert coco.polygon([-5, -5, 50, -5, 50, 50, -5, 50], (3, 4)).all()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards")
    for split, count in (("train", 4), ("validation", 2)):
        with tf.io.TFRecordWriter(str(path / f"{split}-00000-of-00001")) as writer:
            for index in range(count):
                contents = scenes.png(scenes.picture(index)), scenes.png(scenes.mask(index))
                features = {
                    key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                    for key, value in zip(mask_records.SHARD_KEYS, contents, strict=True)
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    return path


def test_shards(shards, tmp_path):
    found = load(DataTable(f"tfrecord:{shards}/*", validation=0.25), scenes.K)
    assert [len(part.labels) for part in found[:3]] == [3, 1, 2]
    for index, labels in enumerate(labels_of(found.test)):
        np.testing.assert_array_equal(labels, scenes.mask(index))
    with pytest.raises(ValueError, match="Example with image/encoded and other"):
        mask_records.find([shards / "train-00000-of-00001"], "image/encoded", "other")


def test_tensorflow_datasets(tmp_path):
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():  # this may run twice in a process

        class TinyScenes(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                image = tfds.features.Image(shape=(None, None, 3))
                mask = tfds.features.Image(shape=(None, None, 1), encoding_format="png")
                features = {"image": image, "segmentation_mask": mask}
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, download):
                return {name: self._examples(name) for name in ("train", "test")}

            def _generate_examples(self, name):
                raise NotImplementedError

            def _examples(self, name):
                for index in range(4 if name == "train" else 2):
                    contents = {"image": scenes.picture(index)}
                    yield index, contents | {"segmentation_mask": scenes.mask(index)[..., None]}

    TinyScenes(data_dir=tmp_path).download_and_prepare()
    table = DataTable("tfds:tiny_scenes", data_dir=str(tmp_path), validation=0.25)
    found = load(table, scenes.K)
    assert [len(part.labels) for part in found[:3]] == [3, 1, 2]
    sizes = {tuple(map(int, np.unique(x, return_counts=True)[1])) for x in labels_of(found.test)}
    expected = (scenes.mask(index) for index in range(2))
    assert sizes == {tuple(map(int, np.unique(x, return_counts=True)[1])) for x in expected}


@pytest.mark.parametrize("source", ["folder", "coco"])
def test_a_resumed_run_reads_what_was_found(source, tmp_path):
    name = scenes.write_folder(tmp_path) if source == "folder" else scenes.write_coco(tmp_path)
    table = DataTable(name, validation=0.5)
    found = load(table, scenes.K)
    examples.save(found, tmp_path / "examples.npz")
    again = load(table, scenes.K, tmp_path / "examples.npz")
    for part, other in zip(found[:3], again[:3], strict=True):
        assert isinstance(other.labels, Masks) and other.labels.label_map == part.labels.label_map
        assert isinstance(other.labels.files, Packed) == (source == "coco")
        np.testing.assert_array_equal(part.labels.sizes, other.labels.sizes)
        np.testing.assert_array_equal(part.labels.counts, other.labels.counts)
        for one, two in zip(labels_of(part), labels_of(other), strict=True):
            np.testing.assert_array_equal(one, two)
    before = fingerprint.of_splits(found)
    assert before == fingerprint.of_splits(again)
    if source == "folder":  # the masks are part of what a run is compared by
        scenes.save(
            tmp_path / "masks" / "test" / "012.png", np.zeros((scenes.H, scenes.W), "uint8")
        )
        assert before != fingerprint.of_splits(load(table, scenes.K))


def test_arrays_and_one_split_for_an_evaluation(tmp_path):
    images = np.zeros((8, 4, 4, 3), "uint8")
    labels = np.tile(np.arange(4), (8, 4, 1))
    arrays = dict(train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    np.savez(tmp_path / "a.npz", **arrays)
    found = load(DataTable(f"npz:{tmp_path}/a.npz", validation=0.25), "auto")
    assert [len(part.labels) for part in found[:3]] == [6, 2, 8]
    np.testing.assert_array_equal(labels_of(found.train)[0], labels[0])
    np.savez(tmp_path / "b.npz", **{**arrays, "test_labels": labels[:, :2]})
    with pytest.raises(ValueError, match=r"integers \(N, H, W\)"):
        load(DataTable(f"npz:{tmp_path}/b.npz"), "auto")
    source = scenes.write_folder(tmp_path / "f", (("train", 2), ("test", 3)))
    split, names = read(DataTable(source), "", scenes.K)
    assert len(split.labels) == 3 and names is None
    with pytest.raises(ValueError, match="--split must be one of test, train"):
        read(DataTable(source), "other", scenes.K)


@pytest.mark.skipif(not CAMVID.is_dir(), reason="the pictures of CamVid are not on this machine")
def test_camvid():
    found = load(DataTable(f"camvid:{CAMVID}", validation_split="val"), "auto")
    assert [len(part.labels) for part in found[:3]] == [60, 20, 20]
    assert len(found.class_names) == 11 and found.test.labels.sizes[0].tolist() == [360, 480]
    file = found.test.labels.files.name(3)
    values = np.asarray(Image.open(file))
    np.testing.assert_array_equal(labels_of(found.test)[3], np.where(values == 11, 255, values))


def test_key_points_beside_the_objects_of_coco_are_not_read(tmp_path):
    name = scenes.write_coco(tmp_path)
    expected = load(DataTable(name, validation=0.5), scenes.K).test.labels.counts
    for split in ("train", "val"):
        (tmp_path / "annotations" / f"person_keypoints_{split}.json").write_text("{}")
    found = load(DataTable(name, validation=0.5), scenes.K).test.labels.counts
    np.testing.assert_array_equal(found, expected)
