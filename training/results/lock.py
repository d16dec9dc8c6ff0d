"""The lock of a run folder, which the operating system releases when the process ends in any way.

It is a POSIX record lock, which belongs to the process. A `flock` belongs to the open file: a
forked child that outlives a killed run would still hold it.
"""

import contextlib
import errno
import fcntl
import os
import socket

# Errors of file systems without locks, or whose lock server does not answer.
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)

# Descriptors by resolved path. A process that closes any descriptor of a file loses its locks on
# it, so nothing else here opens one; a copy of the run folder made by this process would.
_held = {}
os.register_at_fork(after_in_child=_held.clear)  # the child does not have them


def acquire(path):
    """Takes the lock of a run, for this process, until `release` or the end of the process.

    In a run of several processes the main process takes it, for all of them.

    Args:
        path: `Path` of the lock file, in a folder that exists.

    Returns:
        Whether it was taken now; False if this process holds it already. If the file system has no
        locks, a warning is printed and no process is kept out.

    Raises:
        ValueError: if another process holds it; the message names that process.
    """
    key = os.path.realpath(path)
    if key in _held:
        if _is_at(_held[key], path):
            return False
        os.close(_held.pop(key))  # the folder was removed and made again
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except PermissionError as error:
            raise ValueError(
                "The lock of the run folder must be writable: if no process uses it, remove it. "
                f"Received: {path}, {error.strerror}"
            ) from error
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                owner = os.read(file, 200).decode(errors="replace").strip()
                os.close(file)
                raise _refused(error, path.parent, owner) from None
            print(
                f"warning: the file system of {path.parent} has no locks ({error.strerror}): "
                "do not start another process in this run folder",
                flush=True,
            )
        if _is_at(file, path):
            break
        os.close(file)  # its owner removed the file just now
    with contextlib.suppress(OSError):  # a full disk: the lock matters, not the name in it
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    _held[key] = file
    return True


def release(path):
    """Releases the lock and removes its file; does nothing if this process does not hold it."""
    file = _held.pop(os.path.realpath(path), None)
    if file is None:
        return
    with contextlib.suppress(OSError):  # the lock matters, not its file
        if _is_at(file, path):  # still held, so no other process has it
            os.unlink(path)
    os.close(file)


@contextlib.contextmanager
def released_on_failure():
    """Context that releases the locks taken within it if an exception is raised."""
    before = set(_held)
    try:
        yield
    except BaseException:
        for path in _held.keys() - before:
            release(path)
        raise


def _refused(error, folder, owner):
    """The exception to raise if the lock cannot be taken."""
    if error.errno not in (errno.EACCES, errno.EAGAIN):
        return error
    return ValueError(
        "Another process is using the run folder: wait for its end or stop it, then resume the run "
        "with --resume; or start another run with --new. Received: "
        f"{folder}, in use by {owner or 'a process that did not write its number'}"
    )


def _is_at(file, path):
    """Whether a descriptor refers to the file that is at a path now."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
