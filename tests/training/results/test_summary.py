import re
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.helpers import backends, tiny_vit
from training import data
from training.devices.hardware import peak_memory
from training.loop import run
from training.loop.speed import Speed
from training.recipe.schema import DataTable, FinetuneTable, ModelTable
from training.results import figures, report
from training.results.folder import RunFolder

# The same on every backend.
pytestmark = backends("tensorflow")


def test_the_report_says_what_was_measured(finished):
    folder = RunFolder("run")
    result, text = folder.read_result(), folder.report.read_text()
    for number in (
        f"{100 * result['test_accuracy']:.2f} %",
        f"{100 * result['test_top5']:.2f} %",
        f"{100 * result['test_ece']:.2f} %",
        f"{result['test_loss']:.4f}",
        f"{result['epoch_seconds']:.2f} s",
        f"{result['images_per_second']:,.0f} per second",
        f"{result['parameters']:,}",
        f"keras {keras.__version__}",
        result["hardware"],
    ):
        assert number in text
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert pictures == ["curves.png", "confusion.png", "predictions.png", "worst.png"]
    assert all((folder.path / picture).exists() for picture in pictures)
    assert result["test_accuracy"] <= result["test_top5"] <= 1
    assert 2**27 < result["peak_memory_bytes"] < 2**40  # bytes, not the kilobytes that Linux says
    assert 0 < result["images_per_second"] * result["epoch_seconds"] < 1e6


def test_the_command_to_go_on_does(finished):
    text = RunFolder("run").report.read_text()
    [command] = re.findall(r"python -m training (.*? --set .*?)\n", text.replace("\\\n", " "))
    name, *arguments = command.split()
    overrides = [arguments[arguments.index("--set") + 1]]
    job = run.prepare(name, overrides, arguments[arguments.index("--run-dir") + 1], resume=True)
    assert job.done["epochs"] == 2 and job.recipe.train.epochs == 4
    assert job.folder.path == Path("run")


def test_a_saved_model_knows_the_classes(finished):
    digits = [str(number) for number in range(10)]
    assert data.load(DataTable("digits"), 10).class_names == digits
    assert keras.models.load_model(RunFolder("run").checkpoint).class_names == digits


def test_names_that_do_not_name_every_class_are_left_out(tmp_path):
    arguments = dict(
        num_classes=3, image_size=8, patch_size=4, width=8, depth=1, num_heads=1, mlp_dim=8
    )
    table, new = ModelTable("VisionTransformer", arguments), FinetuneTable()
    assert table.build("float32", new, ["cat", "dog"]).class_names is None
    assert table.build("float32", new, ["cat", "dog", "owl"]).class_names == ["cat", "dog", "owl"]
    own = ModelTable("VisionTransformer", {**arguments, "class_names": ["a", "b", "c"]})
    assert own.build("float32", new, ["cat", "dog", "owl"]).class_names == ["a", "b", "c"]
    # What a checkpoint calls its classes is not what these are, though they be as many.
    own.build("float32", new).save(tmp_path / "old.keras")
    tuned = table.build("float32", FinetuneTable(str(tmp_path / "old.keras")), ["x", "y", "z"])
    assert tuned.class_names == ["x", "y", "z"]


def test_pairs_by_how_often_they_are_confused():
    labels = np.array([0, 0, 0, 1, 2, 2, 2, 3])
    predicted = np.array([0, 1, 1, 0, 1, 1, 1, 3])
    assert report.confused(labels, predicted) == [(2, 1, 3), (0, 1, 2), (1, 0, 1)]
    assert report.confused(labels, labels) == []


def test_rows_of_the_confusion_are_labels(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures.Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    figures.confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 3, tmp_path / "x.png", list("abc"))
    [axes] = drawn[0].axes
    pixels = np.asarray(axes.images[0].get_array())
    white = (pixels == 1).all(axis=-1)
    assert white.tolist() == [[False, False, True], [True, False, True], [True, True, True]]
    red, _, blue = pixels[0, 1]
    assert red > blue  # a mistake
    assert pixels[1, 1, 0] < pixels[0, 0, 0]  # all of a row is darker than half of it
    assert axes.get_ylabel().startswith("label") and axes.get_xlabel() == "predicted"
    assert [text.get_text() for text in axes.texts] == ["1", "1", "1"]


def test_the_worst_come_first_and_a_picture_of_none_goes(tmp_path):
    probabilities = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    labels = np.array([1, 1, 1, 1])
    assert figures.worst_first(labels, probabilities).tolist() == [1, 3, 0]
    path, images = tmp_path / "worst.png", np.zeros((4, 24, 16, 3), "uint8")
    model = tiny_vit(num_classes=2, include_preprocessing=True)
    figures.worst(model, images, labels, probabilities, path, ["a long name, its other one", "b"])
    assert path.read_bytes()[:4] == b"\x89PNG"
    figures.worst(model, images, probabilities.argmax(-1), probabilities, path)
    assert not path.exists()


def test_names_in_pictures_are_short():
    names = ["tench, Tinca tinca", "a very long name of a class"]
    assert figures.class_name(names, 0, 20) == "tench"
    assert figures.class_name(names, 1, 8) == "a very …"
    assert figures.class_name(None, 7, 8) == "7"
    assert figures.class_name(names, 2, 8) == "2"  # which a model has and its data have not


def test_more_than_fifty_classes_have_a_table(small, untrained):
    job = run.prepare(small, ["model.num_classes=60", "train.epochs=1", "optimizer.warmup_steps=0"])
    run.execute(job)
    text = job.folder.report.read_text()
    assert not job.folder.confusion.exists() and "confusion.png" not in text
    assert "| label | predicted as | images |" in text


def test_the_first_epoch_of_a_sitting_is_not_its_speed(monkeypatch):
    now = iter([0.0, 9.0, 10.0, 10.0, 12.0, 13.0, 13.0, 15.5, 16.0])
    monkeypatch.setattr("training.loop.speed.time.perf_counter", lambda: next(now))
    speed = Speed()
    assert speed.summary(100) == {"epoch_seconds": None, "images_per_second": None}
    for epoch in range(3):
        speed.on_epoch_begin(epoch)
        speed.on_test_begin()
        speed.on_epoch_end(epoch)
    # Epochs of 10, 3 and 3 seconds, in which it trained for 9, 2 and 2.5.
    assert speed.summary(90) == {"epoch_seconds": 3.0, "images_per_second": 40.0}
    speed.epochs, speed.training = [10.0], [9.0]
    assert speed.summary(90) == {"epoch_seconds": 10.0, "images_per_second": 10.0}


@pytest.mark.gpu
def test_an_accelerators_memory_is_measured():
    keras.ops.ones((1024, 1024)) @ keras.ops.ones((1024, 1024))
    assert peak_memory()[1] >= 3 * 4 * 2**20
