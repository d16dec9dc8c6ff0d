"""Models that read the class off the colour, on folders as ImageNet's test sets come."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import keras_vit
from tests.helpers import backends, once, tiny_vit
from training import evaluate
from training.data import label_maps
from training.data.examples import Encoded, Split
from training.evaluate import main
from training.loop import run
from training.results.folder import RunFolder

# The same on every backend.
pytestmark = once


def color_reader(num_classes):
    """Its largest logit is that of class 256 * red + green, the next ones are the neighbours'."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(images)
    head = keras.layers.Dense(num_classes)
    model = keras.Model(images, head(x))
    k = np.arange(num_classes, dtype="float32")
    head.set_weights([np.stack([512 * k, 2 * k, 0 * k]), -(k**2)])
    return model


def paint(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (10, 9), (number // 256, number % 256, 7)).save(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def reader(here):
    color_reader(1000).save("reader.keras")
    return "reader.keras"


@pytest.fixture
def measured(capsys):
    """Runs the command and returns what it prints as JSON."""

    def command(*arguments):
        assert main([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return command


@pytest.fixture
def refused(capsys):
    """Runs a command that must fail as a mistake of the user; returns its message."""

    def command(*arguments):
        assert main([*arguments]) == 2
        out, err = capsys.readouterr()
        assert err.count("\n") == 1 and err.startswith("error: ") and "Received: " in err
        return err

    return command


def test_folders_with_numbers_are_not_sorted_as_strings(reader, measured, refused):
    for number in (0, 1, 2, 10, 11, 100, 999):
        paint(Path("v2", str(number), "a.png"), number)
    found = measured(reader, "--source", "folder:v2", "--labels", "imagenet-v2")
    assert (found["top1"], found["images"], found["classes"]) == (1.0, 7, 1000)
    assert measured(reader, "--source", "folder:v2", "--labels", "order")["top1"] < 0.5
    assert "7 classes and a model of 1000" in refused(reader, "--source", "folder:v2")
    paint(Path("v2", "1000", "a.png"), 0)
    message = refused(reader, "--source", "folder:v2", "--labels", "imagenet-v2")
    assert "with the names 0 to 999" in message and "'1000'" in message


def test_as_many_numbers_as_classes_leave_the_order_in_doubt(here, refused):
    color_reader(11).save("eleven.keras")
    for number in range(11):
        paint(Path("numbers", str(number), "a.png"), number)
    message = refused("eleven.keras", "--source", "folder:numbers")
    assert "numbers in the order 0, 1, 10, 2" in message


@pytest.mark.parametrize("name", ["imagenet-a", "imagenet-r"])
def test_only_the_200_classes_compete(name, reader, measured, refused):
    """Every picture looks most like the class after its own, which is none of the 200."""
    ids = label_maps.wordnet_ids()
    assert len(ids) == 1000 and ids == sorted(ids)
    for number in range(0, 1000, 5):
        paint(Path("a", ids[number], "a.png"), number + 1)
    found = measured(reader, "--source", "folder:a", "--labels", name)
    assert (found["top1"], found["classes"]) == (1.0, 200)
    found = measured(reader, "--source", "folder:a", "--labels", "imagenet-sketch")
    assert (found["top1"], found["top5"], found["classes"]) == (0.0, 1.0, 1000)
    Path("a", ids[5], "a.png").unlink()
    Path("a", ids[5]).rmdir()
    assert "of all 200 classes" in refused(reader, "--source", "folder:a", "--labels", name)


def test_real_labels_go_by_the_number_in_the_name(reader, measured, refused):
    """Grey of 1 is class 257, of 2 class 514, of 3 class 771."""
    Path("real.json").write_text(json.dumps([[257], [], [0, 514], [3], [771], [1]]))
    for number, folder, grey in ((1, "z", 1), (2, "b", 0), (3, "a", 2), (4, "c", 3), (5, ".", 3)):
        path = Path("val", folder, f"ILSVRC2012_val_{number:08}.JPEG")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (grey,) * 3).save(path, quality=100)
    found = measured(reader, "--source", "folder:val", "--labels", "real:real.json")
    assert (found["images"], found["top1"]) == (4, 0.75)  # that without a label is left out
    assert found["top5"] is None and found["loss"] is None
    Path("val", "ILSVRC2012_val_00000007.JPEG").write_bytes(path.read_bytes())
    message = refused(reader, "--source", "folder:val", "--labels", "real:real.json")
    assert "ILSVRC2012_val_00000006.JPEG" in message
    assert "real.json" in refused(reader, "--source", "folder:val", "--labels", "real:no.json")


def test_classes_go_by_name_where_the_model_knows_them(here, measured, refused):
    """A class that has no folder must not shift those behind it."""
    names = ["cat", "dog", "owl"]
    model = tiny_vit(num_classes=3, class_names=names, include_preprocessing=True, image_size=8)
    model.save("pets.keras")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 1, 1, 3), dtype=np.uint8)
    images = np.repeat(np.repeat(images, 8, 1), 8, 2)  # of one colour, which no resizing changes
    predicted = model.predict(images.astype("float32"), verbose=0).argmax(-1)
    assert len(set(predicted)) > 1 and predicted.max() == 2
    for number, (image, label) in enumerate(zip(images, predicted, strict=True)):
        path = Path("all", names[label], f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    assert measured("pets.keras", "--source", "folder:all")["images"] == 20
    for folder in Path("all").iterdir():
        if folder.name != "owl":
            folder.rename(Path(f"not_{folder.name}"))
    found = measured("pets.keras", "--source", "folder:all")
    assert found["top1"] == 1.0 and found["top5"] is None
    Path("all", "owl").rename(Path("all", "fox"))
    assert "1 classes and a model of 3" in refused("pets.keras", "--source", "folder:all")


def test_splits_of_a_folder(reader, measured, refused):
    """Without training images the classes are those of the split."""
    ids = label_maps.wordnet_ids()
    for number in (3, 900):
        paint(Path("in", "val", ids[number], "a.png"), number)
    command = reader, "--source", "folder:in", "--labels", "imagenet"
    assert measured(*command)["top1"] == 1.0
    assert measured(*command, "--split", "val")["images"] == 2
    assert "one of val" in refused(*command, "--split", "test")
    assert "not split" in refused(
        reader, "--source", "folder:in/val", "--labels", "imagenet", "--split", "val"
    )


# On the backend whose finished run other tests use too, and whose export starts no process.
@backends("tensorflow")
def test_a_run_gives_its_result_again(small, finished, measured, refused, capsys):
    job = run.prepare(small, [], "begun")
    capsys.readouterr()
    assert "must have finished an epoch" in refused("begun")
    result = RunFolder("run").read_result()
    found = measured("run")
    assert found["images"] == 359 and found["top5"] is not None
    assert found["top1"] == pytest.approx(result["test_accuracy"])
    assert found["loss"] == pytest.approx(result["test_loss"], rel=1e-4)
    assert measured("run", "--split", "validation")["images"] == len(job.splits.validation.labels)
    images = np.zeros((40, 9, 8, 1), "uint8")
    arrays = {"x_train": images, "x_test": images}
    np.savez("other.npz", **arrays, **dict.fromkeys(("y_train", "y_test"), [0, 1] * 20))
    assert "(8, 8, 1)" in refused("run", "--source", "npz:other.npz")


def test_the_models_own_preprocessing_is_used(here):
    """Pixels are resized as the model says, and normalised once."""
    pictures = np.random.default_rng(0).integers(0, 256, (6, 20, 30, 3), dtype=np.uint8)
    paths = [Path(f"{number}.png") for number in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path)
    split = Split(Encoded.of_files(paths), np.zeros(6, int))
    preprocessor = keras_vit.Preprocessor(
        (24, 16), "squash", 0.9, "bilinear", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.1)
    )
    for inside in (True, False):
        model = tiny_vit(preprocessor=preprocessor, include_preprocessing=inside)
        [expected] = zip(*model.predict_images(paths, top=1), strict=True)
        labels = np.array([label for label, _ in expected])
        found = evaluate.evaluate(model, Split(split.images, labels), batch_size=4)
        assert found.top1 == 1.0
        loss = -np.log([probability for _, probability in expected]).mean()
        assert found.loss == pytest.approx(loss, rel=2e-3)
    with pytest.raises(ValueError, match="preprocessing of the model must be known"):
        evaluate.evaluate(tiny_vit(), split)


def test_half_precision_is_measured_in_float32(here):
    images = np.random.default_rng(0).uniform(-1, 1, (8, 24, 16, 3)).astype("float32")
    split = Split(images, np.arange(8) % 4)
    losses = []
    for dtype in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(0)
        model = tiny_vit(dtype=dtype)
        losses.append(evaluate.evaluate(model, split, transform=lambda image: image).loss)
    assert losses[0] == pytest.approx(losses[1], rel=0.02) and losses[0] != losses[1]


def test_mistakes_are_one_line(reader, refused):
    assert "no such checkpoint" in refused("nothing.keras", "--source", "digits")
    Path("broken.keras").write_text("no archive")
    assert "could not be loaded" in refused("broken.keras", "--source", "digits")
    keras_vit.VisionTransformer(
        num_classes=None, image_size=8, patch_size=4, width=8, depth=1, num_heads=1, mlp_dim=8
    ).save("features.keras")
    assert "two classes or more" in refused("features.keras", "--source", "digits")
    assert "--source is needed" in refused(reader)
    assert "(8, 8, 3)" in refused(reader, "--source", "digits", "--labels", "order")
    assert "data.source must be" in refused(reader, "--source", "folders:x")
    paint(Path("x", "n01440764", "a.png"), 0)
    Path("x", "n01440764", "b.png").write_text("no picture")
    message = refused(reader, "--source", "folder:x", "--labels", "imagenet")
    assert "b.png" in message
    Path("x", "n01440764", "b.png").rename("x/n01440764/b\x1b[2J.png")
    message = refused(reader, "--source", "folder:x", "--labels", "imagenet")
    assert "\x1b" not in message and "b\\x1b[2J.png" in message
    assert "--labels must be one of" in refused(reader, "--source", "folder:x", "--labels", "v2")
