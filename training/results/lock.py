"""One owner for a run folder: a lock that the kernel takes back when a process ends, killed or not.

It is a POSIX record lock, which belongs to the process. A `flock` belongs to the open file: a
forked child that outlives a killed run would keep it.
"""

import contextlib
import errno
import fcntl
import os
import socket

# What file systems say that have no locks, or whose lock server does not answer.
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)

# Descriptors by resolved path. A process that closes any descriptor of a file loses its locks on
# it, so nothing else here opens one; a copy of the run folder made by this process would.
_held = {}
os.register_at_fork(after_in_child=_held.clear)  # the child does not have them


def acquire(path):
    """Takes the lock of a run, for this process, until `release` or the end of the process.

    Of a run of several processes the first one takes it, for all of them.

    Args:
        path: `Path` of the lock file, in a folder that exists.

    Returns:
        Whether it was taken now; False where this process has it already. Where the file system has
        no locks, that is said and nothing is kept from anybody.

    Raises:
        ValueError: where another process has it; the message names that process.
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
                "The run folder's lock must be writable: where no process works there, remove it. "
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
                "nothing keeps another process from this run folder, so start none",
                flush=True,
            )
        if _is_at(file, path):
            break
        os.close(file)  # its owner has removed it just now
    with contextlib.suppress(OSError):  # a full disk: the lock counts, not who has it
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    _held[key] = file
    return True


def release(path):
    """Gives the lock back and removes its file; nothing where this process does not have it."""
    file = _held.pop(os.path.realpath(path), None)
    if file is None:
        return
    with contextlib.suppress(OSError):  # the lock counts, not its file
        if _is_at(file, path):  # still held, so nobody else can have it
            os.unlink(path)
    os.close(file)


@contextlib.contextmanager
def released_on_failure():
    """Gives back what is taken within it, if that fails."""
    before = set(_held)
    try:
        yield
    except BaseException:
        for path in _held.keys() - before:
            release(path)
        raise


def _refused(error, folder, owner):
    """What to raise where the lock is not to be had."""
    if error.errno not in (errno.EACCES, errno.EAGAIN):
        return error
    return ValueError(
        "Another process works in the run folder: wait for its end or stop it, then go on with "
        "--resume; or start another run beside it with --new. Received: "
        f"{folder}, in use by {owner or 'a process that did not write its number'}"
    )


def _is_at(file, path):
    """Whether a descriptor is of the file that is at a path now."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
