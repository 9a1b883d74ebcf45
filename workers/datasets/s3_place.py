"""S3 and what speaks like it, by pyarrow. Paths are `bucket/key`; every function raises OSError."""

import errno
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import BinaryIO, cast

import pyarrow as pa
from pyarrow import fs

from workers.config import secret

CONNECT_SECONDS, REQUEST_SECONDS = 5, 60
TRIES = 4
# S3 copies so much at once, and pyarrow has no other way to copy there.
MAX_COPIED = 5 * 1024**3
STEP_BYTES = 8 * 1024 * 1024
# Requests at the same time, for the versions of a folder's files.
AT_ONCE = 16


def state(path: str) -> tuple[int, str]:
    """Return an object's size and ETag. What lists objects tells the time of the change alone, in seconds."""
    with _system().open_input_file(path) as file:
        told = {key: value.decode() for key, value in (file.metadata() or {}).items()}
        told = {key.decode() if isinstance(key, bytes) else key: value for key, value in told.items()}
        return file.size(), told.get("ETag") or told.get("Last-Modified", "")


def listed(path: str) -> list[str] | None:
    """Return the names below a folder of all data files in it, sorted; None for an object."""
    info = _system().get_file_info(path)
    if info.type != fs.FileType.Directory:
        return None
    found = _system().get_file_info(fs.FileSelector(path, recursive=True))
    names = [info.path[len(path) + 1 :] for info in found if info.type == fs.FileType.File]
    return sorted(name for name in names if not any(part.startswith((".", "_")) for part in name.split("/")))


def states(path: str, names: list[str]) -> list[tuple[int, str]]:
    """Return `state` of each of the objects in a folder."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(state, (f"{path}/{name}" for name in names)))


def open_input(path: str) -> pa.NativeFile:
    """Open an object for reading; each read is a request."""
    return _system().open_input_file(path)


def exists(path: str) -> bool:
    """Tell whether there is an object or a folder."""
    return bool(_system().get_file_info(path).type != fs.FileType.NotFound)


@contextmanager
def writing(path: str, replace: bool) -> Iterator[BinaryIO]:
    """Yield a file that gets its name at the end. Raises FileExistsError.

    pyarrow can't give an upload up: closing it, even because of an exception, makes an object of what was sent. So the
    upload has another name until it is whole.
    """
    _check_free(path, replace)
    system = _system()
    folder, _, name = path.rpartition("/")
    part = f"{folder}/.{name[:80]}.{uuid.uuid4().hex}.part"
    try:
        with system.open_output_stream(part) as sink:
            yield cast(BinaryIO, sink)
        _check_free(path, replace)
        if system.get_file_info(part).size <= MAX_COPIED:
            system.copy_file(part, path)
        else:
            _send_again(system, part, path)
    finally:
        # What can't be removed now has a name that nobody reads.
        with suppress(OSError):
            system.delete_file(part)


def _send_again(system: fs.S3FileSystem, part: str, path: str) -> None:
    with system.open_input_stream(part) as source:
        try:
            with system.open_output_stream(path) as sink:
                while step := source.read(STEP_BYTES):
                    sink.write(step)
        except BaseException:
            # Closing it has made an object of what was sent.
            with suppress(OSError):
                system.delete_file(path)
            raise


def _check_free(path: str, replace: bool) -> None:
    if not replace and exists(path):
        raise FileExistsError(errno.EEXIST, "is there already", path)


def put(path: str, body: bytes, media_type: str, seconds: float) -> None:
    """Write an object that is there at the end or not at all; tried once, and connected within so many seconds.

    All of it is given to pyarrow at once, which closes nothing half done then.
    """
    with _system(connect=seconds, tries=1, in_one=True).open_output_stream(
        path, metadata={"Content-Type": media_type}
    ) as sink:
        sink.write(body)


def folders(path: str) -> dict[str, float]:
    """Return what stands for the folders in a prefix, each with the time (s since the epoch) of its newest object."""
    newest: dict[str, float] = {}
    for info in _system().get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True)):
        if info.type == fs.FileType.File:
            name = info.path[len(path) + 1 :].partition("/")[0]
            newest[name] = max(newest.get(name, 0.0), info.mtime.timestamp())
    return newest


def forget_dead(path: str) -> None:
    """Do nothing: an upload that nobody ended shows nothing, and the bucket's rules end it."""


def remove_tree(path: str) -> None:
    """Remove all objects below a prefix."""
    with suppress(FileNotFoundError):
        _system().delete_dir(path)


def _system(*, connect: float = CONNECT_SECONDS, tries: int = TRIES, in_one: bool = False) -> fs.S3FileSystem:
    return _made(
        secret("S3_ENDPOINT"),
        secret("S3_REGION"),
        secret("AWS_ACCESS_KEY_ID"),
        secret("AWS_SECRET_ACCESS_KEY"),
        connect,
        tries,
        in_one,
    )


@lru_cache
def _made(
    endpoint: str, region: str, key_id: str, key: str, connect: float, tries: int, in_one: bool
) -> fs.S3FileSystem:
    # What isn't given is looked for as Amazon's other programs do.
    return fs.S3FileSystem(
        access_key=key_id or None,
        secret_key=key or None,
        endpoint_override=endpoint or None,
        region=region or None,
        connect_timeout=connect,
        request_timeout=REQUEST_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=tries),
        # A small object is one request then, not three.
        allow_delayed_open=in_one,
    )
