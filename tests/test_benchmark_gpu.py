"""`python -m benchmarks.gpu` with tiny models on a CPU, and the figures that it computes."""

import csv
import subprocess
import sys
from types import SimpleNamespace

import pytest

from benchmarks import common, gpu, gpu_contestants, kernels, readme
from tests.helpers import once

pytestmark = once  # it starts processes of its own for each backend


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """What a run printed and the rows that it wrote; timm and transformers are not installed."""
    folder = tmp_path_factory.mktemp("gpu")
    names = ["timm", "keras-jax", "keras-torch"]
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--profile", "--only", *names]
    done = subprocess.run(
        [*command, "--out", str(folder), "--commit", "abc", "--minutes", "10"],
        cwd=common.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("gpu_*.csv")
    return done.stdout, common.read_rows(path), folder


def test_every_contestant_is_measured(tiny):
    printed, rows, _ = tiny
    measured = [row for row in rows if row["contestant"] != "timm"]
    steps = sorted((row["contestant"], row["step"]) for row in measured)
    assert steps == sorted((k, s) for k in ("keras-jax", "keras-torch") for s in gpu.STEPS)
    for row in measured:
        assert not row["error"]
        assert 0 < float(row["launch_ms"]) <= float(row["ms"]), row
        assert float(row["q1_ms"]) <= float(row["ms"]) <= float(row["q3_ms"])
        if row["step"] != "fit":
            assert int(row["kernels"]) > 20 and float(row["kernel_ms"]) > 0
        assert row["model"] == "tiny" and row["commit"] == "abc" and "keras " in row["versions"]
        line = f"tiny      {row['step']:8} {row['contestant']:16} "
        assert line in printed
    assert len({row["parameters"] for row in measured}) == 1
    assert float(rows[0]["product_tflops"]) > 0


@pytest.mark.skipif(common.installed("timm"), reason="timm is installed")
def test_a_library_that_is_not_installed_is_a_row(tiny):
    printed, rows, _ = tiny
    errors = [row["error"] for row in rows if row["contestant"] == "timm"]
    assert errors == ["timm not installed"] * len(gpu.STEPS)
    assert printed.count("timm not installed") == len(gpu.STEPS)


def test_the_longest_kernels_are_written(tiny):
    printed, _, folder = tiny
    (path,) = folder.glob("*.txt")
    text = path.read_text()
    for name in ("keras-jax", "keras-torch"):
        own = text.split(f"tiny, {name}, train\n")[1].split("\n\n")[0].splitlines()[1:]
        times = [float(line.split()[0]) for line in own]
        assert len(own) == kernels.TOP and times == sorted(times, reverse=True)
        assert own[0] in printed


def test_multiply_adds_are_those_of_the_models():
    with open(common.ROOT / "keras_vit" / "costs.csv", newline="") as file:
        costs = {row["variant"]: int(row["macs"]) for row in csv.DictReader(file)}
    assert gpu.macs("B") == costs["ViTBase"] and gpu.macs("L") == costs["ViTLarge"]


def test_utilisation():
    # A training step of 128 images is 128 * 6 * 61.55e9 = 4.727e13 FLOPs.
    assert gpu.utilisation("L", "train", 128, 0.1, 989) == pytest.approx(47.8, abs=0.01)
    forward = gpu.utilisation("L", "forward", 128, 0.1, 989)
    assert gpu.utilisation("L", "train", 128, 0.1, 989) == pytest.approx(3 * forward)


def test_kernels_are_added_up_by_name():
    found = kernels.summary(
        [
            ("fusion_1", 1.0),
            ("fusion_23", 2.0),
            ("flash_fwd_kernel", 4.0),
            ("triton_poi_fused__scaled_dot_product_attention_3", 0.5),
            ("MemcpyD2H", 0.25),
        ]
    )
    assert found["kernels"] == 4 and found["attention_kernels"] == 1
    assert found["kernel_ms"] == 7.75
    assert found["top"][:2] == [("flash_fwd_kernel", 4.0, 1), ("fusion", 3.0, 2)]


def test_kernels_of_a_gpu_are_those_of_its_streams():
    def line(name, *events):
        events = [SimpleNamespace(name=name, duration_ns=ns) for name, ns in events]
        return SimpleNamespace(name=name, events=events)

    streams = [line("Stream #7(Compute)", ("gemm", 2e6)), line("Stream #9", ("MemcpyD2H", 1e6))]
    device = [line("XLA Modules", ("jit_train", 9e6)), *streams]
    planes = [
        SimpleNamespace(name="/host:CPU", lines=[line("Stream of a host", ("launch", 5e6))]),
        SimpleNamespace(name="/device:GPU:0", lines=device),
    ]
    assert list(kernels._device_events(planes)) == [("gemm", 2.0), ("MemcpyD2H", 1.0)]


class Silent:
    """A worker that ends or does not answer in time."""

    def __init__(self, error):
        self.error, self.closed = error, False

    def send(self, **request):
        pass

    def receive(self, seconds):
        raise self.error

    def close(self, seconds):
        self.closed = True


@pytest.mark.parametrize(
    ("error", "row"),
    [
        (TimeoutError("no answer"), "not started within"),
        (RuntimeError("A worker ended with exit code 1:\n\nMemoryError: full\n"), "1: MemoryError"),
    ],
)
def test_a_worker_that_is_lost_is_a_row(error, row, tmp_path, monkeypatch, capsys):
    worker = Silent(error)
    monkeypatch.setattr(gpu, "Worker", lambda *arguments: worker)
    monkeypatch.setattr(gpu, "installed", lambda module: module == "torch")
    monkeypatch.setattr(sys, "argv", ["gpu", "--tiny", "--out", str(tmp_path / "gpu.csv")])
    monkeypatch.setitem(gpu.CONTESTANTS, "timm", ("torch", "torch", False))
    gpu.main()
    rows = common.read_rows(tmp_path / "gpu.csv")
    assert len(rows) == len(gpu.CONTESTANTS) * len(gpu.STEPS)
    assert worker.closed
    assert all(row in r["error"] for r in rows if r["contestant"] == "timm")
    assert all("not installed" in r["error"] for r in rows if r["contestant"] != "timm")


class Scripted(Silent):
    """A worker that has measured the forward pass; training and profiling fail."""

    figures = dict.fromkeys(("ms", "q1_ms", "q3_ms", "launch_ms", "cpu_ms", "first_s"), 2.0)
    figures |= {"calls": 5, "device_mb": 100, "parameters": 7}

    def send(self, do=None, step=None, **options):
        self.failed = do == "kernels" or step == "train"

    def receive(self, seconds):
        return {"error": "OutOfMemoryError: full"} if self.failed else self.figures


def test_a_step_that_fails_is_a_row_and_the_other_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "Worker", lambda *arguments: Scripted(None))
    monkeypatch.setattr(gpu, "installed", lambda module: module in ("keras", "jax"))
    monkeypatch.setattr(gpu, "versions", lambda *names: " + ".join(names))
    path = tmp_path / "gpu.csv"
    command = ["gpu", "--sizes", "L", "--only", "keras-jax", "--out", str(path)]
    monkeypatch.setattr(sys, "argv", command)
    gpu.main()
    forward, train, _ = common.read_rows(path)
    assert (forward["model"], forward["ms"], forward["error"]) == ("ViTLarge", "2", "")
    assert (forward["images_per_s"], forward["kernels"]) == ("64000", "")
    assert (train["step"], train["ms"]) == ("train", "")
    assert train["error"] == "OutOfMemoryError: full"
    assert "profile of forward: OutOfMemoryError" in capsys.readouterr().out


