"""What people do with dead letters: try them again, or let them go. Nobody else writes this.

Each act is one update, guarded so that of two people only one succeeds, and an entry in the audit log, both in one
transaction.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
from django.db import connection, transaction
from django.db.models import BinaryField, F, Func, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from inference_portal.accounts.callers import Caller
from inference_portal.jobs import changes
from inference_portal.jobs.models import Action, AuditEntry, Job, ParkedMessage
from inference_portal.jobs.services import MAX_INPUT_BYTES, NOT_SENT
from inference_portal.jobs.states import Event, sources, target
from inference_portal.jobs.stored_input import stored_input
from inference_portal.store import model_store
from workers.formats import Fault, Invalid, Malformed, Matrix, TooLarge, checked, escape
from workers.model_store import Release, UnknownModel
from workers.schema import MAX_FAULTS

# So many may be named in one call.
MAX_BULK = 1_000
# Without NUL and lone surrogates, which PostgreSQL doesn't store.
_REASON = re.compile(r"[^\0\ud800-\udfff]{1,1000}")
# Of a message's body, for people to read: as UTF-8 at the most four bytes a character.
EXCERPT_CHARACTERS = 4_000
_EXCERPT_BYTES = 4 * EXCERPT_CHARACTERS

# Reads an input that fits a release.
Read = Callable[[Release], Matrix]
T = TypeVar("T")
R = TypeVar("R")


class UnknownDeadLetter(LookupError):
    """There is no such job or message."""


class NotWaiting(RuntimeError):
    """The job or message doesn't wait for a person (any more)."""


# What may be wrong with one of many.
REFUSALS = (UnknownDeadLetter, NotWaiting, Invalid, Malformed, TooLarge)


