"""keras-vit predict."""

import json
import os
import shutil
import socket

import numpy as np
from PIL import Image

import keras_vit
from keras_vit.cli.predict import find
from tests.cli.helpers import run
from tests.helpers import once, tiny_vit


def test_predict_prints_the_top_five(folder, photo):
    found = run("predict", photo, "--model", folder)
    assert found.exit_code == 0
    first, *lines = found.output.splitlines()
    assert first == str(photo) and len(lines) == 5
    shares = [float(line.split()[0]) for line in lines]
    assert shares == sorted(shares, reverse=True)
    assert len(run("predict", photo, "--model", folder, "--top", 2).output.splitlines()) == 3


@once
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


@once
def test_wrong_calls_end_before_the_model_is_loaded(tmp_path):
    (tmp_path / "empty").mkdir()
    for pictures in (tmp_path / "empty", tmp_path / "none.jpg", tmp_path / "*.jpg"):
        found = run("predict", pictures, "--model", "there/is-none")
        assert found.exit_code == 2 and found.stderr.startswith("error: There are no pictures")
        assert found.stdout == ""
        assert ("not found: " in found.stderr) == (pictures.name != "empty")


def test_predict_says_what_is_wrong_with_the_model(photo, tmp_path):
    tiny_vit(num_classes=None).save(tmp_path / "headless.keras")
    for model, message in [
        ("vit_base_patch16_224.augreg_in22k", "such as vit_base_patch16_224"),
        (photo, "is not a checkpoint that can be read"),
        (tmp_path / "headless.keras", "needs a model with a head"),
    ]:
        found = run("predict", photo, "--model", model, "--json")
        assert found.exit_code == 2 and found.stdout == ""
        assert found.stderr.startswith("error: ") and message in found.stderr


