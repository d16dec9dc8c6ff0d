"""A run folder has one owner at a time, and nobody has it after a kill."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import once
from training import evaluate
from training.__main__ import main
from training.loop import run
from training.results import lock
from training.results.folder import RunFolder

ROOT = Path(__file__).parents[3]
# The lock does not depend on the backend.
pytestmark = once
HOLD = """
import sys, time
from pathlib import Path
from training.results import lock
lock.acquire(Path(sys.argv[1]))
exec(sys.argv[2])
print("held", flush=True)
time.sleep(60)
"""


def holder(path, then=""):
    """A process that holds a lock; it has it when this returns."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), then],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)


def test_two_processes_cannot_have_it_and_a_kill_gives_it_back(tmp_path):
    path = tmp_path / "run.lock"
    other = holder(path)
    expected = rf"--resume.*--new. Received: {tmp_path}, in use by process {other.pid} on \w"
    for _ in range(2):  # the first refusal has taken nothing away
        with pytest.raises(ValueError, match=expected):
            lock.acquire(path)
    kill(other)
    assert lock.acquire(path) and not lock.acquire(path)
    assert path.read_text().startswith(f"process {os.getpid()} on ")
    lock.release(path)
    assert not path.exists()
    lock.release(path)  # nothing more to give
    lock.acquire(path)
    path.unlink()  # with its folder, which is then made again
    assert lock.acquire(path) and path.exists()
    lock.release(path)


def test_a_child_that_lives_on_does_not_keep_it(tmp_path):
    """As the workers of a data loader may, which are forked, or a program that was started."""
    for then in (
        "import os\nif not os.fork(): time.sleep(60)",
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], close_fds=False)",
    ):
        path = tmp_path / "run.lock"
        other = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path), then],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            assert other.stdout.readline() == b"held\n"
            other.send_signal(signal.SIGKILL)
            assert other.wait() == -signal.SIGKILL
            assert lock.acquire(path)
        finally:
            os.killpg(other.pid, signal.SIGKILL)  # the child; an error where it has not lived on
            other.stdout.close()
            lock.release(path)


def test_a_forked_child_is_not_the_owner(tmp_path):
    path = tmp_path / "run.lock"
    lock.acquire(path)
    child = os.fork()
    if not child:
        try:
            lock.release(path)
            lock.acquire(path)
        except ValueError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7 and path.exists()
    lock.release(path)


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, capsys):
    def lockf(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "lockf", lockf)
    path = tmp_path / "run.lock"
    lock.acquire(path)
    lock.acquire(path)
    said = capsys.readouterr().out
    assert said.count("warning: the file system") == 1
    assert str(tmp_path) in said and os.strerror(errno.ENOLCK) in said
    lock.release(path)
    assert not path.exists()


def test_a_start_that_fails_gives_it_back_and_another_owners_stays(small):
    run.prepare(small, ["train.epochs=2"], "run")
    lock.release(RunFolder("run").lock)
    with pytest.raises(ValueError, match="may change"):
        run.prepare(small, ["train.seed=3"], "run", resume=True)
    kill(holder("run/run.lock"))
    run.prepare(small, [], "run", resume=True)
    with pytest.raises(ValueError, match="may change"):  # it is ours from before
        run.prepare(small, ["train.seed=3"], "run", resume=True)
    assert not lock.acquire(RunFolder("run").lock)
    lock.release(RunFolder("run").lock)


def test_of_two_that_begin_at_once_one_is_refused(small, monkeypatch):
    """Both have found the folder free; the other one is quicker and may even be gone again."""
    build = run.build

    def meanwhile(plan, splits):
        Path("run").mkdir()
        others.append(holder("run/run.lock", then))
        return build(plan, splits)

    others = []
    monkeypatch.setattr(run, "build", meanwhile)
    then = ""
    with pytest.raises(ValueError, match=r"in use by process \d+"):
        run.prepare(small, [], "run")
    assert not Path("run/recipe.toml").exists()
    kill(others[0])
    Path("run/run.lock").unlink()
    Path("run").rmdir()
    then = "Path('run/recipe.toml').write_text('')"

    def meanwhile_and_gone(plan, splits):
        made = meanwhile(plan, splits)
        kill(others[1])
        return made

    monkeypatch.setattr(run, "build", meanwhile_and_gone)
    with pytest.raises(ValueError, match="holds a run that is unfinished"):
        run.prepare(small, [], "run")
    assert Path("run/recipe.toml").read_text() == ""


def test_a_run_that_goes_on_keeps_others_away_until_it_is_killed(small, capsys):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "training", small, "--run-dir", "run"),
            *("--set", "train.epochs=5000"),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        folder = RunFolder("run")
        while process.poll() is None and not folder.checkpoint.exists():
            time.sleep(0.05)
        assert main([small, "--run-dir", "run", "--resume"]) == 2
        said = capsys.readouterr().err
        assert f"Received: run, in use by process {process.pid} on " in said
        assert evaluate.main(["run"]) == 0  # a running run may be looked at
        assert process.poll() is None
    finally:
        kill(process)
    job = run.prepare(small, [], "run", resume=True)  # at once
    assert job.done["epochs"] >= 1
    lock.release(folder.lock)


HAMMER = """
import os, random, sys, time
from pathlib import Path
from training.results import lock
path, guard, rng = Path(sys.argv[1]), sys.argv[1] + ".guard", random.Random(int(sys.argv[2]))
print("ready", flush=True)
had = 0
while had < 100:
    try:
        lock.acquire(path)
    except ValueError:
        time.sleep(rng.uniform(0, 1e-3))
        continue
    try:
        os.close(os.open(guard, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        os._exit(3)  # two had it at once
    time.sleep(rng.uniform(0, 1e-3))
    os.unlink(guard)
    lock.release(path)
    had += 1
"""


@pytest.mark.slow
def test_many_that_take_and_give_it_never_have_it_together(tmp_path):
    path = tmp_path / "run.lock"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, str(path), str(seed)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )
        for seed in range(8)
    ]
    for process in started:
        assert process.stdout.readline() == b"ready\n"
    for process in started:
        process.communicate(timeout=300)
    assert [process.returncode for process in started] == [0] * 8


def test_a_run_that_has_ended_leaves_its_folder_to_others(small, monkeypatch):
    """Also in a notebook, whose process lives on."""
    monkeypatch.setattr(run, "fit", lambda job: None)
    for end in (lambda *arguments: {}, lambda *arguments: 1 / 0):
        monkeypatch.setattr(run, "finish", end)
        job = run.prepare(small, run_dir="run", resume=Path("run/recipe.toml").exists())
        assert Path("run/run.lock").exists()
        with contextlib.suppress(ZeroDivisionError):
            run.execute(job)
        assert not Path("run/run.lock").exists()
    monkeypatch.setattr(run, "restore", lambda model, path: {"epochs": 9, "step": 0})
    Path("run/model.keras").touch()
    Path("run/result.json").write_text("{}")
    assert run.prepare(small, run_dir="run", resume=True).finished
    assert not Path("run/run.lock").exists()


def test_a_lock_file_that_cannot_be_opened_or_removed(tmp_path, monkeypatch):
    path = tmp_path / "run.lock"
    assert lock.acquire(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", lambda path: _denied())
        lock.release(path)  # the lock is given back, its file stays
    assert path.exists() and lock.acquire(path)
    lock.release(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda *arguments: _denied())
        with pytest.raises(ValueError, match="remove it. Received: .*run.lock"):
            lock.acquire(path)


def _denied():
    raise PermissionError(errno.EACCES, "Permission denied")
