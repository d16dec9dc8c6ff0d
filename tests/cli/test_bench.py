"""keras-vit bench."""

import json

import keras
import pytest

from keras_vit.cli.bench import WARM_UP, measure
from tests.cli.helpers import run


def test_bench_measures_each_batch_size(folder):
    arguments = ("--batch-size", "1,3", "--rounds", 2, "--image-size", "48x32")
    found = json.loads(run("bench", folder, *arguments, "--json").stdout)
    assert found["backend"] == keras.backend.backend() and found["backend"] in found["versions"]
    assert found["image_size"] == [48, 32] and found["dtype"] == "float32"
    assert [row["batch_size"] for row in found["results"]] == [1, 3]
    for row in found["results"]:
        assert 0 < row["p10_s"] <= row["median_s"] <= row["p90_s"]
        assert row["images_per_s"] * row["median_s"] == pytest.approx(row["batch_size"])


def test_bench_prints_a_table(folder):
    found = run("bench", folder, "--batch-size", 2, "--rounds", 1, "--dtype", "mixed_bfloat16")
    assert found.exit_code == 0
    assert "24 x 16 pixels, mixed_bfloat16" in found.stdout
    header, row = found.stdout.splitlines()[-2:]
    assert header.startswith("batch  first call, s  median, ms") and row.split()[0] == "2"


def test_the_first_calls_do_not_count(monkeypatch):
    clock = iter([0, 100, 200, 250, 300, 350, 400, 401, 500, 503])  # before and after each call
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    calls = []
    found = measure(lambda: calls.append(1), batch_size=8, rounds=2)
    assert len(calls) == 1 + WARM_UP + 2
    assert found["first_s"] == 100 and found["median_s"] == 2 and found["images_per_s"] == 4
    assert found["p10_s"] < 2 < found["p90_s"]


def test_wrong_calls():
    for arguments in (["--batch-size", "1;2"], ["--batch-size", "0"], ["--dtype", "int3"]):
        assert run("bench", "ViTTiny", *arguments).exit_code == 2
    unknown = run("bench", "ViTTinny")
    assert unknown.exit_code == 2 and "There is no such checkpoint" in unknown.stderr
