"""What has changed since a schedule's last run: told by its rehearsal, while there is time to do something."""

from collections.abc import Iterable

from inference_portal.batches.models import Batch
from inference_portal.catalog import traffic
from inference_portal.store import model_store
from workers.template.columns import Column


def warnings(pinned: str | None, now: Batch, previous: Batch | None) -> list[str]:
    """Return in plain words what is stale or has changed: the release, its model file, its columns.

    `pinned` is the version that the schedule names, if any; `now` is the batch of the rehearsal, whose release is the
    one that the coming run would have; `previous` the last run's batch.
    """
    return [*_since(previous, now), *_out_of_date(pinned, now)]


def _since(previous: Batch | None, now: Batch) -> Iterable[str]:
    if previous is None or previous.model != now.model:
        return
    if previous.version != now.version:
        yield f"The release has changed since the last run: it was version {previous.version}, now it is {now.version}."
        yield from _columns(now.model, previous.version, now.version)
    elif previous.sha256 != now.sha256:
        yield f"The model file of version {now.version} has been replaced since the last run."


def _columns(model: str, old: str, new: str) -> Iterable[str]:
    """Yield how the columns of two versions differ."""
    served = model_store().snapshot().releases.get(model, {})
    if old not in served or new not in served:
        return
    before, after = ({column.name: column for column in served[version].manifest.columns} for version in (old, new))
    if added := [name for name in after if name not in before]:
        yield f"The schema has changed: version {new} also reads {_some(added)}."
    if gone := [name for name in before if name not in after]:
        yield f"The schema has changed: version {new} no longer reads {_some(gone)}."
    if other := [name for name in after if name in before and _kind(after[name]) != _kind(before[name])]:
        yield f"The schema has changed: version {new} reads {_some(other)} in another way."


def _out_of_date(pinned: str | None, now: Batch) -> Iterable[str]:
    """Yield in which way the release isn't the one that others get, or not the newest."""
    parts = traffic.current().split(now.model)
    served = model_store().snapshot().releases.get(now.model, {})
    if pinned is not None and parts and now.version not in [part.version for part in parts]:
        taking = ", ".join(part.version for part in parts)
        yield f"The release is stale: the schedule names version {now.version}, the traffic goes to {taking}."
    newest = max(served, key=int, default=now.version)
    if int(newest) > int(now.version):
        yield f"The model is stale: version {newest} is in the store, the run would take {now.version}."


def _kind(column: Column) -> object:
    return column.model_dump()


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
