"""The places where data lie: local folders and S3. Every function takes a URI (`workers.datasets.uris`).

All raise DatasetError for a place that may not be used, isn't there or has no permission, and Unreachable when the
storage doesn't answer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

from workers.datasets import DatasetError, local_place
from workers.datasets.troubles import reaching
from workers.datasets.uris import Location, locate

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class File:
    """A file; `version` changes when its content does: the time of its last change in ns, or S3's ETag."""

    uri: str
    size: int
    version: str


def check_uri(uri: str) -> None:
    """Raise DatasetError for a URI that is none, or that may not be used. Looks at no file."""
    locate(uri)


def file(uri: str) -> File:
    """Return a single file."""
    system, location = _found(uri)
    with reaching(uri):
        size, version = system.state(location.path)
    return File(uri, size, version)


def files(uri: str) -> list[File]:
    """Return the file, or all data files of a folder and of its folders, sorted by path.

    Names that start with . or _ are left out, as writers of Parquet have it.
    """
    system, location = _found(uri)
    folder = uri.rstrip("/")
    with reaching(uri):
        found = system.listed(location.path)
        if found is None:
            return [file(folder)]
        for name in found:
            # A link may lead where nothing may be read.
            locate(f"{folder}/{name}")
        states = system.states(location.path, found)
        return [File(f"{folder}/{name}", *state) for name, state in zip(found, states, strict=True)]


def open_input(uri: str) -> "pa.NativeFile":
    """Open a file for reading anywhere in it."""
    system, location = _found(uri)
    with reaching(uri):
        return system.open_input(location.path)


def exists(uri: str) -> bool:
    """Tell whether there is a file, or a folder."""
    system, location = _found(uri)
    with reaching(uri):
        return bool(system.exists(location.path))


@contextmanager
def writing(uri: str, *, replace: bool) -> Iterator[BinaryIO]:
    """Yield a file to write; it appears whole at the end of the block, or not at all after an exception.

    Raises DatasetError if something is there already, unless it is to be replaced. Who dies meanwhile leaves, in a
    local folder, a file whose name starts with a dot and ends in `.part` (`forget_dead`). S3 can't be told not to
    replace: there only what is there when the block ends is seen.
    """
    if uri.endswith("/"):
        raise DatasetError(f"{uri}: expected the name of a file, not of a folder")
    system, location = _found(uri)
    with reaching(uri):
        try:
            with system.writing(location.path, replace) as sink:
                yield sink
        except FileExistsError as error:
            raise DatasetError(f"{uri}: there is something already, and it isn't replaced") from error


def folders(uri: str) -> dict[str, float]:
    """Return the folders in a folder by name, each with when it changed last (s since the epoch)."""
    system, location = _found(uri)
    with reaching(uri):
        found: dict[str, float] = system.folders(location.path)
        return found


def forget_dead(uri: str) -> None:
    """Remove what those have left behind who were killed while they wrote this file."""
    system, location = _found(uri)
    with reaching(uri):
        system.forget_dead(location.path)


def remove_tree(uri: str) -> None:
    """Remove a folder with all that is in it; nothing there is no error."""
    system, location = _found(uri)
    with reaching(uri):
        system.remove_tree(location.path)


def _found(uri: str) -> tuple[ModuleType, Location]:
    location = locate(uri)
    if location.system == "local":
        return local_place, location
    # Imports pyarrow and Amazon's library.
    from workers.datasets import s3_place

    return s3_place, location
