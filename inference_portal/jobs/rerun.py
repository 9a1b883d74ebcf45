"""An ended job is tried again because somebody asks for it: the same job, its next attempt.

Its team reruns what has ended without a result; an operator replays a dead letter. Each is one update, guarded so that
of two people only one succeeds, and an entry in the audit log, both in one transaction.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from inference_portal.accounts.callers import Caller
from inference_portal.jobs import changes
from inference_portal.jobs.models import Action, Attempt, AuditEntry, Job, JobQuerySet
from inference_portal.jobs.quota import quota
from inference_portal.jobs.services import MAX_INPUT_BYTES, NOT_SENT
from inference_portal.jobs.states import Event, sources, target
from inference_portal.jobs.stored_input import stored_input
from inference_portal.store import model_store
from workers.failpoints import failpoint
from workers.formats import Fault, Invalid, Matrix, TooLarge, checked, escape
from workers.formats.asked import check_asked
from workers.manifest import EXPLAIN
from workers.model_store import Release, UnknownModel
from workers.schema import MAX_FAULTS
from workers.template.output import CONTRIBUTIONS

# What to do when the stored input can't be used.
_INSTEAD = {Action.REPLAY: "send the input as 'rows' or 'inputs'", Action.RERUN: "submit a new job"}
# Reads an input that fits a release.
Read = Callable[[Release], Matrix]


class NotWaiting(RuntimeError):
    """The job or message doesn't wait for this (any more)."""


def can_be_rerun(job: Job) -> bool:
    """Tell whether the job ended without a result, its input is still there, and nobody has let it go."""
    return (
        not job.step
        and not job.is_relay
        and job.state in sources(Event.RERUN)
        and job.discarded_at is None
        and job.purged_at is None
    )


def rerun(*, job: Job, caller: Caller, version: str | None = None) -> Job:
    """Put a job that ended without a result back into the queue; see `put_back`.

    Raises NotWaiting for one that is open or has succeeded, Full, Invalid (with what to send instead).
    """
    again = Job.objects.filter(state__in=sources(Event.RERUN), discarded_at=None)
    if job.state not in sources(Event.RERUN):
        raise NotWaiting(f"The job is {job.state}; only one that ended without a result can be run again.")
    with quota.places(job.team_id):
        return put_back(among=again, job=job, caller=caller, action=Action.RERUN, version=version)


def put_back(
    *,
    among: JobQuerySet,
    job: Job,
    caller: Caller,
    action: Action,
    version: str | None = None,
    read: Read | None = None,
) -> Job:
    """Put an ended job back into the queue, if it is still `among` these, as its next attempt with no failure counted.

    `version` may name another version of the model; without `read` the stored input goes along, by column names.
    `read` is given the release and returns an input instead. A job that was tried alone is tried alone again.
    Raises NotWaiting, Invalid (with what to send instead), TooLarge, and what `read` raises.
    """
    if job.step:
        raise NotWaiting(f"The job is a step of batch {job.batch_id}; rerun the batch.")
    if job.is_relay:
        raise NotWaiting("The job was relayed to the model's container, which is never repeated; submit a new one.")
    release = _release(job, version)
    _check_outputs(job, release)
    matrix = _matrix(job, release, read, _INSTEAD[action])
    check_asked(release.manifest, [("/version", name) for name in job.reply.get("outputs") or []], len(matrix))
    data = matrix.tobytes()
    new: dict[str, Any] = {
        "version": release.manifest.version,
        "sha256": release.manifest.sha256,
        "pool": EXPLAIN if CONTRIBUTIONS in (job.reply.get("outputs") or ()) else release.manifest.pool,
        "rows": len(matrix),
        "input": data,
        "input_sha256": hashlib.sha256(data).hexdigest(),
    }
    with transaction.atomic():
        changed = among.filter(id=job.id, attempt=job.attempt).update(
            **NOT_SENT,
            **new,
            state=target(Event.REPLAY),
            attempt=job.attempt + 1,
            failures=0,
            # It has lost its place. As in `jobs.intake`: by the database's clock, if it has one.
            queued_at=Now() if connection.vendor == "postgresql" else timezone.now(),
            not_before=None,
            expires_at=None,
            finished_at=None,
            purged_at=None,
            error_code="",
            error_message="",
        )
        if not changed:
            raise NotWaiting("Somebody else has rerun, replayed or discarded the job meanwhile.")
        # An attempt that was cancelled while it ran stood on the job alone.
        Attempt.objects.bulk_create(attempt for attempt in job.all_attempts if attempt.pk is None)
        AuditEntry.objects.create(who=caller.name, action=action, job_id=job.id, changes=_changes(job, new))
        changes.notify(changes.DISPATCH)
        failpoint("rerun.before_commit")
    job.refresh_from_db(fields=["state", "version", "attempt", "queued_at"])
    return job


def _release(job: Job, version: str | None) -> Release:
    try:
        return model_store().get(job.model, job.version if version is None else version)
    except UnknownModel as error:
        served = sorted(model_store().snapshot().releases.get(job.model, {}), key=int)
        reason = f"{error}; name one that is served: {', '.join(served)}" if served else str(error)
        raise Invalid(Fault("/version", reason)) from error


def _check_outputs(job: Job, release: Release) -> None:
    known = [tensor.name for tensor in release.manifest.offered]
    lacking = [name for name in job.reply.get("outputs") or [] if name not in known]
    if lacking:
        reason = f"the job asked for the output '{lacking[0]}', this version has {', '.join(known)}"
        raise Invalid(Fault("/version", reason))


def _matrix(job: Job, release: Release, read: Read | None, instead: str) -> Matrix:
    """Return the input of the next attempt, checked against the release's signature. Raises Invalid, TooLarge."""
    values = _stored(job, release, instead) if read is None else read(release).astype(np.float64)
    names = [escape(name) for name in release.schema.names]
    matrix = checked(release.schema, values, lambda row, column: f"/rows/{row}/{names[column]}")
    if matrix.nbytes > MAX_INPUT_BYTES:
        most = MAX_INPUT_BYTES // matrix.itemsize
        raise TooLarge(f"{matrix.size:,} values; one job may have {most:,} (rows times columns)")
    return matrix


def _stored(job: Job, release: Release, instead: str) -> npt.NDArray[np.float64]:
    """Return the stored rows with the columns of the release, found by their names. Raises Invalid with what to do."""
    old = stored_input(job)
    if old is None:
        raise Invalid(Fault("", f"the job's input was removed when it grew old; {instead}"))
    if old.schema is None:
        reason = "the store no longer has the model file that the job was for, so nobody knows its input's columns"
        raise Invalid(Fault("", f"{reason}; {instead}"))
    lacking = [
        Fault("", f"version {release.manifest.version} needs the column '{name}', which the input lacks; {instead}")
        for name in release.schema.required
        if name not in old.schema.index
    ]
    if lacking:
        raise Invalid(*lacking[:MAX_FAULTS])
    return release.schema.taken_over(old.matrix, old.schema)


def _changes(job: Job, new: dict[str, Any]) -> dict[str, list[Any]]:
    """Return what the replay changes of the job, each as before and after."""
    before = {
        "version": job.version,
        "model_sha256": job.sha256,
        "rows": job.rows,
        "input_sha256": job.input_sha256,
    }
    after = {
        "version": new["version"],
        "model_sha256": new["sha256"],
        "rows": new["rows"],
        "input_sha256": new["input_sha256"],
    }
    return {name: [before[name], after[name]] for name in before if before[name] != after[name]}
