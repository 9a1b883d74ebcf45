"""Says early whether a run will be late, and what it waits for."""

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from inference_portal.batches.ending import tell
from inference_portal.batches.estimate import Progress, estimate, is_at_risk, rows_per_second
from inference_portal.batches.models import Batch, Kind
from inference_portal.batches.states import State
from inference_portal.jobs.models import Worker
from workers.manifest import BATCH

WAITS_FOR_WORKERS = "waits for batch workers"
# An estimate that differs by less is not written.
PRECISION = timedelta(seconds=1)
_FIELDS = ("team", "model", "version", "attempt", "rows_total", "rows_done", "deadline", "at_risk", "eta", "note")


def watch() -> int:
    """Estimate all open batches again. Returns how many it changed. Safe to run twice at once."""
    now = timezone.now()
    has_workers = Worker.objects.processes()[BATCH] > 0
    # The plan holds the input's files, too, which may be many.
    found = Batch.objects.open().only("id", *_FIELDS).annotate_beginning()
    return sum(_changed(batch, now, has_workers) for batch in found)


def _changed(batch: Batch, now: datetime, has_workers: bool) -> bool:
    progress = progress_of(batch)
    pace = rows_per_second(progress, now)
    # Only a deadline needs an estimate so early.
    early = pace is None and has_workers and batch.deadline is not None
    eta = estimate(progress, now, _last_pace(batch) if early else None)
    at_risk = is_at_risk(deadline=batch.deadline, eta=eta, has_workers=has_workers)
    note = "" if has_workers else WAITS_FOR_WORKERS
    if at_risk == batch.at_risk and note == batch.note and _is_about(eta, batch.eta):
        return False
    # Guarded by what was read: another dispatcher tells the same, and a run may have moved on.
    same = Batch.objects.open().filter(id=batch.id, attempt=batch.attempt, at_risk=batch.at_risk, note=batch.note)
    with transaction.atomic():
        if not same.update(at_risk=at_risk, note=note, eta=eta, pace=pace):
            return False
        if note and note != batch.note:
            tell(batch, Kind.WAITS_FOR_WORKERS, "No worker of the batch pool was heard lately.")
        if at_risk != batch.at_risk:
            tell(batch, *_of_risk(batch, at_risk, eta, by="the last run's" if early else "its"))
    return True


def progress_of(batch: Any) -> Progress:
    """Return how far a batch is that was read with `annotate_beginning`."""
    begun = None if batch.begun is None else datetime.fromisoformat(batch.begun)
    return Progress(batch.rows_total or 0, batch.rows_done, batch.before or 0, begun)


def _last_pace(batch: Batch) -> float | None:
    """Return the rows a second, merge included, of the team's last run of the version that went through at once."""
    done = Batch.objects.filter(
        team_id=batch.team_id, model=batch.model, version=batch.version, state__in=[State.SUCCEEDED, State.PARTIAL]
    )
    last = done.filter(attempt=1).order_by("-created_at").only("rows_total", "started_at", "finished_at").first()
    if last is None or not last.rows_total or last.started_at is None or last.finished_at is None:
        return None
    return last.rows_total / max((last.finished_at - last.started_at).total_seconds(), 1e-3)


def _is_about(new: datetime | None, old: datetime | None) -> bool:
    if new is None or old is None:
        return new is old
    return abs(new - old) < PRECISION


def _of_risk(batch: Batch, at_risk: bool, eta: datetime | None, *, by: str) -> tuple[Kind, str]:
    if not at_risk:
        return Kind.ON_TIME, ""
    if eta is None:
        return Kind.AT_RISK, "No row is done, and no worker of the batch pool was heard lately."
    times = [f"{moment:%Y-%m-%d %H:%M:%S} UTC" for moment in (eta, batch.deadline) if moment is not None]
    return Kind.AT_RISK, f"By {by} pace its rows are done at {times[0]}, its deadline is {times[1]}."
