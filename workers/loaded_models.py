"""The models that a worker process holds in memory, by sha256."""

import numpy as np
import orjson
from cachetools import LRUCache

from workers import runtimes, troubles
from workers.failpoints import failpoint
from workers.model_store import ModelStore, Release


class ModelUnavailable(RuntimeError):
    """This worker can't serve the release; says why. Other workers or a later try may."""


class LoadedModels:
    """Loads a release on first use, after verifying it, and keeps the most recently used ones.

    The key is the file's sha256, so a replaced file never changes a loaded version. Use in a worker child only.
    """

    def __init__(self, store: ModelStore, limit: int = 32) -> None:
        self._store = store
        self._models: LRUCache[tuple[str, str, str], tuple[Release, runtimes.Model]] = LRUCache(limit)

    def get(self, model: str, version: str, sha256: str) -> tuple[Release, runtimes.Model]:
        """Return the release and the loaded model. Raises ModelUnavailable."""
        key = (model, version, sha256)
        found = self._models.get(key)
        if found is None:
            release = None
            try:
                release = self._store.get(model, version)
                found = self._models[key] = (release, _load(release, sha256))
            except Exception as error:
                # The first line is for clients; native traces and paths are in the traceback, for operators.
                reason = str(error).partition("\n")[0]
                if release is not None and release.manifest.artifact.sha256 == sha256:
                    troubles.note(release, reason)
                raise ModelUnavailable(f"{model} version {version}: {reason}") from error
            troubles.forget(release)
        return found


def _load(release: Release, sha256: str) -> runtimes.Model:
    manifest = release.manifest
    if manifest.artifact.sha256 != sha256:
        raise ValueError(f"sha256 here is {manifest.artifact.sha256}, the job was accepted for {sha256}")
    artifact = release.artifact()
    with troubles.loading(release):
        failpoint("worker.loading", artifact)
        loaded = runtimes.load(manifest, artifact)
        if manifest.golden:
            golden = orjson.loads((release.folder / manifest.golden).read_bytes())
            inputs = np.array(golden["inputs"], dtype=np.float32)
            expected = np.array(golden["raw"], dtype=np.float32)
            worst = float(np.abs(loaded.predict(inputs) - expected).max())
            if not worst <= golden["tolerance"]:
                raise ValueError(f"golden samples differ by {worst}, allowed is {golden['tolerance']}")
    return loaded
