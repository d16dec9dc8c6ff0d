"""keras-vit export, and bench of what it wrote."""

import json

import pytest

import keras_vit
from tests.cli.helpers import run
from tests.exports import where_written
from tests.helpers import once, tiny_vit

SUFFIXES = {"litert": ".tflite", "torch": ".pt2"}  # by default what is written quickest


@pytest.mark.parametrize("format", where_written(SUFFIXES, "litert"))
def test_export_writes_compares_and_bench_measures_it(
    format, folder, photo, tmp_path, in_this_process
):
    path = tmp_path / f"model{SUFFIXES[format]}"
    arguments = ("-o", path, "--inputs", "pixels", "--samples", photo)
    done = run("export", folder, *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["path"] == str(path) and found["inputs"] == "pixels"
    assert found["max_difference"] < 1e-3 and found["top1_agreement"] == 1
    assert found["difference"] <= found["limit"] < found["spread"]
    assert found["answers"] == 17 >= found["decided"] and found["decided_agreement"] == 1
    labels = json.loads(path.with_suffix(".labels.json").read_text())
    assert labels[:2] == ["ant", "bee"]

    again = run("export", folder, *arguments)
    assert again.exit_code == 2 and "--output must not exist yet" in again.stderr

    arguments = ("--image-size", "40x30", "--batch-size", "1,2", "--rounds", 2)
    done = run("bench", path, *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["runtime"] == found["runtime"] and measured["image_size"] == [40, 30]
    assert [row["batch_size"] for row in measured["results"]] == [1, 2]
    free = run("bench", path)
    assert free.exit_code == 2 and "--image-size" in free.stderr


@once
def test_wrong_calls(folder, photo, tmp_path):
    calls = [
        (["-o", tmp_path / "x.pb"], "--output must end in .onnx, .tflite"),
        (["-o", tmp_path / "x.onnx", "--inputs", "jpeg"], "onnx decodes no JPEG"),
        (["-o", tmp_path / "x.onnx", "--tolerance", "-1"], "Invalid value for '--tolerance'"),
        (
            ["-o", tmp_path / "x.onnx", "--precision", "int8_static"],
            "--precision int8_static needs --calibration, a few dozen",
        ),
        (
            ["-o", tmp_path / "x.onnx", "--calibration", photo],
            "--calibration is for --precision int8_",
        ),
        (["-o", tmp_path / "x", "--samples", tmp_path / "none.jpg"], "no such picture"),
    ]
    for arguments, message in calls:
        done = run("export", folder, *arguments)
        assert done.exit_code == 2 and message in done.stderr
    photo.with_suffix(".onnx").touch()
    existing = ["-o", photo.with_suffix(".onnx")]
    for arguments, message in [
        (existing, "--output must not exist yet: choose another or remove it"),
        (["-o", photo / "x.onnx"], "--output must be in a folder that can be written"),
        (["-o", photo / "x" / "y.onnx"], "--output must be in a folder that can be written"),
        (["-o", tmp_path / "new" / "x.onnx", "--inputs", "jpeg"], "onnx decodes no JPEG"),
    ]:
        done = run("export", folder, *arguments)
        assert done.exit_code == 2 and message in done.stderr, done.output
    assert set(tmp_path.iterdir()) == {photo, photo.with_suffix(".onnx")}


@once
def test_a_new_folder_and_random_weights_are_said(tmp_path, monkeypatch, folder):
    def write(model, path, **_):
        path.parent.mkdir(parents=True, exist_ok=True)
        return f"{type(model).__name__} written"

    monkeypatch.setattr(keras_vit, "export", write)
    done = run("export", folder, "-o", tmp_path / "new" / "deep" / "x.onnx")
    assert done.exit_code == 0 and done.stdout == "VisionTransformer written\n"
    assert done.stderr.endswith(f"The folder {tmp_path / 'new' / 'deep'} is new\n")

    def fail(model, path, **_):
        write(model, path)
        raise ValueError("it differs")

    monkeypatch.setattr(keras_vit, "export", fail)
    done = run("export", folder, "-o", tmp_path / "other" / "x.onnx")
    assert done.exit_code == 2 and "error: it differs" in done.stderr
    assert f"The folder {tmp_path / 'other'} is new\n" in done.stderr
    monkeypatch.setattr(keras_vit, "export", write)
    done = run("export", "vittiny", "-o", tmp_path / "x.onnx", "--image-size", 32)
    assert done.exit_code == 0 and "is new" not in done.stderr
    best = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert done.stderr == f"ViTTiny has random weights; {best} is its best known checkpoint\n"


@once
def test_pictures_need_preprocessing(photo, tmp_path, monkeypatch):
    tiny_vit().save(tmp_path / "bare.keras")
    for arguments in (["--samples", photo], ["--inputs", "pixels"]):
        done = run("export", tmp_path / "bare.keras", "-o", tmp_path / "x.onnx", *arguments)
        assert done.exit_code == 2 and done.stderr.endswith("Received: no --like\n")
    monkeypatch.setattr(keras_vit, "export", lambda model, path, **_: model.preprocessor.mean)
    like = ["--like", "deit_tiny_patch16_224.fb_in1k", "--inputs", "pixels"]
    for model in (tmp_path / "bare.keras", "ViTTiny"):
        done = run("export", model, "-o", tmp_path / "x.onnx", *like)
        assert done.exit_code == 0 and done.stdout.startswith("(0.485, 0.456, 0.406)"), done.output
