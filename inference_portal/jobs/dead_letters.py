"""What people do with dead letters: try them again (by `jobs.rerun`), or let them go.

Each act is one update, guarded so that of two people only one succeeds, and an entry in the audit log, both in one
transaction.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar
from uuid import UUID

from django.db import transaction
from django.db.models import BinaryField, F, Func, QuerySet
from django.utils import timezone

from inference_portal.accounts.callers import Caller
from inference_portal.jobs.models import Action, AuditEntry, Job, ParkedMessage
from inference_portal.jobs.rerun import NotWaiting, Read, put_back
from inference_portal.jobs.states import Event, sources
from workers.formats import Fault, Invalid, Malformed, TooLarge

# So many may be named in one call.
MAX_BULK = 1_000
# Without NUL and lone surrogates, which PostgreSQL doesn't store.
_REASON = re.compile(r"[^\0\ud800-\udfff]{1,1000}")
# Of a message's body, for people to read: as UTF-8 at the most four bytes a character.
EXCERPT_CHARACTERS = 4_000
_EXCERPT_BYTES = 4 * EXCERPT_CHARACTERS

T = TypeVar("T")
R = TypeVar("R")


class UnknownDeadLetter(LookupError):
    """There is no such job or message."""


# What may be wrong with one of many.
REFUSALS = (UnknownDeadLetter, NotWaiting, Invalid, Malformed, TooLarge)


def replay(*, job_id: UUID, caller: Caller, version: str | None = None, read: Read | None = None) -> Job:
    """Put a dead letter back into the queue; see `rerun.put_back`.

    Raises UnknownDeadLetter, NotWaiting, Invalid (with what to send instead), TooLarge, and what `read` raises.
    """
    job = _waiting(job_id, caller)
    return put_back(
        among=Job.objects.dead_letters(), job=job, caller=caller, action=Action.REPLAY, version=version, read=read
    )


def discard(*, job_id: UUID, caller: Caller, reason: str) -> Job:
    """Take a dead letter off the list; it stays dead-lettered. Raises UnknownDeadLetter, NotWaiting, Invalid."""
    reason = checked_reason(reason)
    job = _waiting(job_id, caller)
    with transaction.atomic():
        _change(job, discarded_at=timezone.now())
        AuditEntry.objects.create(who=caller.name, action=Action.DISCARD, job_id=job.id, reason=reason)
    job.refresh_from_db(fields=["discarded_at"])
    return job


def steps_replaced(job_ids: Iterable[UUID]) -> None:
    """Take the dead letters among these steps of a batch off the list: the batch tries again what they were for."""
    Job.objects.dead_letters().filter(id__in=list(job_ids)).exclude(step="").update(discarded_at=timezone.now())


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
