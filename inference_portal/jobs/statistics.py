"""Counting the jobs that have ended, but for cancelled ones."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db.models import F

from inference_portal.jobs.models import ModelStatistics

_MICROSECOND = timedelta(microseconds=1)


class Ended(NamedTuple):
    """A job that has just ended, with what is counted of it."""

    id: UUID
    model: str
    version: str
    rows: int
    queued_at: datetime


def count(succeeded: Sequence[Ended], failed: Sequence[Ended], started: datetime, finished: datetime) -> None:
    """Add the jobs of one run to their versions' sums.

    The last thing in a transaction: recorders wait for one another from here to its end, and in one order.
    """
    by_version: dict[tuple[str, str], tuple[list[Ended], list[Ended]]] = defaultdict(lambda: ([], []))
    for job in succeeded:
        by_version[job.model, job.version][0].append(job)
    for job in failed:
        by_version[job.model, job.version][1].append(job)
    for (model, version), (good, bad) in sorted(by_version.items()):
        sums = {
            "succeeded": len(good),
            "failed": len(bad),
            "rows": sum(job.rows for job in good),
            "executions": 1 if good else 0,
            "queue_us": sum(_us(job.queued_at, started) for job in good),
            "run_us": len(good) * _us(started, finished),
            "total_us": sum(_us(job.queued_at, finished) for job in good),
            "failed_us": sum(_us(job.queued_at, finished) for job in bad),
        }
        more = {name: F(name) + value for name, value in sums.items() if value}
        named = ModelStatistics.objects.filter(model=model, version=version)
        if not named.update(**more, last_at=finished):
            ModelStatistics.objects.get_or_create(model=model, version=version)
            named.update(**more, last_at=finished)


def _us(start: datetime, end: datetime) -> int:
    """Return the time between two clocks, which may differ a little: never negative."""
    return max(0, (end - start) // _MICROSECOND)
