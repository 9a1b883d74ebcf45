"""The model store: a folder `<model>/<version>/manifest.yaml` with the model file beside it."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from workers.manifest import Manifest, read_manifest
from workers.schema import Schema
from workers.template.yaml_file import ManifestError

# A released or corrected file is seen this soon, without a restart.
RESCAN_SECONDS = 2.0
Stamp = tuple[tuple[str, int, int], ...]


class UnknownModel(LookupError):
    """No such model, or no such version of it, is served."""


class ArtifactError(RuntimeError):
    """The model file is missing or isn't the one that the manifest describes."""


@dataclass(frozen=True, slots=True)
class Release:
    """One version that can be served, the folder where it lies, and its signature ready for checking."""

    manifest: Manifest
    folder: Path
    schema: Schema

    def artifact(self) -> bytes:
        """Return the model file's bytes after checking their sha256. Raises ArtifactError.

        The caller loads these bytes, not the path, so that what was checked is what is loaded. A model in a container
        has none.
        """
        if self.manifest.artifact is None:
            return b""
        path = self.folder / self.manifest.artifact.file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ArtifactError(f"{path.name}: {error.strerror}") from error
        digest = hashlib.sha256(data).hexdigest()
        if digest != self.manifest.artifact.sha256:
            raise ArtifactError(f"{path.name}: sha256 is {digest}, the manifest says {self.manifest.artifact.sha256}")
        return data

    def on_any_device(self) -> "Release":
        """Return the release as it runs where its own device may be missing: on a GPU if there is one, else the CPU."""
        if self.manifest.container is not None:
            return self
        return replace(self, manifest=self.manifest.model_copy(update={"device": "auto", "pool": "cpu"}))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the store held when it was last read: releases by model and version, and the manifests that are wrong."""

    releases: dict[str, dict[str, Release]] = field(default_factory=dict)
    problems: tuple[ManifestError, ...] = ()

    def every(self) -> Iterator[Release]:
        """Return all releases, model by model."""
        return (release for versions in self.releases.values() for release in versions.values())


class ModelStore:
    """Reads the folder again when a manifest in it has changed. A wrong one is a problem; the others are served."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._stamp: Stamp | None = None
        self._looked = float("-inf")
        self._snapshot = Snapshot()

    def snapshot(self) -> Snapshot:
        """Return the store's content, at most RESCAN_SECONDS old. Reads files; never raises for their content."""
        if time.monotonic() - self._looked > RESCAN_SECONDS:
            with self._lock:
                if time.monotonic() - self._looked <= RESCAN_SECONDS:
                    return self._snapshot  # another thread has just looked
                # All files: a model may arrive after its manifest.
                stamp = _stamp(sorted(self.root.glob("*/*/*")))
                if stamp != self._stamp:
                    self._stamp = stamp
                    self._snapshot = _read(sorted(self.root.glob("*/*/manifest.yaml")))
                self._looked = time.monotonic()
        return self._snapshot

    def get(self, model: str, version: str | None = None) -> Release:
        """Return a release; without a version the newest one. Raises UnknownModel."""
        versions = self.snapshot().releases.get(model)
        if not versions:
            raise UnknownModel(f"no model {model!r} is served here")
        if version is None:
            return versions[max(versions, key=int)]
        if version not in versions:
            raise UnknownModel(f"model {model!r} has no version {version!r}")
        return versions[version]


def _stamp(paths: list[Path]) -> Stamp:
    stamp = []
    for path in paths:
        with contextlib.suppress(OSError):
            stat = path.stat()
            stamp.append((str(path), stat.st_mtime_ns, stat.st_size))
    return tuple(stamp)


def _read(paths: list[Path]) -> Snapshot:
    releases: dict[str, dict[str, Release]] = {}
    problems: list[ManifestError] = []
    for path in paths:
        try:
            manifest = read_manifest(path)
            release = Release(manifest, path.parent, Schema(manifest.columns))
            release.artifact()
        except ArtifactError as error:
            problems.append(ManifestError(path, _line_of(path, "artifact:"), f"artifact: {error}"))
        except ManifestError as problem:
            problems.append(problem)
        else:
            releases.setdefault(manifest.model, {})[manifest.version] = release
    return Snapshot(releases, tuple(problems))


def _line_of(path: Path, text: str) -> int:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((number for number, line in enumerate(lines, 1) if line.startswith(text)), 1)
