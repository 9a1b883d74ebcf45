"""The models that a worker process holds in memory, by sha256."""

from cachetools import LRUCache
from psutil import Process

from workers import troubles
from workers.failpoints import failpoint
from workers.model_store import ModelStore, Release, UnknownModel
from workers.runtimes import runtime
from workers.served import Served


class ModelUnavailable(RuntimeError):
    """This worker can't serve the release; says why. Other workers or a later try may."""


class LoadedModels:
    """Loads a release on first use, after verifying it, and keeps the most recently used ones.

    They may take `budget` bytes together; the one in use stays, however large. The key is the file's sha256, so a
    replaced file never changes a loaded version. Use in a worker child only.
    """

    def __init__(self, store: ModelStore, budget: int = 2**29) -> None:
        self._store = store
        self._models: LRUCache[tuple[str, str, str, bool], tuple[Served, int]] = LRUCache(
            budget, getsizeof=lambda held: min(held[1], budget)
        )

    def get(self, model: str, version: str, sha256: str, *, anywhere: bool = False) -> Served:
        """Return the loaded release. Raises ModelUnavailable.

        `anywhere` takes whatever device there is, also for a model that is meant for a GPU: to explain, and in batches.
        """
        key = (model, version, sha256, anywhere)
        held = self._models.get(key)
        if held is None:
            release = None
            try:
                release = self._store.get(model, version)
                held = self._models[key] = _load(release.on_any_device() if anywhere else release, sha256)
            except Exception as error:
                # The first line is for clients; native traces and paths are in the traceback, for operators.
                reason = str(error).partition("\n")[0]
                if release is not None and release.manifest.sha256 == sha256:
                    troubles.note(release, reason)
                raise ModelUnavailable(f"{model} version {version}: {reason}") from error
            troubles.forget(release)
        return held[0]

    def release(self, model: str, version: str, sha256: str) -> Release:
        """Return the release without loading its model. Raises ModelUnavailable."""
        try:
            release = self._store.get(model, version)
            _check(release, sha256)
        except (UnknownModel, ValueError) as error:
            raise ModelUnavailable(f"{model} version {version}: {error}") from error
        return release

    @property
    def bytes(self) -> int:
        """How much memory the models take together."""
        return int(self._models.currsize)


def _load(release: Release, sha256: str) -> tuple[Served, int]:
    """Return the loaded release, and how many bytes this process has grown by it (never less than its file)."""
    manifest = release.manifest
    _check(release, sha256)
    artifact = release.artifact()
    # Its libraries take 100 MB, which no model has to pay for.
    runtime(manifest.runtime)
    before = _memory()
    with troubles.loading(release):
        failpoint("worker.loading", artifact)
        served = Served(release, artifact)
        # A container that is away now may be back when it is asked.
        if manifest.container is None:
            served.warm_up()
            served.check_samples()
    return served, max(len(artifact), _memory() - before)


def _check(release: Release, sha256: str) -> None:
    """Raise ValueError for another file than the one that the job was accepted for."""
    here = release.manifest.sha256
    if here != sha256:
        raise ValueError(f"sha256 here is {here}, the job was accepted for {sha256}")


def _memory() -> int:
    return int(Process().memory_info().rss)
