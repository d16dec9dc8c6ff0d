"""What a killed process leaves beside its results goes with the next one; what lives stays."""

import errno
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest

import keras_vit
from keras_vit import scratch
from keras_vit.export.formats import FORMATS
from tests.helpers import randomize, tiny_vit

BACKEND = keras.backend.backend()
once = pytest.mark.skipif(BACKEND != "torch", reason="no backend takes part")

HOLDER = """
import runpy, sys
from pathlib import Path
scratch_beside = runpy.run_path(sys.argv[1])["scratch_beside"]
with scratch_beside(Path(sys.argv[2])) as folder:
    (folder / "half").write_text("")
    print(folder, flush=True)
    sys.stdin.read()
"""


def start_holder(path):
    """A process in its scratch folder beside `path`, and that folder."""
    command = [sys.executable, "-c", HOLDER, scratch.__file__, str(path)]
    process = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
    return process, Path(process.stdout.readline().strip())


@once
def test_the_next_one_removes_what_a_killed_process_left(tmp_path):
    path = tmp_path / "folder" / "model.onnx"
    killed, left = start_holder(path)
    living, held = start_holder(path.with_name("other.onnx"))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert (left / "half").exists()
    with scratch.scratch_beside(path.with_name("third.onnx")) as folder:
        assert {x for x in path.parent.iterdir()} == {folder, held}
        assert (held / "half").exists()
    living.communicate("")
    assert living.returncode == 0 and not list(path.parent.iterdir())


@once
def test_killed_before_it_was_locked(tmp_path):
    (tmp_path / f"{scratch.PREFIX}abc").mkdir()
    with scratch.scratch_beside(tmp_path / "x") as folder:
        assert list(tmp_path.iterdir()) == [folder]


@once
def test_what_is_not_surely_abandoned_stays(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / f"{scratch.PREFIX}link").symlink_to(tmp_path / "photos")
    (tmp_path / ".keras_vit-another-host-abc").mkdir()  # its locks may be unknown here
    before = set(tmp_path.iterdir())
    with scratch.scratch_beside(tmp_path / "x"):
        pass
    assert set(tmp_path.iterdir()) == before and not list((tmp_path / "photos").iterdir())

    def no_locks(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / f"{scratch.PREFIX}abc").mkdir()
    monkeypatch.setattr(scratch.fcntl, "flock", no_locks)
    with scratch.scratch_beside(tmp_path / "x") as folder:
        (folder / "file").write_text("")
    assert (tmp_path / f"{scratch.PREFIX}abc").exists() and not folder.exists()


RACER = """
import runpy, sys
from pathlib import Path
scratch_beside = runpy.run_path(sys.argv[1])["scratch_beside"]
for _ in range(int(sys.argv[3])):
    with scratch_beside(Path(sys.argv[2])) as folder:
        (folder / "a").mkdir()
        (folder / "a" / "b").write_text("whole")
        assert (folder / "a" / "b").read_text() == "whole"
"""


@once
def test_many_at_once_leave_each_other_alone(tmp_path):
    command = [sys.executable, "-c", RACER, scratch.__file__, str(tmp_path / "x"), "50"]
    racers = [subprocess.Popen(command, stderr=-1, text=True) for _ in range(4)]
    for racer in racers:
        assert racer.communicate()[1] == "" and racer.returncode == 0
    assert not list(tmp_path.iterdir())


EXPORT = """
import sys, keras, keras_vit
model = keras.models.load_model(sys.argv[1])
keras_vit.export(model, sys.argv[2])
"""
# Files by which the moments of an export are known, from its beginning to its end.
MOMENTS = ["lock", "model.keras", "float32", "float32/*", "samples.npz", "outputs.npz"]


@pytest.mark.slow
@pytest.mark.skipif(BACKEND == "jax", reason="the others write everything")
@pytest.mark.parametrize("format", FORMATS)
def test_an_export_that_is_killed_leaves_nothing(format, tmp_path):
    """At every moment: nothing at the path, and nothing at all after the next export.

    KERAS_BACKEND=torch python -m pytest -m slow tests/test_scratch.py
    """
    model = tiny_vit()
    randomize(model)
    model.save(tmp_path / "model.keras")
    folder = tmp_path / "exports"
    path = folder / f"vit{FORMATS[format].suffix}"
    for moment in MOMENTS:
        command = [sys.executable, "-c", EXPORT, tmp_path / "model.keras", path]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not list(folder.glob(f"{scratch.PREFIX}*/{moment}")):
            assert process.poll() is None, f"it ended before {moment}"
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert not path.exists()
    keras_vit.export(model, path)
    assert {x.stem for x in folder.iterdir()} == {"vit"}
