"""What ended long ago is forgotten in two steps: first what the job held, later that there was a job.

Dead letters wait for a person however long that takes, and so do parked messages. The audit log stays.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from inference_portal.jobs.endings import STILL_NEEDED
from inference_portal.jobs.models import Attempt, Job, JobQuerySet, ParkedMessage
from inference_portal.jobs.states import State

# Of all kinds together, in one call.
STEP = 500
_WAITS_FOR_A_PERSON = Q(state=State.DEAD_LETTERED, discarded_at=None)


def purge() -> int:
    """Forget what is old enough, a little of it. Returns how many rows it changed. Safe to run twice at once.

    Each kind is looked for without a lock, and only what was found is changed, in one short transaction.
    """
    now = timezone.now()
    done = 0
    steps: list[Callable[[datetime, int], int]] = [_delete_records, _remove_payloads, _delete_parked]
    for step in steps:
        if done < STEP:
            done += step(now, STEP - done)
    return done


def _delete_records(now: datetime, most: int) -> int:
    """Delete jobs and their attempts, of those whose payload is gone, in the order in which it went.

    What was purged first has ended first, but for discarded dead letters: those are deleted when it's their turn.
    """
    before = record_limit(now)
    over = _not_needed(Job.objects.filter(purged_at__isnull=False))
    purged = over.order_by("purged_at").values_list("id", "finished_at")
    if before is None or not _ended_before(purged[:1], before):
        return 0
    with transaction.atomic():
        ids = _locked(over, _ended_before(purged[:most], before))
        Job.objects.filter(id__in=ids).only("id").delete()
    return len(ids)


def _remove_payloads(now: datetime, most: int) -> int:
    """Remove the inputs, the results, and the texts of the failed attempts."""
    limits = [limit for limit in (result_limit(now), record_limit(now)) if limit is not None]
    if not limits:
        return 0
    old = Job.objects.filter(finished_at__isnull=False, purged_at=None, finished_at__lt=max(limits))
    old = _not_needed(old.exclude(_WAITS_FOR_A_PERSON))
    ids: list[UUID] = list(old.order_by("finished_at").values_list("id", flat=True)[:most])
    if not ids:
        return 0
    with transaction.atomic():
        ids = _locked(old, ids)
        Job.objects.filter(id__in=ids).update(input=b"", result=None, purged_at=now)
        Attempt.objects.filter(job_id__in=ids).update(message="", traceback="")
    return len(ids)


def _delete_parked(now: datetime, most: int) -> int:
    """Delete parked messages that somebody has discarded."""
    before = record_limit(now)
    if before is None:
        return 0
    old = ParkedMessage.objects.filter(discarded_at__isnull=False, received_at__lt=before)
    ids = list(old.order_by("received_at").values_list("id", flat=True)[:most])
    return ParkedMessage.objects.filter(id__in=ids).delete()[0] if ids else 0


def _ended_before(jobs: Iterable[tuple[UUID, datetime | None]], limit: datetime) -> list[UUID]:
    return [job_id for job_id, finished_at in jobs if finished_at is not None and finished_at < limit]


def _not_needed(jobs: JobQuerySet) -> JobQuerySet:
    """Leave out those that something is still to be done with, such as telling of their end."""
    for needed in STILL_NEEDED:
        jobs = jobs.exclude(needed)
    return jobs


def _locked(jobs: JobQuerySet, ids: list[UUID]) -> list[UUID]:
    """Lock those of the rows that are still as they were found, and that nobody else changes now."""
    return list(jobs.filter(id__in=ids).not_locked().values_list("id", flat=True))


def result_limit(now: datetime) -> datetime | None:
    """Return the time before which what has ended loses what it holds; None: never."""
    hours = settings.RESULT_RETENTION_HOURS
    return now - timedelta(hours=hours) if hours else None


def record_limit(now: datetime) -> datetime | None:
    """Return the time before which there is no record of what has ended; None: there always is."""
    days = settings.RECORD_RETENTION_DAYS
    return now - timedelta(days=days) if days else None
