"""Requests that come again: known by the client's own id or key, they join the job that the first one became."""

import hashlib
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from django.db.models import Q

from inference_portal.accounts.callers import Caller
from inference_portal.jobs.models import Job


class Mismatch(ValueError):
    """The id or the key belongs to another request. Says nothing about that one: it may be another team's."""


class AlreadyAccepted(RuntimeError):
    """Another request under the same id or key was quicker."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a request may be known by, and the digest of all that a repeat must have in common with it."""

    fingerprint: str
    id: UUID | None = None
    key: str = ""

    @property
    def may_be_known(self) -> bool:
        """Tell whether the client gave the request a name of its own."""
        return self.id is not None or self.key != ""


def fingerprint(body: bytes, *compared: Any) -> str:
    """Return the digest of a body and of JSON-ready values beside it."""
    digest = hashlib.sha256(orjson.dumps(compared))
    digest.update(body)
    return digest.hexdigest()


def of_key(team_id: int, key: str) -> Q:
    """Find a team's job by its key, through the index of the constraint: SQLite uses one only for its own condition."""
    return Q(team_id=team_id, idempotency_key=key) & ~Q(idempotency_key="")


def first(identity: Identity, caller: Caller) -> Job | None:
    """Return the job (without its payload) of an earlier request under this id or key; None if there was none.

    Raises Mismatch when it was another request, or another team's.
    """
    if not identity.may_be_known:
        return None
    named = Q(id=identity.id) if identity.id is not None else Q()
    if identity.key:
        named |= of_key(caller.team_id, identity.key)
    jobs = list(Job.objects.without_payload().filter(named)[:2])
    if not jobs:
        return None
    (job, *others) = jobs
    same = not others and job.team_id == caller.team_id and job.fingerprint == identity.fingerprint
    if identity.id is not None:
        same = same and job.id == identity.id
    if identity.key:
        same = same and job.idempotency_key == identity.key
    if not same:
        raise Mismatch("This id was used for another request. Send the same request again, or choose a new id.")
    return job
