"""Brings back what was lost, and ends what came too late, with the database alone. Safe to run twice at once."""

import logging
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from inference_portal.jobs import relay
from inference_portal.jobs.models import Job, Worker
from inference_portal.jobs.record import conclude, record_lost, sent_lease
from inference_portal.jobs.services import NOT_SENT
from inference_portal.jobs.states import IN_FLIGHT, Event, State, sources, target
from workers.contract import ErrorCode, Failure
from workers.failpoints import failpoint

logger = logging.getLogger(__name__)

STEP = 500


def sweep(*, everything: bool = False) -> int:
    """Deal with leases that are over: each job is sent again, or given up after its last attempt. Returns their number.

    A claim that was never confirmed costs no attempt, and neither does waiting in a queue that no worker reads, which
    goes on until the job's time to live is over: then `expire` takes it. A relay ends: it isn't sent again.
    `everything` also takes leases that are not over: for a start at which no other process can be at work. Only what
    was seen running then costs an attempt.
    """
    now = timezone.now()
    over = Job.objects.filter(lease_until__isnull=False, state__in=IN_FLIGHT).order_by("lease_until")
    if not everything:
        over = over.filter(lease_until__lt=now)
    served = {lane for lanes in Worker.objects.alive().values_list("pools", flat=True) for lane in lanes}
    back = 0
    lost: list[tuple[UUID, int]] = []
    step = None if everything else STEP
    with transaction.atomic():
        for job in over.not_locked().only("id", "attempt", "pool", "isolated", "state", "sent_at", "expires_at")[:step]:
            if job.is_relay:
                back += relay.lost(job)
            elif job.sent_at is None or (everything and job.state == State.QUEUED):
                back += _still(job).update(**NOT_SENT)
            elif everything or job.lane in served:
                lost.append((job.id, job.attempt))
            elif job.state == State.RUNNING or job.expires_at is None or job.expires_at > now:
                _still(job).update(lease_until=now + sent_lease(job.pool, job.isolated))
        back += record_lost(lost, _failure(everything))
        failpoint("sweep.before_commit")
    if back:
        logger.warning("%d jobs had not come back in time and go on", back)
    return back


def expire() -> int:
    """End the jobs that no worker has started within their time to live. Returns their number.

    A worker that has a job looks at the time itself. What is under way may have run in time, and its result be on the
    way to a recorder that is behind: so long as its lease lasts.
    """
    now = timezone.now()
    not_under_way = Q(lease_until=None) | Q(lease_until__lte=now)
    late = Job.objects.filter(not_under_way, expires_at__lte=now, finished_at=None, state__in=sources(Event.EXPIRE))
    with transaction.atomic():
        ids: list[UUID] = list(late.order_by("expires_at").not_locked().values_list("id", flat=True)[:STEP])
        if ids:
            Job.objects.filter(id__in=ids, state__in=sources(Event.EXPIRE)).update(
                state=target(Event.EXPIRE),
                finished_at=now,
                lease_until=None,
                error_code=ErrorCode.EXPIRED,
                error_message="no worker could start it within its time to live",
            )
            conclude([], ids, started=now, finished=now)
    return len(ids)


def _still(job: Job) -> QuerySet[Job]:
    """Guard an update by what was read."""
    return Job.objects.filter(id=job.id, attempt=job.attempt, state__in=IN_FLIGHT)


def _failure(restarted: bool) -> Failure:
    text = (
        "the system was restarted meanwhile"
        if restarted
        else "no result came in time: the worker or its message was lost"
    )
    return Failure(ErrorCode.LEASE_EXPIRED, text)
