"""Scratch folders beside what is written, which do not stay where their process was killed."""

import contextlib
import os
import platform
import re
import shutil
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there, so nothing of others is removed
    fcntl = None

# Locks may be known to one machine alone, so none judges the folders of another.
PREFIX = f".keras_vit-{re.sub(r'[^A-Za-z0-9.]', '_', platform.node())}-"


@contextlib.contextmanager
def scratch_beside(path):
    """A folder in the folder of `path`, so that what is finished only has to be renamed.

    It is removed at the end. What a killed process left behind there goes too, before and after:
    the kernel releases a process's locks with it, so a folder whose lock can be had is nobody's.
    Where the file system has no locks it stays.

    Args:
        path: `Path` of what is written; its parents are made.

    Raises:
        OSError: where the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    folder, lock = _locked_folder(path.parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            lock.close()
            shutil.rmtree(folder, ignore_errors=True)  # on NFS an open file stays until now
        _remove_abandoned(path.parent)


def _locked_folder(parent):
    """A new folder and its open lock, or None for a file system without locks."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=PREFIX))
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            return folder, _lock(folder)
        # Another process took it for abandoned before it was locked.


def _remove_abandoned(parent):
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # in use, or being removed by another
            lock = None if folder.is_symlink() else _lock(folder)
            if lock is not None:
                with lock:
                    shutil.rmtree(folder, ignore_errors=True)
                shutil.rmtree(folder, ignore_errors=True)  # on NFS an open file stays until now


def _lock(folder):
    """The open file that holds the lock of a folder, or None where there are no locks.

    Raises:
        BlockingIOError: if another holds it.
        FileNotFoundError: if another removed the folder.
    """
    if fcntl is None:
        return None
    path = folder / "lock"
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            raise FileNotFoundError(path)  # that file is gone, and a namesake lies there
    except (BlockingIOError, FileNotFoundError):
        file.close()
        raise
    except OSError:
        file.close()
        return None
    return file
