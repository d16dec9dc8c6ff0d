"""keras-vit export, and bench of what it wrote."""

import json

import pytest

from tests.cli.helpers import run
from tests.exports import where_written
from tests.helpers import once

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
    assert again.exit_code == 2 and "path must not exist yet" in again.stderr

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
        (["-o", tmp_path / "x.pb"], "path must end in .onnx, .tflite"),
        (["-o", tmp_path / "x.onnx", "--inputs", "jpeg"], "onnx decodes no JPEG"),
        (["-o", tmp_path / "x.onnx", "--precision", "int8_static"], "needs calibration"),
        (["-o", tmp_path / "x", "--samples", tmp_path / "none.jpg"], "no such picture"),
    ]
    for arguments, message in calls:
        done = run("export", folder, *arguments)
        assert done.exit_code == 2 and message in done.stderr
    assert list(tmp_path.iterdir()) == [photo]
