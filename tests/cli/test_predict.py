"""keras-vit predict."""

import json
import shutil

import keras_vit
from keras_vit.cli.predict import find
from tests.cli.helpers import run
from tests.helpers import tiny_vit


def test_predict_prints_the_top_five(folder, photo):
    found = run("predict", photo, "--model", folder)
    assert found.exit_code == 0
    first, *lines = found.output.splitlines()
    assert first == str(photo) and len(lines) == 5
    shares = [float(line.split()[0]) for line in lines]
    assert shares == sorted(shares, reverse=True)
    assert len(run("predict", photo, "--model", folder, "--top", 2).output.splitlines()) == 3


def test_folders_and_patterns_are_looked_through(photo, tmp_path):
    for name in (
        "b/2.JPG",
        "b/1.png",
        "b/c/3.webp",
        "b/.hidden.jpg",
        "b/.git/4.jpg",
        "b/notes.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, tmp_path / name)
    (tmp_path / "[x].jpg").touch()
    in_folder = [str(tmp_path / "b" / name) for name in ("1.png", "2.JPG", "c/3.webp")]
    assert find(str(tmp_path / "b")) == in_folder
    assert find(str(tmp_path / "b/*.txt")) == [str(tmp_path / "b/notes.txt")]
    assert find(str(tmp_path / "**/*.webp")) == in_folder[2:]
    assert find(str(tmp_path / "[x].jpg")) == [str(tmp_path / "[x].jpg")]  # a name, no pattern
    assert find(str(tmp_path / "none*")) == [str(tmp_path / "none*")]


def test_predict_goes_on_past_what_is_broken_and_names_it(folder, photo, tmp_path):
    """In a batch with others, whose order and predictions stay."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in "acde":
        shutil.copy(photo, pictures / f"{name}.jpg")
    (pictures / "b.jpg").write_bytes(photo.read_bytes()[:100])
    missing, empty = tmp_path / "missing.jpg", tmp_path / "empty"
    empty.mkdir()
    arguments = ("predict", pictures, missing, photo, empty, "--model", folder, "--batch-size", 3)
    found = run(*arguments, "--json")
    assert found.exit_code == 1 and "3 of 8 pictures" in found.stderr
    entries = json.loads(found.stdout)
    expected = [pictures / f"{name}.jpg" for name in "abcde"]
    assert [entry["path"] for entry in entries] == list(
        map(str, [*expected, missing, photo, empty])
    )
    assert "b.jpg" in entries[1].pop("error") and "missing.jpg" in entries[5].pop("error")
    assert "empty" in entries[7].pop("error")
    assert all(len(entries[i]) == 1 for i in (1, 5, 7))
    predictions = [entry["predictions"] for entry in entries if "predictions" in entry]
    (alone,) = keras_vit.from_pretrained(folder).predict_images([photo])
    for found in predictions:
        assert [x["label"] for x in found] == [label for label, _ in alone]
        assert [x["index"] for x in found] == ["abcdefg".index(x["label"][0]) for x in found]
        for x, (_, probability) in zip(found, alone, strict=True):
            assert abs(x["probability"] - probability) < 1e-5
    printed = run(*arguments)
    assert printed.exit_code == 1 and printed.stdout.count(".jpg\n") == 5
    assert "error: " in printed.stderr and "b.jpg" in printed.stderr


def test_wrong_calls_end_before_the_model_is_loaded(tmp_path):
    (tmp_path / "empty").mkdir()
    for pictures in (tmp_path / "empty", tmp_path / "none.jpg", tmp_path / "*.jpg"):
        found = run("predict", pictures, "--model", "there/is-none")
        assert found.exit_code == 2 and found.stderr.startswith("error: There are no pictures")
        assert found.stdout == ""


def test_predict_says_what_is_wrong_with_the_model(photo, tmp_path):
    tiny_vit(num_classes=None).save(tmp_path / "headless.keras")
    for model, message in [
        ("vit_base_patch16_224.augreg_in22k", "such as vit_base_patch16_224"),
        (photo, "is no checkpoint that can be read"),
        (tmp_path / "headless.keras", "needs a model with a head"),
    ]:
        found = run("predict", photo, "--model", model, "--json")
        assert found.exit_code == 2 and found.stdout == ""
        assert found.stderr.startswith("error: ") and message in found.stderr