@once
def test_nothing_that_is_unreadable_costs_the_others_their_answers(folder, photo, tmp_path):
    """Of every kind: each is named on stderr with a reason, and nobody waits."""
    things = tmp_path / "things"
    things.mkdir()
    shutil.copy(photo, things / "good.jpg")
    shutil.copy(photo, things / "later.jpg")
    Image.open(photo).save(tmp_path / "whole.avif")
    Image.fromarray(np.zeros((4, 4), "float32")).save(things / "float.tif")
    Image.new("L", (1, 1000000)).save(things / "strip.png")
    whole = (tmp_path / "whole.avif").read_bytes()
    (things / "broken.avif").write_bytes(whole[:-200])
    (things / "empty.gif").touch()
    (things / "dangling.png").symlink_to("nowhere.png")
    os.mkfifo(things / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(things / "socket.jpg"))
    for name in (b"\x1b[31m.jpg", b"\xff.jpg"):
        with open(os.path.join(os.fsencode(things), name), "wb") as file:
            file.write(b"broken")
    unreadable = {"float.tif", "strip.png", "broken.avif", "empty.gif", "dangling.png"}
    unreadable |= {"pipe.jpg", "socket.jpg", "\x1b[31m.jpg", "\udcff.jpg"}
    found = run("predict", things, "/dev/null", "--model", folder, "--top", 1)
    assert found.exit_code == 1 and f"{len(unreadable) + 1} of 12 pictures" in found.stderr
    lines = [line for line in found.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == len(unreadable) + 2
    for name in unreadable:
        said = name.replace("\x1b", "\\x1b").replace("\udcff", "\\udcff")
        assert any(said in line for line in lines), name
    assert found.stdout.count("good.jpg\n") == found.stdout.count("later.jpg\n") == 1
    assert "\x1b" not in found.output
    entries = json.loads(run("predict", things, "--model", folder, "--json").stdout)
    failed = {os.path.basename(entry["path"]) for entry in entries if "error" in entry}
    assert failed == unreadable  # in JSON names are what they are


@once
def test_labels_do_not_steer_the_terminal(photo, tmp_path):
    names = ["\x1b]0;owned\x07", "\u202egpj.exe", "two\nlines", "größer", "a\x9b2J"]
    preprocessor = keras_vit.Preprocessor((24, 16), "squash", 1.0)
    model = tiny_vit(num_classes=5, preprocessor=preprocessor, class_names=names)
    model.save(tmp_path / "model.keras")
    found = run("predict", photo, "--model", tmp_path / "model.keras")
    assert found.exit_code == 0 and len(found.stdout.splitlines()) == 6
    for label in ("\\x1b]0;owned\\x07", "\\u202egpj.exe", "two\\nlines", "größer", "a\\x9b2J"):
        assert f" %  {label}\n" in found.stdout
    (entry,) = json.loads(
        run("predict", photo, "--model", tmp_path / "model.keras", "--json").stdout
    )
    assert {x["label"] for x in entry["predictions"]} == set(names)
    for command in (
        ["show", tmp_path / "\x1b.keras"],
        ["attend", photo, "--model", tmp_path / "model.keras", "--json", "--layer", "\x1b"],
        ["attend", tmp_path / "\x1b.jpg", "--model", tmp_path / "model.keras", "--json"],
    ):
        wrong = run(*command)
        assert wrong.exit_code == 2 and "\x1b" not in wrong.output and "\\x1b" in wrong.stderr


@once
def test_too_little_memory_for_one_picture(folder, photo, tmp_path, monkeypatch):
    shutil.copy(photo, tmp_path / "large.jpg")
    resize = keras_vit.Preprocessor._resize_by_pil

    def limited(self, pixels):
        if (pixels[0, 0] == 0).all():
            raise MemoryError
        return resize(self, pixels)

    monkeypatch.setattr(keras_vit.Preprocessor, "_resize_by_pil", limited)
    Image.new("RGB", (30, 30)).save(tmp_path / "large.jpg")
    found = run("predict", tmp_path / "large.jpg", photo, "--model", folder, "--top", 1)
    assert found.exit_code == 1 and f"{photo}\n" in found.stdout
    assert "error: There is not enough memory for the picture. Received: " in found.stderr


@once
def test_too_little_memory_for_a_batch(folder, photo, tmp_path, monkeypatch):
    """The pictures are looked at one by one; which of them is too large is said."""
    compute, sizes = keras_vit.VisionTransformer.prepared_probabilities, []

    def limited(self, prepared):
        sizes.append(len(prepared))
        if len(prepared) > 1 or (prepared[0] == 0).all():
            raise MemoryError
        return compute(self, prepared)

    monkeypatch.setattr(keras_vit.VisionTransformer, "prepared_probabilities", limited)
    Image.new("RGB", (30, 30)).save(tmp_path / "large.jpg")
    found = run("predict", tmp_path / "large.jpg", photo, "--model", folder, "--json")
    first, second = json.loads(found.stdout)
    assert found.exit_code == 1 and sizes == [2, 1, 1] and "predictions" in second
    assert first["error"].startswith("There is not enough memory for the picture. Received: ")


@once
def test_files_that_nobody_reads_are_counted_and_named(folder, photo, tmp_path):
    things = tmp_path / "things"
    (things / "below").mkdir(parents=True)
    (things / ".git").mkdir()
    shutil.copy(photo, things)
    for name in ("a.HEIC", "below/b.heic", "list", ".hidden", ".git/c.heic"):
        (things / name).touch()
    found = run("predict", things, "--model", folder, "--json")
    assert found.exit_code == 0 and len(json.loads(found.stdout)) == 1
    said = f"3 files are not read (2 .heic, 1 without suffix): {things / 'a.HEIC'}, "
    assert found.stderr.startswith(said)
    (things / "photo.jpg").unlink()
    found = run("predict", things, "--model", folder)
    assert found.exit_code == 2 and said in found.stderr and "no pictures" in found.stderr
    shutil.copy(photo, things)
    arguments = ["-o", tmp_path / "vit.onnx", "--inputs", "jpeg", "--samples", things]
    assert said in run("export", folder, *arguments).stderr


def test_a_bare_file_takes_the_preprocessing_of_a_name(photo, tmp_path):
    tiny_vit().save(tmp_path / "bare.keras")
    like = ("--like", "deit_tiny_patch16_224.fb_in1k")
    found = run("predict", photo, "--model", tmp_path / "bare.keras", *like, "--json")
    assert found.exit_code == 0 and len(json.loads(found.stdout)[0]["predictions"]) == 4
    found = run("predict", photo, "--model", tmp_path / "bare.keras", "--like", "deit_tiny")
    assert found.exit_code == 2 and like[1] in found.stderr
    assert "error: --like must be a name of the catalogue (keras-vit list)" in found.stderr
    found = run("predict", photo, "--model", tmp_path / "bare.keras")
    assert found.exit_code == 2 and found.stdout == ""
    (line,) = found.stderr.splitlines()  # no warning before it
    assert "bare.keras says nothing of preprocessing" in line and "Expected: --like" in line


@once
def test_no_more_classes_than_there_are(folder, photo):
    assert len(run("predict", photo, "--model", folder, "--top", 7).stdout.splitlines()) == 8
    found = run("predict", photo, "--model", folder, "--top", 8)
    assert found.exit_code == 2 and found.stdout == ""
    assert found.stderr == "error: --top must be at most 7, the classes of the model. Received: 8\n"


@once
def test_a_variant_is_its_best_checkpoint(photo, monkeypatch, tmp_path):
    """Offline, without a cache: which one it is, how large, how to get it, and the others."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for command in (["predict", photo], ["attend", photo, "--json"]):
        found = run(*command, "--model", "vittiny")
        assert found.exit_code == 2 and found.stdout == ""
        for said in (
            "ViTTiny: the best known checkpoint is vit_tiny_patch16_224.augreg_in21k_ft_in1k (75.5",
            "others: deit_tiny_patch16_224.fb_in1k",
            "(about 23 MB) could not be fetched",
            "hf download timm/vit_tiny",
        ):
            assert said in found.stderr


@once
def test_what_is_not_there_is_not_found(photo, tmp_path, monkeypatch):
    """As a model, in every command, and as a picture."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name, said in [
        (tmp_path / "none.keras", "file not found"),
        ("none.pth", "file not found"),
        (tmp_path / "none", "file not found"),
        ("none", "no file or folder of that name was found"),
        ("here/none", "'here/none' is no file or folder here, and could not be fetched"),
        (photo.parent, "A folder must hold one of"),
        ("x" * 300, "File name too long"),
    ]:
        for command in (
            ["predict", photo, "--model", name],
            ["attend", photo, "--json", "--model", name],
            ["show", name],
            ["bench", name],
            ["export", name, "-o", tmp_path / "x.onnx"],
        ):
            found = run(*command)
            assert found.exit_code == 2 and found.stdout == "", (command, found.exception)
            assert said in found.stderr, found.stderr
