"""Brings back what was lost on the way, with the database alone. Safe to run twice at once."""

import logging
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from inference_portal.jobs.models import Job, Worker
from inference_portal.jobs.record import record_failure, sent_lease
from inference_portal.jobs.states import IN_FLIGHT, State
from workers.contract import ErrorCode, Failure

logger = logging.getLogger(__name__)

STEP = 500


def sweep(*, everything: bool = False) -> int:
    """Deal with leases that are over: each job is sent again, or given up after its last attempt. Returns their number.

    A claim that was never confirmed costs no attempt, and neither does waiting in a queue that no worker reads.
    `everything` also takes leases that are not over: for a start at which no other process can be at work. Only what
    was seen running then costs an attempt.
    """
    now = timezone.now()
    over = Job.objects.filter(lease_until__isnull=False, state__in=IN_FLIGHT).order_by("lease_until")
    if not everything:
        over = over.filter(lease_until__lt=now)
    served = {pool for pools in Worker.objects.alive().values_list("pools", flat=True) for pool in pools}
    back = 0
    step = None if everything else STEP
    with transaction.atomic():
        for job in over.not_locked().values("id", "attempt", "pool", "state", "sent_at")[:step]:
            if job["sent_at"] is None or (everything and job["state"] == State.QUEUED):
                back += _unclaim(job["id"], job["attempt"])
            elif job["pool"] in served or everything:
                back += record_failure(job["id"], job["attempt"], _failure(everything), run=None)
            else:
                until = now + sent_lease(job["pool"])
                Job.objects.filter(id=job["id"], attempt=job["attempt"], state__in=IN_FLIGHT).update(lease_until=until)
    if back:
        logger.warning("%d jobs had not come back in time and go on", back)
    return back


def _unclaim(job_id: UUID, attempt: int) -> int:
    return Job.objects.filter(id=job_id, attempt=attempt, state__in=IN_FLIGHT).update(
        lease_until=None, bundle=None, sent_at=None
    )


def _failure(restarted: bool) -> Failure:
    text = (
        "the system was restarted meanwhile"
        if restarted
        else "no result came in time: the worker or its message was lost"
    )
    return Failure(ErrorCode.LEASE_EXPIRED, text)
