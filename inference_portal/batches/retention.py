"""Batches that ended long ago are forgotten as jobs are: first what they hold, later that there was one.

What lies in a place of its own, that somebody named, is theirs and stays.
"""

from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from inference_portal.batches import step_jobs
from inference_portal.batches.ending import tell
from inference_portal.batches.models import Batch, Chunk, Kind
from inference_portal.batches.policies import RetryPolicy
from inference_portal.batches.schedules.models import Schedule
from inference_portal.batches.states import State
from inference_portal.jobs.models import Job
from inference_portal.jobs.retention import record_limit, result_limit
from inference_portal.jobs.states import State as JobState

# What the next run of its schedule will take over: it must still be there then, however rare the runs are.
_HANDS_ON = Q(retry_policy=RetryPolicy.NONE.value, state__in=[State.PARTIAL.value, State.FAILED.value]) & (
    Exists(Schedule.objects.filter(id=OuterRef("schedule_id"), enabled=True))
    & ~Exists(Batch.objects.filter(schedule_id=OuterRef("schedule_id"), due_at__gt=OuterRef("due_at")))
)
# In one call: batches whose output goes, and rows that go with their batch.
BATCHES, ROWS = 50, 2_000


def forget() -> int:
    """Forget what is old enough, a little of it. Returns how many rows it changed. Safe to run twice at once."""
    now = timezone.now()
    return _remove_outputs(now) + _delete_records(now)


def _remove_outputs(now: datetime) -> int:
    """Have a step remove the batch's whole folder."""
    limits = [limit for limit in (result_limit(now), record_limit(now)) if limit is not None]
    if not limits:
        return 0
    old = Batch.objects.filter(finished_at__isnull=False, purged_at=None, finished_at__lt=max(limits)).exclude(
        _HANDS_ON
    )
    done = 0
    for batch_id in list(old.order_by("finished_at").values_list("id", flat=True)[:BATCHES]):
        with transaction.atomic():
            batch = old.locked(batch_id, waits=False)
            if batch is not None:
                step_jobs.store([step_jobs.clean_job(batch, everything=True)])
                Batch.objects.filter(id=batch.id).update(purged_at=now, cleaned_at=batch.cleaned_at or now)
                tell(batch, Kind.PURGED)
                done += 1
    return done


def _delete_records(now: datetime) -> int:
    """Delete one batch that is old enough and whose folder is gone, with all that belongs to it, in several calls."""
    before = record_limit(now)
    if before is None:
        return 0
    old = Batch.objects.filter(purged_at__isnull=False, finished_at__lt=before)
    for batch_id in list(old.order_by("purged_at").values_list("id", flat=True)[:BATCHES]):
        with transaction.atomic():
            batch = old.locked(batch_id, waits=False)
            if batch is not None and _is_removed(batch, now):
                return _delete(batch)
    return 0


def _is_removed(batch: Batch, now: datetime) -> bool:
    """Tell whether the batch's folder is gone; if nobody could remove it, have it tried again once a day."""
    steps = Job.objects.filter(batch_id=batch.id, step=step_jobs.CLEAN)
    if steps.filter(finished_at=None).exists():
        return False
    last = steps.order_by("-finished_at").values_list("state", flat=True).first()
    if last in (None, JobState.SUCCEEDED):
        return True
    step_jobs.store([step_jobs.clean_job(batch, everything=True, name=f".{now:%Y-%m-%d}")])
    return False


def _delete(batch: Batch) -> int:
    chunks = list(batch.chunks.values_list("id", flat=True)[:ROWS])
    if chunks:
        return Chunk.objects.filter(id__in=chunks).delete()[0]
    jobs = list(Job.objects.filter(batch_id=batch.id).values_list("id", flat=True)[:ROWS])
    if jobs:
        # Dead letters among them, too: there is no batch any more that could be run again.
        return Job.objects.filter(id__in=jobs).only("id").delete()[0]
    return batch.delete()[0]
