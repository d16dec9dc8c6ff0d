"""What a killed process leaves beside its results goes with the next one; what lives stays."""

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import keras_vit
from keras_vit import scratch
from keras_vit.export.formats import FORMATS
from tests.exports import WRITTEN_HERE
from tests.helpers import once, randomize, tiny_vit

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


# An export that kills itself where Python is about to do something to a file, by its audit hooks.
EXPORT = """
import fnmatch, os, signal, sys, keras, keras_vit
model_file, path, moment, file = sys.argv[1:]
def kill(event, arguments):
    names = [os.fspath(x) for x in arguments if isinstance(x, (str, os.PathLike))]
    if event == moment and fnmatch.filter(names, file):
        os.kill(os.getpid(), signal.SIGKILL)
model = keras.models.load_model(model_file)
sys.addaudithook(kill)
keras_vit.export(model, path)
"""
MOMENTS = [  # from its beginning to its end
    ("open", "lock"),
    ("open", "model.keras"),
    ("os.mkdir", "float32"),  # what is written lies there
    ("open", "samples.npz"),
    ("open", "outputs.npz"),
    ("os.rename", "float32/vit*"),  # to its place
]


@pytest.mark.slow
# What this backend writes, or, where that is nothing, what a process of another writes for it.
@pytest.mark.parametrize("format", WRITTEN_HERE or ["litert"])
def test_an_export_that_is_killed_leaves_nothing(format, tmp_path):
    """At every moment: nothing at the path, and nothing at all after the next export.

    KERAS_BACKEND=torch python -m pytest -m slow tests/test_scratch.py
    """
    model = tiny_vit()
    randomize(model)
    model.save(tmp_path / "model.keras")
    folder = tmp_path / "exports"
    path = folder / f"vit{FORMATS[format].suffix}"
    for moment, file in MOMENTS:
        arguments = [tmp_path / "model.keras", path, moment, f"*/{scratch.PREFIX}*/{file}"]
        command = [sys.executable, "-c", EXPORT, *arguments]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        assert done.returncode == -signal.SIGKILL, f"{moment} {file}: {done.stderr}"
        assert len(list(folder.iterdir())) == 1 and not path.exists()
    keras_vit.export(model, path)
    assert {x.stem for x in folder.iterdir()} == {"vit"}