def replay(*, job_id: UUID, caller: Caller, version: str | None = None, read: Read | None = None) -> Job:
    """Put a dead letter back into the queue: the same job, its next attempt, with its count of failures at zero.

    `version` may name another version of the model; without `read` the stored input goes along, by column names.
    `read` is given the release and returns an input instead. A job that was tried alone is tried alone again.
    Raises UnknownDeadLetter, NotWaiting, Invalid (with what to send instead), TooLarge, and what `read` raises.
    """
    job = _waiting(job_id, caller)
    release = _release(job, version)
    _check_outputs(job, release)
    matrix = _matrix(job, release, read)
    new: dict[str, Any] = {
        "version": release.manifest.version,
        "sha256": release.manifest.artifact.sha256,
        "pool": release.manifest.pool,
        "rows": len(matrix),
        "input": matrix.tobytes(),
    }
    with transaction.atomic():
        _change(
            job,
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
        AuditEntry.objects.create(who=caller.name, action=Action.REPLAY, job_id=job.id, changes=_changes(job, new))
        changes.notify(changes.DISPATCH)
    job.refresh_from_db(fields=["state", "version", "attempt"])
    return job


def discard(*, job_id: UUID, caller: Caller, reason: str) -> Job:
    """Take a dead letter off the list; it stays dead-lettered. Raises UnknownDeadLetter, NotWaiting, Invalid."""
    reason = checked_reason(reason)
    job = _waiting(job_id, caller)
    with transaction.atomic():
        _change(job, discarded_at=timezone.now())
        AuditEntry.objects.create(who=caller.name, action=Action.DISCARD, job_id=job.id, reason=reason)
    job.refresh_from_db(fields=["discarded_at"])
    return job


def each(items: Iterable[T], act: Callable[[T], R]) -> "Iterator[tuple[T, R | Exception]]":
    """Do the same with many, each in a transaction of its own. Yields what came of each, or why it was refused."""
    for item in items:
        try:
            yield item, act(item)
        except REFUSALS as refusal:
            yield item, refusal


def checked_reason(reason: str) -> str:
    """Return the reason for a discard without space around it. Raises Invalid."""
    reason = reason.strip()
    if not _REASON.fullmatch(reason):
        raise Invalid(Fault("/reason", "expected text of 1 to 1,000 characters"))
    return reason


def parked_messages() -> QuerySet[ParkedMessage]:
    """Return all parked messages, with the `start` of each body instead of the whole, which may be large."""
    start = Func(F("body"), 1, _EXCERPT_BYTES, function="SUBSTR", output_field=BinaryField())
    return ParkedMessage.objects.defer("body").annotate(start=start)


def excerpt(start: bytes | None) -> str:
    """Return the beginning of a message's body as text, whatever it holds (SQLite's start of nothing is NULL)."""
    return bytes(start or b"").decode(errors="replace")[:EXCERPT_CHARACTERS]


def discard_message(*, message_id: int, caller: Caller, reason: str) -> ParkedMessage:
    """Take a parked message off the list. Raises UnknownDeadLetter, NotWaiting, Invalid."""
    reason = checked_reason(reason)
    named = parked_messages().filter(id=message_id)
    with transaction.atomic():
        if named.filter(discarded_at=None).update(discarded_at=timezone.now()):
            AuditEntry.objects.create(who=caller.name, action=Action.DISCARD, message_id=message_id, reason=reason)
            return named.get()
    if named.exists():
        raise NotWaiting(f"Message {message_id} was discarded before.")
    raise UnknownDeadLetter(f"There is no parked message {message_id}.")


def _waiting(job_id: UUID, caller: Caller) -> Job:
    job = Job.objects.visible_to(caller).defer("result").filter(id=job_id).first()
    if job is None:
        raise UnknownDeadLetter(f"There is no job '{job_id}'.")
    if job.state not in sources(Event.REPLAY):
        raise NotWaiting(f"The job is {job.state}; only a dead letter can be replayed or discarded.")
    if job.discarded_at is not None:
        raise NotWaiting(f"The job was discarded at {job.discarded_at:%Y-%m-%d %H:%M} UTC.")
    return job


def _change(job: Job, **fields: Any) -> None:
    """Change the dead letter that was read. Raises NotWaiting when somebody else was first."""
    if not Job.objects.dead_letters().filter(id=job.id, attempt=job.attempt).update(**fields):
        raise NotWaiting("Somebody else has replayed or discarded the job meanwhile.")


def _release(job: Job, version: str | None) -> Release:
    try:
        return model_store().get(job.model, job.version if version is None else version)
    except UnknownModel as error:
        served = sorted(model_store().snapshot().releases.get(job.model, {}), key=int)
        reason = f"{error}; name one that is served: {', '.join(served)}" if served else str(error)
        raise Invalid(Fault("/version", reason)) from error


def _check_outputs(job: Job, release: Release) -> None:
    known = [tensor.name for tensor in release.manifest.output.tensors]
    lacking = [name for name in job.reply.get("outputs") or [] if name not in known]
    if lacking:
        reason = f"the job asked for the output '{lacking[0]}', this version has {', '.join(known)}"
        raise Invalid(Fault("/version", reason))


def _matrix(job: Job, release: Release, read: Read | None) -> Matrix:
    """Return the input of the next attempt, checked against the release's signature. Raises Invalid, TooLarge."""
    values = _stored(job, release) if read is None else read(release)
    names = [escape(name) for name in release.schema.names]
    matrix = checked(release.schema, values.astype(np.float64), lambda row, column: f"/rows/{row}/{names[column]}")
    if matrix.nbytes > MAX_INPUT_BYTES:
        most = MAX_INPUT_BYTES // matrix.itemsize
        raise TooLarge(f"{matrix.size:,} values; one job may have {most:,} (rows times columns)")
    return matrix


def _stored(job: Job, release: Release) -> Matrix:
    """Return the stored matrix with the columns of the release, found by their names. Raises Invalid."""
    old = stored_input(job)
    if old is None:
        raise Invalid(Fault("", "the job's input was removed when it grew old; send it again as 'rows' or 'inputs'"))
    if old.names is None:
        reason = "the store no longer has the model file that the job was for, so nobody knows its input's columns"
        raise Invalid(Fault("", f"{reason}; send the input as 'rows' or 'inputs'"))
    at = {name: i for i, name in enumerate(old.names)}
    lacking = [
        Fault("", f"version {release.manifest.version} needs the column '{name}', which the job's input lacks; "
                  "send the input as 'rows' or 'inputs'")
        for name in release.schema.names
        if name not in at
    ]  # fmt: skip
    if lacking:
        raise Invalid(*lacking[:MAX_FAULTS])
    return old.matrix[:, [at[name] for name in release.schema.names]]


def _changes(job: Job, new: dict[str, Any]) -> dict[str, list[Any]]:
    """Return what the replay changes of the job, each as before and after."""
    before = {
        "version": job.version,
        "model_sha256": job.sha256,
        "rows": job.rows,
        "input_sha256": None if job.purged_at is not None else hashlib.sha256(job.input).hexdigest(),
    }
    after = {
        "version": new["version"],
        "model_sha256": new["sha256"],
        "rows": new["rows"],
        "input_sha256": hashlib.sha256(new["input"]).hexdigest(),
    }
    return {name: [before[name], after[name]] for name in before if before[name] != after[name]}
