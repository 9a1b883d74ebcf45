"""What can be done to a job from outside, and the guarded change of state that all share."""

import hashlib
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from inference_portal.accounts.callers import Caller
from inference_portal.jobs import changes, endings
from inference_portal.jobs.intake import intake
from inference_portal.jobs.models import Job, Priority
from inference_portal.jobs.quota import Full, quota
from inference_portal.jobs.repeats import AlreadyAccepted, Identity, of_key
from inference_portal.jobs.states import FINAL, Event, sources, target
from workers.failpoints import failpoint
from workers.formats import Decoded, TooLarge
from workers.manifest import EXPLAIN
from workers.model_store import Release

# As base64 in a message this stays below the 16 MiB that RabbitMQ 4 takes by default.
MAX_INPUT_BYTES = 8 * 1024 * 1024
# Of a job that waits for its next attempt.
NOT_SENT = {
    "lease_until": None,
    "bundle": None,
    "sent_at": None,
    "started_at": None,
    "worker": "",
    "host": "",
    "device": "",
}
# A notification holds 8,000 bytes; an id is 36 and a comma.
IDS_PER_NOTIFICATION = 200


def job_new(
    *,
    caller: Caller,
    release: Release,
    decoded: Decoded,
    identity: Identity,
    job_id: UUID,
    priority: Priority = Priority.NORMAL,
    ttl: timedelta | None = None,
    ordering_key: str = "",
    labels: tuple[str, ...] = (),
    keeps_result: bool = True,
    webhook: str = "",
    sink: str = "",
    prefer: str = "",
) -> Job:
    """Return a job that isn't stored yet, so that one can begin to wait for its id before it exists.

    The id, the client's own or a new one, comes before everything: by it the release may have been chosen. `prefer` is
    for the container of a model that has one.
    """
    manifest = release.manifest
    if decoded.matrix.nbytes > MAX_INPUT_BYTES:
        most = MAX_INPUT_BYTES // decoded.matrix.itemsize
        raise TooLarge(f"{decoded.matrix.size:,} values; one request may have {most:,} (rows times columns)")
    now = timezone.now()
    data = decoded.matrix.tobytes()
    return Job(
        id=job_id,
        idempotency_key=identity.key,
        fingerprint=identity.fingerprint,
        team_id=caller.team_id,
        submitted_by=caller.name,
        model=manifest.model,
        version=manifest.version,
        sha256=manifest.sha256,
        pool=EXPLAIN if decoded.explain else manifest.pool,
        rows=len(decoded.matrix),
        input=data,
        input_sha256=hashlib.sha256(data).hexdigest(),
        reply=decoded.reply | ({"prefer": prefer} if prefer and manifest.container is not None else {}),
        priority=priority,
        ordering_key=ordering_key,
        labels="".join(["\n", *(f"{label}\n" for label in labels)]) if labels else "",
        keeps_result=keeps_result,
        webhook=webhook,
        sink=sink,
        accepted_at=now,
        expires_at=None if ttl is None else now + ttl,
    )


def job_accept(*, job: Job) -> None:
    """Store the job; once this returns it is accepted and can't be lost.

    Raises Full when too many are open, AlreadyAccepted when its id or key is taken.
    """
    (error,) = jobs_accept(jobs=[job])
    if error is not None:
        raise error


def jobs_accept(*, jobs: list[Job]) -> list[BaseException | None]:
    """Store jobs of one team, each for itself; returns, for each, what `job_accept` would raise."""
    errors: list[BaseException | None] = []
    while left := jobs[len(errors) :]:
        try:
            with quota.places(left[0].team_id, len(left)) as granted:
                errors += [_told(*stored) for stored in zip(left, intake.add_all(left[:granted]), strict=False)]
        except Full as full:
            errors += [full] * len(left)
    failpoint("portal.after_commit")
    return errors


def _told(job: Job, error: BaseException | None) -> BaseException | None:
    """Return what the database's refusal means."""
    if not isinstance(error, IntegrityError):
        return error
    taken = Job.objects.filter(Q(id=job.id) | of_key(job.team_id, job.idempotency_key)).exists()
    return AlreadyAccepted(str(job.id)) if taken else error


def job_cancel(*, job_id: UUID) -> bool:
    """Cancel an open job; what a worker still computes for it is thrown away. False when it has ended already."""
    with transaction.atomic():
        cancelled = job_transition(job_id=job_id, event=Event.CANCEL)
        if cancelled:
            announce_final([job_id])
    return cancelled


def steps_cancel(*, batch_id: UUID) -> int:
    """Cancel the open steps of a batch, in the caller's transaction. Returns their number."""
    steps = Job.objects.filter(batch_id=batch_id, state__in=sources(Event.CANCEL))
    return steps.update(state=target(Event.CANCEL), finished_at=timezone.now(), lease_until=None)


def job_transition(*, job_id: UUID, event: Event, of_attempt: int | None = None, **fields: Any) -> bool:
    """Apply one event to one job, guarded by its state and (for a worker's message) its attempt. False: no change."""
    goal = target(event)
    if goal in FINAL:
        fields = {"finished_at": timezone.now(), "lease_until": None} | fields
    guard = {} if of_attempt is None else {"attempt": of_attempt}
    return Job.objects.filter(id=job_id, state__in=sources(event), **guard).update(state=goal, **fields) > 0


def announce_final(job_ids: list[UUID]) -> set[UUID]:
    """Let everybody do what they do when jobs end (`jobs.endings`), and wake whoever waits for these, with the current
    transaction's commit. Returns the jobs whose results somebody still reads."""
    wanted = endings.tell_all(job_ids)
    for start in range(0, len(job_ids), IDS_PER_NOTIFICATION):
        part = job_ids[start : start + IDS_PER_NOTIFICATION]
        changes.notify(changes.FINAL, ",".join(map(str, part)))
    return wanted
