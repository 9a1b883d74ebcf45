"""From an instant to its batch: once, whoever else is at it.

For transactions that hold the schedule's row locked.
"""

from datetime import datetime

from django.db import IntegrityError
from django.utils import timezone

from inference_portal.batches import services
from inference_portal.batches.carried import carried_from
from inference_portal.batches.ending import tell
from inference_portal.batches.models import Batch
from inference_portal.batches.models import Kind as EventKind
from inference_portal.batches.schedules import request, stale
from inference_portal.batches.schedules.models import Kind, Outcome, Schedule, ScheduleRun
from inference_portal.batches.services import Due
from inference_portal.batches.states import State

# Runs with a batch that is no rehearsal.
_REAL = {"outcome": Outcome.MADE, "kind__in": (Kind.PLANNED, Kind.MANUAL)}


def is_running(schedule: Schedule) -> bool:
    """Tell whether a run of it is under way. Rehearsals don't count: they are in nobody's way."""
    return Batch.objects.open().filter(schedule_id=schedule.id).exists()


def is_busy(schedule: Schedule) -> bool:
    """Tell whether a run of it is under way, or waits."""
    return is_running(schedule) or schedule.runs.filter(outcome=Outcome.WAITING).exists()


def make(schedule: Schedule, run: ScheduleRun) -> Batch:
    """Make the run's batch and store both. Raises Invalid, UnknownModel, Full."""
    since_last = _due_before(schedule, run.due_at)
    wanted = request.of_run(
        schedule.batch, due=run.due_at, since_last=since_last or schedule.created_at, zone=schedule.zone
    )
    previous = _last_batch(schedule)
    carried = None if previous is None else carried_from(previous)
    batch = services.batch_new(caller=schedule.caller, due=Due(schedule.id, run.due_at, carried), **wanted)
    try:
        services.batch_accept(batch=batch)
    except IntegrityError:
        # Somebody was first, in a way that the lock doesn't see: theirs is the run.
        batch = Batch.objects.get(schedule_id=schedule.id, due_at=run.due_at)
    if carried is not None:
        run.why = _also(run.why, f"carries {carried['rows']:,} rows that failed in batch {carried['from']}")
    _rehearsed(schedule, run, batch)
    _made(run, batch)
    schedule.last_due_at = max(run.due_at, schedule.last_due_at or run.due_at)
    return batch


def rehearse(schedule: Schedule, run: ScheduleRun, rows: int) -> Batch:
    """Make the batch of a rehearsal and store both. Raises Invalid, UnknownModel, Full.

    The data of the coming run may not be there yet, so it reads that of the run before; the first one has none before.
    """
    last = _due_before(schedule, run.due_at)
    due = run.due_at if last is None else last
    since_last = _due_before(schedule, due) or schedule.created_at
    wanted = request.of_run(schedule.batch, due=due, since_last=since_last, zone=schedule.zone)
    batch = services.batch_new(caller=schedule.caller, **request.of_rehearsal(wanted, rows))
    batch.sample_rows = rows
    services.batch_accept(batch=batch)
    run.warnings = stale.warnings(wanted.get("version"), batch, _last_batch(schedule))
    text = f"A rehearsal of the run of '{schedule.name}' that is due at {run.due_at:%Y-%m-%d %H:%M} UTC."
    tell(batch, EventKind.REHEARSAL, text)
    for warning in run.warnings:
        tell(batch, EventKind.WARNING, warning)
    _made(run, batch)
    return batch


def _rehearsed(schedule: Schedule, run: ScheduleRun, batch: Batch) -> None:
    """Say at the run itself that its rehearsal went wrong."""
    rehearsals = schedule.runs.filter(due_at=run.due_at, kind=Kind.REHEARSAL, outcome=Outcome.MADE)
    found = Batch.objects.filter(id__in=rehearsals.values("batch_id"), state=State.FAILED).first()
    if found is not None:
        text = f"Its rehearsal, batch {found.id}, failed: {found.error_message}"
        tell(batch, EventKind.WARNING, text)


def _due_before(schedule: Schedule, moment: datetime) -> datetime | None:
    """Return when the last run before the moment was due that was made."""
    runs = schedule.runs.filter(due_at__lt=moment, **_REAL).order_by("-due_at")
    return runs.values_list("due_at", flat=True).first()


def _last_batch(schedule: Schedule) -> Batch | None:
    """Return the batch that was made last; None if there is none, or it is long gone."""
    last = schedule.runs.filter(**_REAL).order_by("-made_at", "-id")
    return Batch.objects.filter(id__in=last.values("batch_id")[:1]).first()


def _made(run: ScheduleRun, batch: Batch) -> None:
    run.outcome, run.batch_id, run.made_at = Outcome.MADE, batch.id, timezone.now()
    run.save()


def _also(first: str, second: str) -> str:
    return f"{first}; {second}" if first else second