def test_a_step_that_failed_beside_others_is_tried_again(monkeypatch):
    class Contestant:
        parameters, tries = 7, 0

        def __init__(self, library, size):
            assert (library, size) == ("timm", 3)

        def train(self):
            self.tries += 1
            if self.tries == 1:
                raise MemoryError("full")
            return 0.0

        def device_peak(self):
            return 12.3

        def release(self):
            pass

    monkeypatch.setattr(gpu_contestants, "TorchContestant", Contestant)
    answer = gpu_contestants.start("timm", size=3)
    failed = answer(do="warm", step="train")
    assert failed["error"] == "MemoryError: full" and "Traceback" in failed["traceback"]
    figures = answer(do="measure", step="train", seconds=0)
    assert (figures["calls"], figures["device_mb"]) == (gpu_contestants.LEAST["train"], 12)


def test_what_there_is_no_time_for_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "installed", lambda module: module in ("keras", "jax"))
    command = ["gpu", "--tiny", "--only", "keras-jax", "--minutes", "0", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    gpu.main()
    assert "tiny, keras-jax: left out, there was no time" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_the_table_has_errors_and_speed_relative_to_timm():
    row = dict.fromkeys((*gpu.FIGURES, *gpu.KERNELS, "error"), "1")
    row |= {"model": "ViTBase", "step": "train", "commit": "abc", "batch": "128"}
    row |= {"peak_tflops": "989", "product_tflops": "700"}
    text = readme.gpu(
        [
            {**row, "contestant": "timm", "ms": "50", "error": ""},
            {**row, "contestant": "keras-jax", "ms": "40", "error": ""},
            {**row, "contestant": "transformers", "ms": "", "error": "out of memory"},
        ]
    )
    assert "| `ViTBase`, training step | **keras-jax** | 40 (1 to 1) | 1.25 |" in text
    assert "| transformers | out of memory |" in text
    assert "| `ViTBase`, forward | timm | not measured |" in text
    assert text.endswith("two matrices reached 700 TFLOP/s\n")
