"""Scratch folders beside an output file, which are removed even if their process was killed."""

import contextlib
import os
import platform
import re
import shutil
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: no locks, so folders of other processes are not removed
    fcntl = None

# Other machines may not see a lock, so each machine removes only its own folders.
PREFIX = f".keras_vit-{re.sub(r'[^A-Za-z0-9.]', '_', platform.node())}-"


@contextlib.contextmanager
def scratch_beside(path):
    """Context manager with a new folder beside `path`, so that a finished file is only renamed.

    The folder is removed at the end. Folders that killed processes left there are removed too: the
    operating system releases the locks of a process that ends, so a folder that can be locked is
    abandoned. On a file system without locks they remain.

    Args:
        path: `Path` of the output; its parent folders are created.

    Yields:
        `Path` of the scratch folder.

    Raises:
        OSError: if the folder cannot be created.
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
    """(folder, lock): a new folder and its open lock file, None on a file system without locks."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=PREFIX))
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            return folder, _lock(folder)
        # Another process took it for abandoned before it was locked: try again.


def _remove_abandoned(parent):
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # in use, or being removed by another
            lock = None if folder.is_symlink() else _lock(folder)
            if lock is not None:
                with lock:
                    shutil.rmtree(folder, ignore_errors=True)
                shutil.rmtree(folder, ignore_errors=True)  # on NFS an open file stays until now


def _lock(folder):
    """Locks a folder and returns the open lock file, or None on a file system without locks.

    Raises:
        BlockingIOError: if another process holds the lock.
        FileNotFoundError: if another process removed the folder.
    """
    if fcntl is None:
        return None
    path = folder / "lock"
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            raise FileNotFoundError(path)  # the file was replaced by another of the same name
    except (BlockingIOError, FileNotFoundError):
        file.close()
        raise
    except OSError:
        file.close()
        return None
    return file
