"""What every tick of beat leads to: for each schedule that has something to do, its runs are made.

A tick says nothing but "look": what is due is in the rows. Two ticks at once, ten after a pause, one that is lost or
dies half-way: each schedule's turn is one transaction with its row locked, and the constraints of `ScheduleRun` and
`Batch` let each instant in once.
"""

import logging
from datetime import datetime, timedelta
from uuid import UUID

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from inference_portal.batches.schedules import making
from inference_portal.batches.schedules.due import due_between
from inference_portal.batches.schedules.models import Kind, Outcome, Schedule, ScheduleRun
from inference_portal.batches.schedules.policy import MAX_MISSED, CatchUp, Overlap, Situation, decide
from inference_portal.batches.schedules.services import plan_next
from inference_portal.jobs.quota import Full
from workers.formats import Invalid
from workers.model_store import UnknownModel

logger = logging.getLogger(__name__)

# What somebody has to change before the run can be made; and what passes.
_REFUSALS = (Invalid, UnknownModel)
_PASSING = (Full,)
# A clock that was ahead and was put right: what it had seen as past comes again, and each instant runs once all the
# same. Less is the difference of two machines' clocks.
LARGEST_SKEW = timedelta(minutes=10)


def tick(now: datetime | None = None) -> int:
    """Make every run that is due and may begin; return how many batches that were."""
    now = now or timezone.now()
    made = 0
    for schedule_id in _with_something_to_do(now):
        try:
            made += _turn(schedule_id, now)
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            # The others are not to wait for somebody to mend this one; it is tried again with the next tick.
            logger.exception("schedule %s", schedule_id)
    return made


def _with_something_to_do(now: datetime) -> list[UUID]:
    waiting = ScheduleRun.objects.filter(schedule=OuterRef("id"), outcome=Outcome.WAITING)
    comes = Q(next_due_at__lte=now) | Q(next_rehearsal_at__lte=now) | Q(handled_until__gt=now + LARGEST_SKEW)
    found = Schedule.objects.filter(comes | Exists(waiting), enabled=True)
    return list(found.order_by("next_due_at", "id").values_list("id", flat=True))


@transaction.atomic
def _turn(schedule_id: UUID, now: datetime) -> int:
    schedule = Schedule.objects.not_locked().filter(id=schedule_id, enabled=True).first()
    if schedule is None:
        return 0
    if schedule.handled_until > now + LARGEST_SKEW:
        # What has just been due, too; the ones before were seen while the clock was still right.
        schedule.handled_until = max(now - LARGEST_SKEW, schedule.counts_from)
    _decide(schedule, now)
    plan_next(schedule)
    made = _rehearse(schedule, now)
    made += _start(schedule)
    schedule.save()
    return made


def _decide(schedule: Schedule, now: datetime) -> None:
    """Store what becomes of the instants since the last look. What is stored already has been decided."""
    due, are_more = due_between(schedule.rule, schedule.handled_until, now, MAX_MISSED)
    if not due:
        return
    waiting = schedule.runs.filter(outcome=Outcome.WAITING).count()
    situation = Situation(
        now=now,
        catch_up=CatchUp(schedule.catch_up),
        overlap=Overlap(schedule.overlap),
        busy=waiting > 0 or making.is_running(schedule),
        waiting=waiting,
    )
    runs = [
        ScheduleRun(
            schedule=schedule,
            due_at=decision.due_at,
            outcome=Outcome.WAITING if decision.runs else Outcome.SKIPPED,
            why=decision.why,
            decided_at=now,
        )
        for decision in decide(due, are_more, situation)
    ]
    ScheduleRun.objects.bulk_create(runs, ignore_conflicts=True)
    schedule.handled_until = due[-1]


def _start(schedule: Schedule) -> int:
    """Make the oldest run that waits, once nothing of the schedule is under way."""
    if making.is_running(schedule):
        return 0
    for run in schedule.runs.filter(outcome=Outcome.WAITING).order_by("due_at", "id"):
        try:
            with transaction.atomic():
                making.make(schedule, run)
        except _PASSING as error:
            # It waits; the next tick tries again.
            ScheduleRun.objects.filter(id=run.id).update(why=f"waits: {error}")
            return 0
        except _REFUSALS as error:
            ScheduleRun.objects.filter(id=run.id).update(outcome=Outcome.REFUSED, why=str(error))
            logger.warning("schedule %s: the run due at %s can't be made: %s", schedule.name, run.due_at, error)
        else:
            return 1
    return 0


def _rehearse(schedule: Schedule, now: datetime) -> int:
    """Make the rehearsal of the coming run, if it is time."""
    at, due = schedule.next_rehearsal_at, schedule.next_due_at
    if at is None or due is None or at > now or schedule.rehearsal is None:
        return 0
    run = ScheduleRun(schedule=schedule, due_at=due, kind=Kind.REHEARSAL, outcome=Outcome.REFUSED, decided_at=now)
    # Who comes second finds it; the lock says that there is no second one now.
    if not ScheduleRun.objects.filter(schedule=schedule, due_at=due, kind=Kind.REHEARSAL).exists():
        try:
            with transaction.atomic():
                run.save(force_insert=True)
                making.rehearse(schedule, run, schedule.rehearsal["rows"])
        except _PASSING as error:
            logger.warning("schedule %s: the rehearsal waits: %s", schedule.name, error)
            return 0
        except _REFUSALS as error:
            run.pk, run.why = None, f"the run can't be made as things are: {error}"
            run.outcome, run.warnings, run.batch_id, run.made_at = Outcome.REFUSED, [], None, None
            run.save(force_insert=True)
    schedule.next_rehearsal_at = None
    return int(run.outcome == Outcome.MADE)
