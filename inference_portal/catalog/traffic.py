"""Which version answers a request: the one that it names, else one by weight, always the same for one key."""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from inference_portal.catalog.models import Traffic
from inference_portal.store import model_store
from workers.formats import Fault, Invalid
from workers.model_store import Release, UnknownModel

# How old a process's knowledge of the table may be: a rollback counts everywhere within a second, and a request costs
# no query.
KEPT_SECONDS = 0.5
# Of a hash so many bits are an exact float, also half a step above the largest.
_BITS = 52


@dataclass(frozen=True, slots=True)
class Part:
    """A version's part of the traffic, in percent."""

    release: Release
    weight: float

    @property
    def version(self) -> str:
        """The version."""
        return self.release.manifest.version

    def as_json(self) -> dict[str, Any]:
        """Return it as events and the API have it."""
        return {"version": self.version, "sha256": self.release.manifest.sha256, "weight": self.weight}


class Table:
    """The rows at one moment: the versions with a weight, and the retired ones."""

    def __init__(self, rows: Iterable[Traffic]) -> None:
        self.weighted: dict[str, list[Traffic]] = defaultdict(list)
        self.retired: set[tuple[str, str]] = set()
        for row in rows:
            if row.retired:
                self.retired.add((row.model, row.version))
            elif row.weight:
                self.weighted[row.model].append(row)

    def split(self, model: str) -> list[Part]:
        """Return who takes the requests without a version; the weights add up to 100. Empty: nobody can.

        As long as nobody has released anything it is the first version: there is nothing that a release could replace.
        Of a version that is gone, or has another model file than the one released, the others take the part.
        """
        served = model_store().snapshot().releases.get(model, {})
        if rows := self.weighted.get(model):
            return whole(served, {(row.version, row.sha256): row.weight for row in rows})
        first = min((v for v in served if (model, v) not in self.retired), key=int, default=None)
        return [] if first is None else [Part(served[first], 100.0)]

    def problems(self, model: str) -> list[str]:
        """Return which versions should take traffic and can't, in plain words."""
        served = model_store().snapshot().releases.get(model, {})
        return [
            f"Version {row.version} takes no traffic: "
            + ("its model file isn't the one that was released" if row.version in served else "the store lacks it")
            for row in self.weighted.get(model, [])
            if not _is_served(served, row.version, row.sha256)
        ]


def whole(served: Mapping[str, Release], weights: Mapping[tuple[str, str], float]) -> list[Part]:
    """Return the parts of those (version, sha256) that are served, so that they add up to 100, in their order."""
    usable = {version: weight for (version, sha256), weight in weights.items() if _is_served(served, version, sha256)}
    total = sum(usable.values())
    return [Part(served[version], usable[version] * 100.0 / total) for version in sorted(usable, key=int)]


def choose(model: str, version: str | None = None, key: str = "") -> Release:
    """Return the release that answers a request: its pinned version, else the one that `key` falls to.

    The same key (an ordering key, or a job's id) falls to the same version as long as the weights are the same, and a
    change of weights moves no more keys than it must (rendezvous hashing, weighted: Schindelhauer and Schomaker 2005).
    Without a key it is the version with the largest part. Raises UnknownModel, also for a retired version.
    """
    table = current()
    if version is not None:
        if (model, version) in table.retired:
            raise UnknownModel(f"version {version!r} of model {model!r} is retired")
        return model_store().get(model, version)
    parts = table.split(model)
    if not parts:
        reasons = "; ".join(table.problems(model))
        raise UnknownModel(f"no model {model!r} is served here" + (f": {reasons}" if reasons else ""))
    if len(parts) == 1:
        return parts[0].release
    if not key:
        return max(parts, key=lambda part: (part.weight, int(part.version))).release
    return max(parts, key=lambda part: part.weight / -math.log(_uniform(f"{model}:{part.version}:{key}"))).release


def refuse_retired(model: str, version: str | None) -> None:
    """Raise Invalid for a version that somebody names for a job and that is retired."""
    if version is not None and (model, version) in current().retired:
        raise Invalid(Fault("/version", f"version {version!r} is retired, name another one"))


def current() -> Table:
    """Return the rows, at most KEPT_SECONDS old. While one thread reads them again the others go on with the old ones.

    None waits for it: they may hold the database connections that it needs.
    """
    global _kept
    kept = _kept
    if kept is None:
        _kept = kept = (time.monotonic(), read())
    elif time.monotonic() - kept[0] > KEPT_SECONDS and _reading.acquire(blocking=False):
        try:
            _kept = kept = (time.monotonic(), read())
        finally:
            _reading.release()
    return kept[1]


def read() -> Table:
    """Return the rows as they are."""
    return Table(Traffic.objects.all())


def forget() -> None:
    """Read the rows again before the next request of this process."""
    global _kept
    _kept = None


_kept: tuple[float, Table] | None = None
_reading = threading.Lock()


def _is_served(served: Mapping[str, Release], version: str, sha256: str) -> bool:
    return version in served and served[version].manifest.sha256 == sha256


def _uniform(text: str) -> float:
    """Return a number between 0 and 1, both excluded, that depends on the text alone."""
    bits = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> (64 - _BITS)
    return (bits + 0.5) / float(2**_BITS)
