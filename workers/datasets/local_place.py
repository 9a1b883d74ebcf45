"""Folders of this machine. Paths are real ones; every function raises OSError."""

import errno
import fcntl
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import pyarrow as pa


# Names may have 255 bytes; what stands around it needs some.
_MAX_NAME = 80


def state(path: str) -> tuple[int, str]:
    """Return a file's size and the time of its last change in ns."""
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", path)
    if not stat.S_ISREG(found.st_mode):
        # Opening a pipe would wait for ever.
        raise PermissionError(errno.EPERM, "is no plain file", path)
    return found.st_size, str(found.st_mtime_ns)


def listed(path: str) -> list[str] | None:
    """Return the names below a folder of all data files in it, sorted; None for a file."""
    if not os.path.isdir(path):
        return None
    return sorted(_walk(path, "", (path,)))


def _walk(folder: str, prefix: str, above: tuple[str, ...]) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "_")):
                continue
            if not entry.is_dir():
                yield prefix + entry.name
                continue
            real = os.path.realpath(entry.path)
            if real in above:
                raise OSError(errno.ELOOP, "a link leads back to a folder above it", entry.path)
            yield from _walk(entry.path, f"{prefix}{entry.name}/", (*above, real))


def states(path: str, names: list[str]) -> list[tuple[int, str]]:
    """Return `state` of each of the files in a folder."""
    return [state(f"{path}/{name}") for name in names]


def open_input(path: str) -> "pa.NativeFile":
    """Open a file for reading. Not mapped into memory: a file that is cut meanwhile would kill the process."""
    import pyarrow as pa

    state(path)  # raises for what is no plain file
    return pa.OSFile(path, "rb")


def exists(path: str) -> bool:
    """Tell whether something is there."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


@contextmanager
def writing(path: str, replace: bool) -> Iterator[BinaryIO]:
    """Yield a file that gets its name at the end. Raises FileExistsError, also when it came there meanwhile."""
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, "is a folder", path)
    if not replace and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "is there already", path)
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    with _part(folder, name) as (part, file):
        yield file
        file.flush()
        os.fsync(file.fileno())
        if replace:
            os.replace(part, path)
        else:
            # Renaming would replace what somebody else has written meanwhile; this doesn't.
            os.link(part, path)
    _sync(folder)


@contextmanager
def _part(folder: str, name: str) -> Iterator[tuple[str, BinaryIO]]:
    """Yield a new file and its path, locked until it is gone: who holds no lock any more is dead."""
    while True:
        part = f"{folder}/.{name[:_MAX_NAME]}.{uuid.uuid4().hex}.part"
        with open(part, "xb") as file:
            try:
                _lock(file, wait=True)
                # Before it was locked it looked like that of a dead one.
                if os.fstat(file.fileno()).st_nlink == 0:
                    continue
                yield part, file
                return
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(part)


def forget_dead(path: str) -> None:
    """Remove what writers of this path have left behind that were killed; those that live keep theirs."""
    folder, name = os.path.split(path)
    left = re.compile(rf"\.{re.escape(name[:_MAX_NAME])}\.[0-9a-f]{{32}}\.part")
    if not os.path.isdir(folder):
        return
    with os.scandir(folder) as entries:
        found = [entry.path for entry in entries if left.fullmatch(entry.name)]
    for part in found:
        with suppress(FileNotFoundError), open(part, "r+b") as file:
            if _lock(file, wait=False):
                os.unlink(part)


def _lock(file: BinaryIO, *, wait: bool) -> bool:
    """Lock a file; returns whether it is locked. There are file systems on which nobody can lock."""
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _sync(folder: str) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def folders(path: str) -> dict[str, float]:
    """Return the folders in a folder, each with the time (s since the epoch) when something came there or went last."""
    try:
        with os.scandir(path) as entries:
            return {entry.name: entry.stat().st_mtime for entry in entries if entry.is_dir(follow_symlinks=False)}
    except FileNotFoundError:
        return {}


def remove_tree(path: str) -> None:
    """Remove a folder; two may do so at the same time."""
    while os.path.lexists(path):
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            continue
