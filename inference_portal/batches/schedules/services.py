"""Make, change and remove schedules, and run one by hand: besides the tick the only writers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from inference_portal.accounts.callers import Caller
from inference_portal.batches.schedules import asked, making
from inference_portal.batches.schedules.due import upcoming
from inference_portal.batches.schedules.models import Kind, Outcome, Schedule, ScheduleRun
from inference_portal.batches.schedules.policy import Overlap
from workers.formats import Fault, Invalid

# What decides when it is due.
_TIMING = ("cron", "every_seconds", "at", "timezone", "enabled")


class UnknownSchedule(LookupError):
    """There is none of this id, or it is another team's."""


class Busy(ValueError):
    """A run of the schedule is under way, and its runs may not overlap."""


def schedule_new(*, data: Mapping[str, Any], caller: Caller) -> Schedule:
    """Store a schedule; the first instant after now is its first. Raises Invalid, which names each wrong field."""
    now = timezone.now()
    schedule = Schedule(team_id=caller.team_id, submitted_by=caller.name, created_at=now)
    schedule.counts_from = schedule.handled_until = now
    # As its runs are submitted: by the team alone, whatever an operator may read.
    _set(schedule, asked.read(data, schedule.caller))
    plan_next(schedule)
    with _name_is_free():
        schedule.save(force_insert=True)
    return schedule


def schedule_change(*, schedule_id: UUID, data: Mapping[str, Any], caller: Caller, replaces: bool = False) -> Schedule:
    """Change the fields that `data` names; with `replaces` all. Raises UnknownSchedule, Invalid.

    A new time counts from now on: what the old one or the new one had before now isn't caught up on, nor what was due
    while the schedule was turned off. Runs that wait when it is turned off are skipped.
    """
    with _name_is_free():
        schedule = _locked(schedule_id, caller)
        before = {name: getattr(schedule, name) for name in asked.FIELDS}
        # Who may write for which team is the schedule's affair, not that of an operator who changes it.
        _set(schedule, asked.read(data, schedule.caller, None if replaces else before))
        if any(before[name] != getattr(schedule, name) for name in _TIMING):
            schedule.counts_from = schedule.handled_until = timezone.now()
        plan_next(schedule)
        schedule.save(force_update=True)
        if not schedule.enabled:
            waiting = schedule.runs.filter(outcome=Outcome.WAITING)
            waiting.update(outcome=Outcome.SKIPPED, why="the schedule was turned off while it waited")
    return schedule


def schedule_delete(*, schedule_id: UUID, caller: Caller) -> None:
    """Remove a schedule and its list of runs; its batches stay and run on. Raises UnknownSchedule."""
    with transaction.atomic():
        _locked(schedule_id, caller).delete()


def schedule_run_now(*, schedule_id: UUID, caller: Caller) -> ScheduleRun:
    """Make a run at once, or where its runs queue after the one under way. Its time is now, in its templates, too.

    Raises UnknownSchedule, Busy, Invalid for a batch that can't be made, UnknownModel, Full.
    """
    with transaction.atomic():
        schedule = _locked(schedule_id, caller)
        busy = making.is_busy(schedule)
        if busy and schedule.overlap == Overlap.SKIP:
            raise Busy("A run of this schedule is under way, and overlap is 'skip'; wait for its end or cancel it.")
        run = ScheduleRun.objects.create(
            schedule=schedule,
            due_at=timezone.now(),
            kind=Kind.MANUAL,
            outcome=Outcome.WAITING,
            why=f"for {caller.name}",
        )
        if not busy:
            making.make(schedule, run)
            schedule.save(update_fields=["last_due_at"])
    return run


def plan_next(schedule: Schedule) -> None:
    """Note when it is due next, and its rehearsal; nothing is saved."""
    after: datetime = schedule.handled_until
    coming = upcoming(schedule.rule, after, 1) if schedule.enabled else []
    schedule.next_due_at = coming[0] if coming else None
    schedule.next_rehearsal_at = None
    if schedule.rehearsal and schedule.next_due_at is not None:
        rehearsed = schedule.runs.filter(due_at=schedule.next_due_at, kind=Kind.REHEARSAL)
        if schedule._state.adding or not rehearsed.exists():
            before = timedelta(seconds=schedule.rehearsal["before_seconds"])
            schedule.next_rehearsal_at = schedule.next_due_at - before


def _set(schedule: Schedule, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        setattr(schedule, name, value)


def _locked(schedule_id: UUID, caller: Caller) -> Schedule:
    schedule = Schedule.objects.visible_to(caller).locked().filter(id=schedule_id).first()
    if schedule is None:
        raise UnknownSchedule(f"There is no schedule '{schedule_id}'.")
    return schedule


@contextmanager
def _name_is_free() -> Iterator[None]:
    """Be one transaction. Raises Invalid where another schedule of the team has the name."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        raise Invalid(Fault("/name", "another schedule of the team has this name")) from error
