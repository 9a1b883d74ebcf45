"""What a worker's children can't load. They note it, and their parent tells it with its heartbeats.

Children and parent share a folder: the parent may not load a model itself (XGBoost doesn't survive a fork).
"""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from workers.model_store import Release

# A child that dies while it loads may have been killed by somebody; so many, one after the other, died of the model.
# A damaged file does that to XGBoost, and every new child would die of it again, before it could serve anything.
DEADLY = 3

_folder: tempfile.TemporaryDirectory[str] | None = None


def share() -> None:
    """Make the folder; called by the parent before it forks. A process without one (a test) notes nothing."""
    global _folder
    _folder = _folder or tempfile.TemporaryDirectory(prefix="inference-worker-")


def folder() -> Path | None:
    """Return what children and parent share; None in a process that was started otherwise."""
    return None if _folder is None else Path(_folder.name)


def note(release: Release, reason: str) -> None:
    """Note that this child can't load the release; `reason` is one line."""
    if _folder is not None:
        _file(release, _folder).write_text(reason)


def forget(release: Release) -> None:
    """Note that the release was loaded."""
    if _folder is not None:
        _file(release, _folder).unlink(missing_ok=True)


@contextlib.contextmanager
def loading(release: Release) -> Iterator[None]:
    """Leave a mark while the release is loaded; it stays when this child dies of it.

    Raises RuntimeError, and nothing is loaded, when that has happened too often.
    """
    if _folder is None:
        yield
        return
    file = _file(release, _folder)
    if reason := _deadly(file):
        raise RuntimeError(reason)
    draft = file.with_name(f".{os.getpid()}")
    with draft.open("w") as held:
        # The lock ends with the process, whatever ends it; a pid may soon be another one's.
        fcntl.flock(held, fcntl.LOCK_EX)
        mark = draft.rename(file.with_name(f"{file.name}.loading.{os.getpid()}"))
        try:
            yield
        finally:
            for survived in (mark, *_marks_of_the_dead(file)):
                survived.unlink(missing_ok=True)


def reason(release: Release) -> str | None:
    """Return why the release, with its present model file, can't be loaded here; None when nothing is known."""
    if _folder is None:
        return None
    file = _file(release, _folder)
    with contextlib.suppress(FileNotFoundError):
        return file.read_text()
    return _deadly(file)


def _deadly(file: Path) -> str | None:
    deaths = len(_marks_of_the_dead(file))
    if deaths < DEADLY:
        return None
    return f"{deaths} processes died while they loaded it; tried again with another file, or when the worker restarts"


def _marks_of_the_dead(file: Path) -> list[Path]:
    return [mark for mark in file.parent.glob(f"{file.name}.loading.*") if not _is_held(mark)]


def _is_held(mark: Path) -> bool:
    try:
        with mark.open() as found:
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):
        return True  # or it was, and is loaded now
    return False


def _file(release: Release, folder: "tempfile.TemporaryDirectory[str]") -> Path:
    manifest = release.manifest
    return Path(folder.name) / f"{manifest.model}.{manifest.version}.{manifest.sha256}"
