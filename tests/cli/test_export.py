"""keras-vit export, and bench of what it wrote."""

import json

import keras
import pytest

from keras_vit.export.formats import FORMATS
from tests.cli.helpers import run

WRITTEN_HERE = [x for x in FORMATS.values() if x.backend == keras.backend.backend()]
pytestmark = pytest.mark.skipif(not WRITTEN_HERE, reason="a process more, and no other code")


def test_export_writes_compares_and_bench_measures_it(folder, photo, tmp_path):
    path = tmp_path / f"model{WRITTEN_HERE[1 % len(WRITTEN_HERE)].suffix}"  # .tflite or .pt2
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
    assert again.exit_code == 2 and "path must not exist yet" in again.stderr

    arguments = ("--image-size", "40x30", "--batch-size", "1,2", "--rounds", 2)
    done = run("bench", path, *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["runtime"] == found["runtime"] and measured["image_size"] == [40, 30]
    assert [row["batch_size"] for row in measured["results"]] == [1, 2]
    free = run("bench", path)
    assert free.exit_code == 2 and "--image-size" in free.stderr


def test_wrong_calls(folder, photo, tmp_path):
    calls = [
        (["-o", tmp_path / "x.pb"], "path must end in .onnx, .tflite"),
        (["-o", tmp_path / "x.onnx", "--inputs", "jpeg"], "onnx decodes no JPEG"),
        (["-o", tmp_path / "x.onnx", "--precision", "int8_static"], "needs calibration"),
        (["-o", tmp_path / "x", "--samples", tmp_path / "none.jpg"], "no such picture"),
    ]
    for arguments, message in calls:
        done = run("export", folder, *arguments)
        assert done.exit_code == 2 and message in done.stderr
    assert list(tmp_path.iterdir()) == [photo]
