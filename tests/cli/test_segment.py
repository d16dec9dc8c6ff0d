"""keras-vit segment."""

import json

import numpy as np
import pytest
from PIL import Image

import keras_vit
from tests.cli.helpers import run
from tests.helpers import once, randomize, tiny_vit
from tests.tasks.setr.helpers import tiny_setr

pytestmark = once  # what it calls has tests on every backend


@pytest.fixture(scope="module")
def model():
    preprocessor = keras_vit.Preprocessor((24, 16))
    found = tiny_setr("naive", tiny_vit(preprocessor=preprocessor), class_names=list("abcde"))
    randomize(found)
    return found


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("setr") / "model.keras"
    model.save(path)
    return path


def test_files_and_json_are_those_of_segment(model, file, photo, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "broken.jpg").write_bytes(photo.read_bytes()[:100])
    options = ("--model", file, "-o", out, "--scales", "0.5,1", "--flip", "--stride", 8, "--json")
    found = run("segment", photo, tmp_path / "broken.jpg", *options)
    assert found.exit_code == 1
    assert "1 of 2 pictures could not be read" in found.stderr
    entry, broken = json.loads(found.stdout)
    assert broken["path"].endswith("broken.jpg") and "broken.jpg" in broken["error"]

    (expected,) = model.segment([photo], scales=(0.5, 1), flip=True, stride=8)
    written = np.asarray(Image.open(entry["classes"]))
    assert entry["classes"] == str(out / "photo.png") and written.dtype == np.uint8
    np.testing.assert_array_equal(written, expected)
    assert Image.open(entry["overlay"]).size[0] > 60
    assert sum(x["share"] for x in entry["shares"]) == pytest.approx(1)
    for share in entry["shares"]:
        assert share["label"] == "abcde"[share["index"]]
        assert share["share"] == pytest.approx((expected == share["index"]).mean())
    shares = [x["share"] for x in entry["shares"]]
    assert shares == sorted(shares, reverse=True)


def test_pictures_of_one_name_get_files_of_their_own(file, photo, tmp_path):
    other = tmp_path / "b" / "photo.png"
    other.parent.mkdir()
    Image.open(photo).rotate(90).save(other)
    found = run("segment", photo, other, "--model", file, "-o", tmp_path / "out")
    assert found.exit_code == 0
    written = {x.name for x in (tmp_path / "out").iterdir()}
    assert written == {f"photo{n}{kind}.png" for n in ("", "-1") for kind in ("", "_overlay")}
    assert "  a" in found.output or "% " in found.output


def test_an_overlay_is_not_written_over(file, photo, tmp_path):
    other = tmp_path / "photo_overlay.png"
    Image.open(photo).save(other)
    found = run("segment", photo, other, "--model", file, "-o", tmp_path / "out", "--json")
    entries = json.loads(found.stdout)
    assert len({x[key] for x in entries for key in ("classes", "overlay")}) == 4


def test_pictures_are_not_written_over(file, photo, tmp_path):
    picture = tmp_path / "street.png"
    Image.open(photo).save(picture)
    before = picture.read_bytes()
    found = run("segment", picture, "--model", file, "-o", tmp_path)
    assert found.exit_code == 2 and "another folder than that of the pictures" in found.output
    assert picture.read_bytes() == before and not (tmp_path / "street_overlay.png").exists()


def test_overlay_and_shares_have_the_same_names(photo, tmp_path, monkeypatch):
    preprocessor = keras_vit.Preprocessor((24, 16))
    model = tiny_setr("naive", tiny_vit(preprocessor=preprocessor), num_classes=19)
    model.save(tmp_path / "model.keras")
    drawn = []
    plot = keras_vit.plot_segmentation
    monkeypatch.setattr(
        keras_vit, "plot_segmentation", lambda *args: drawn.append(args[2]) or plot(*args)
    )
    found = run(
        "segment", photo, "--model", tmp_path / "model.keras", "-o", tmp_path / "out", "--json"
    )
    (entry,) = json.loads(found.stdout)
    for share in entry["shares"]:
        assert share["label"] == drawn[0][share["index"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--palette", "voc"], "--palette must be one of 'ade20k'"),
        (["--scales", "one"], "--scales must be numbers"),
        (["--stride", "40"], "stride must be at most the window"),
        (["--window", "all"], "must be 'slide', 'whole'"),
    ],
)
def test_bad_options(options, message, file, photo, tmp_path):
    found = run("segment", photo, "--model", file, "-o", tmp_path / "out", *options)
    assert found.exit_code == 2 and message in found.output


def test_a_classifier_segments_nothing(folder, photo, tmp_path):
    found = run("segment", photo, "--model", folder, "-o", tmp_path / "out")
    assert found.exit_code == 2 and "needs a model for segmentation" in found.output
    found = run("segment", tmp_path / "none.jpg", "--model", folder, "-o", tmp_path / "out")
    assert found.exit_code == 2 and "There are no pictures" in found.output
