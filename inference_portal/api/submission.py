"""From a body of /api/jobs/ to a job: what POST, PUT and bulk have in common."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from inference_portal.accounts.callers import Caller
from inference_portal.api import job_options, request_id
from inference_portal.api.body import version_of
from inference_portal.api.request_id import NO_NAMES, Names
from inference_portal.errors import Problem
from inference_portal.jobs import repeats
from inference_portal.jobs.models import Job
from inference_portal.jobs.repeats import AlreadyAccepted, Identity
from inference_portal.jobs.services import job_new, jobs_accept
from inference_portal.limits import request_limits
from inference_portal.store import model_store
from workers.formats import (
    Decoded,
    Fault,
    Invalid,
    Malformed,
    TooLarge,
    Unavailable,
    escape,
    json_instances,
    json_v2,
    shown,
)
from workers.model_store import Release, UnknownModel
from workers.schema import MAX_FAULTS

# Why one of many may be refused, beside what `store` returns.
REFUSALS = (Problem, Invalid, Malformed, TooLarge, Unavailable, UnknownModel, repeats.Mismatch)
# So many may be submitted in one call.
MAX_BULK = 1_000
MAX_LABELS = 20
MAX_LABEL_LENGTH = 64
KEY = "idempotency_key"
_FIELDS = {"model", "version", "inputs", "rows", KEY, "labels", *job_options.HEADERS.values()}
# Of the contract, and not built yet.
_UNBUILT = {"input_uri", "webhook", "sink"}


@dataclass(frozen=True, slots=True)
class Submission:
    """What one body became: a new job, not stored yet, or that of the request which it repeats."""

    identity: Identity
    job: Job
    is_new: bool


def read(data: Any, caller: Caller, names: Names = NO_NAMES) -> Submission:
    """Read one body; `names` has what path and headers say about its id.

    Raises Invalid with the field, Malformed, Problem, UnknownModel, TooLarge, Mismatch.
    """
    if not isinstance(data, dict):
        raise Invalid(Fault("", "expected an object"))
    _check_fields(data)
    identity = _identity(data, names)
    earlier = repeats.first(identity, caller)
    if earlier is not None:
        return Submission(identity, earlier, is_new=False)
    release = _release(data)
    job = job_new(
        caller=caller,
        release=release,
        decoded=_decode(release, data),
        identity=identity,
        labels=_labels(data),
        **job_options.from_fields(data),
    )
    return Submission(identity, job, is_new=True)


def store(submissions: list[Submission], caller: Caller) -> list[Job | BaseException]:
    """Store what is new. Returns the job of each, maybe that of a request which was quicker, or what was raised."""
    stored = iter(jobs_accept(jobs=[submission.job for submission in submissions if submission.is_new]))
    return [_result(each, next(stored) if each.is_new else None, caller) for each in submissions]


def _result(submission: Submission, error: BaseException | None, caller: Caller) -> Job | BaseException:
    if not isinstance(error, AlreadyAccepted):
        return error or submission.job
    try:
        return repeats.first(submission.identity, caller) or error
    except repeats.Mismatch as mismatch:
        return mismatch


def _check_fields(data: Mapping[str, Any]) -> None:
    if unbuilt := sorted(_UNBUILT & data.keys()):
        faults = tuple(Fault(f"/{name}", "not available yet, leave it out") for name in unbuilt)
        raise Problem("not-available", f"Not available yet: {', '.join(unbuilt)}.", faults=faults)
    if unknown := sorted(data.keys() - _FIELDS):
        raise Invalid(*(Fault(f"/{escape(shown(name))}", "there is no such field") for name in unknown[:MAX_FAULTS]))


def _identity(data: Mapping[str, Any], names: Names) -> Identity:
    """Return what the submission may be known by. Raises Invalid."""
    key = data.get(KEY)
    if key is not None and not (isinstance(key, str) and request_id.is_key(key)):
        raise Invalid(Fault(f"/{KEY}", f"expected 1 to {request_id.MAX_KEY_LENGTH} printable characters"))
    if key and names.key and key != names.key:
        raise Invalid(Fault(f"/{KEY}", "the header Idempotency-Key contradicts it"))
    compared = {field: value for field, value in data.items() if field != KEY and value is not None}
    return Identity(repeats.fingerprint(_canonical(compared)), names.id, key or names.key)


def _canonical(data: dict[str, Any]) -> bytes:
    """Return the same bytes for the same fields, whatever their order. Raises Malformed."""
    try:
        return orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        # Numbers of more than 64 bits, half a surrogate pair; what is wrong with them is told later.
        try:
            return json.dumps(data, sort_keys=True).encode()
        except RecursionError as error:
            raise Malformed("the body is nested too deeply") from error


def _release(data: Mapping[str, Any]) -> Release:
    model = data.get("model")
    if not isinstance(model, str):
        raise Invalid(Fault("/model", "expected the name of a model"))
    return model_store().get(model, version_of(data))


def _decode(release: Release, data: dict[str, Any]) -> Decoded:
    if ("inputs" in data) == ("rows" in data):
        raise Invalid(Fault("", "expected either 'inputs' (V2 tensors) or 'rows'"))
    if "inputs" in data:
        return json_v2.decode(release, data, request_limits())
    return json_instances.decode(release, data["rows"], request_limits(), key="rows")


def _labels(data: Mapping[str, Any]) -> tuple[str, ...]:
    labels = data.get("labels")
    if labels is None:
        return ()
    if not isinstance(labels, list) or len(labels) > MAX_LABELS:
        raise Invalid(Fault("/labels", f"expected a list of at most {MAX_LABELS} texts"))
    faults = [
        Fault(f"/labels/{i}", f"expected 1 to {MAX_LABEL_LENGTH} printable characters")
        for i, label in enumerate(labels)
        if not (isinstance(label, str) and 1 <= len(label) <= MAX_LABEL_LENGTH and label.isprintable())
    ]
    if faults:
        raise Invalid(*faults)
    return tuple(dict.fromkeys(labels))
