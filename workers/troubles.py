"""What a worker's children can't load. They note it, and their parent tells it with its heartbeats.

Children and parent share a folder: the parent may not load a model itself (XGBoost doesn't survive a fork).
"""

import contextlib
import tempfile
from pathlib import Path

from workers.model_store import Release

_folder: tempfile.TemporaryDirectory[str] | None = None


def share() -> None:
    """Make the folder; called by the parent before it forks. A process without one (a test) notes nothing."""
    global _folder
    _folder = _folder or tempfile.TemporaryDirectory(prefix="inference-worker-")


def note(release: Release, reason: str) -> None:
    """Note that this child can't load the release; `reason` is one line."""
    if _folder is not None:
        _file(release, _folder).write_text(reason)


def forget(release: Release) -> None:
    """Note that the release was loaded."""
    if _folder is not None:
        _file(release, _folder).unlink(missing_ok=True)


def reason(release: Release) -> str | None:
    """Return why the release, with its present model file, can't be loaded here; None when nothing is known."""
    if _folder is None:
        return None
    with contextlib.suppress(FileNotFoundError):
        return _file(release, _folder).read_text()
    return None


def _file(release: Release, folder: "tempfile.TemporaryDirectory[str]") -> Path:
    manifest = release.manifest
    return Path(folder.name) / f"{manifest.model}.{manifest.version}.{manifest.artifact.sha256}"
