"""Schedules as tests need them, and the ends of their runs."""

from datetime import UTC, datetime, timedelta
from typing import Any

from inference_portal.accounts.models import Team
from inference_portal.batches.models import Batch
from inference_portal.batches.schedules.models import Schedule, ScheduleRun
from inference_portal.batches.schedules.services import plan_next
from inference_portal.batches.states import State

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# The night in which Berlin's clock is put back, and every schedule of these tests has a run at half past two.
START = datetime(2030, 10, 20, 12, tzinfo=UTC)


def folder(team: Team) -> str:
    return f"store://uploads/{team.id}/5b1f6c9e-4a39-4a57-9f0c-0d9be7d3c0a4"


def batch(team: Team, **fields: Any) -> dict[str, Any]:
    return {"model": "wine", "input": {"uri": f"{folder(team)}/{{{{ day }}}}.parquet"}, **fields}


def make_schedule(team: Team, *, start: datetime = START, **fields: Any) -> Schedule:
    """Store one that was made at the start; half past two in Berlin unless told."""
    usual: dict[str, Any] = {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "batch": batch(team)}
    if "every_seconds" in fields or "at" in fields:
        del usual["cron"]
    schedule = Schedule(
        **{
            "team": team,
            "submitted_by": "test",
            "name": "nightly",
            "created_at": start,
            "counts_from": start,
            "handled_until": start,
        }
        | usual
        | fields
    )
    plan_next(schedule)
    schedule.save(force_insert=True)
    return schedule


def finish(run: ScheduleRun | None = None, state: State = State.SUCCEEDED, **fields: Any) -> None:
    """End the run's batch, or every open one."""
    batches = Batch.objects.open() if run is None else Batch.objects.filter(id=run.batch_id)
    batches.update(state=state, finished_at=START, **fields)


def told(schedule: Schedule) -> list[tuple[str, str]]:
    """Return what became of the schedule's runs, in the order in which they are due."""
    runs = schedule.runs.order_by("due_at", "id")
    return [(f"{run.due_at:%d %H:%M}", run.outcome) for run in runs]
