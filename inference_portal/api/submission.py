"""From a body of /api/jobs/ to a job: what POST, PUT and bulk have in common."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import orjson

from inference_portal.accounts.callers import Caller
from inference_portal.api import job_options, request_id
from inference_portal.api.body import version_of
from inference_portal.api.input_files import InputFiles
from inference_portal.api.request_id import NO_NAMES, Names
from inference_portal.catalog.traffic import choose
from inference_portal.deliveries.sinks.choice import NoSuchSink
from inference_portal.deliveries.sinks.choice import choose as choose_sink
from inference_portal.errors import Problem
from inference_portal.jobs import repeats
from inference_portal.jobs.models import Job
from inference_portal.jobs.repeats import AlreadyAccepted, Identity
from inference_portal.jobs.services import job_new, jobs_accept
from inference_portal.limits import request_limits
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
_INPUTS = {"inputs", "rows", "input_uri"}
_FIELDS = {"model", "version", *_INPUTS, KEY, "labels", *job_options.HEADERS.values()}


@dataclass(frozen=True, slots=True)
class Submission:
    """What one body became: a new job, not stored yet, or that of the request which it repeats."""

    identity: Identity
    job: Job
    is_new: bool


def read(data: Any, caller: Caller, files: InputFiles, names: Names = NO_NAMES) -> Submission:
    """Read one body, and the file that it names; `names` has what path and headers say about its id.

    A repeat is known by its body alone: it needs no storage, and gets the job that the first one became, whatever
    became of the file. Raises Invalid with the field, Malformed, Problem, UnknownModel, TooLarge, Mismatch.
    """
    if not isinstance(data, dict):
        raise Invalid(Fault("", "expected an object"))
    _check_fields(data)
    identity = _identity(data, names)
    earlier = repeats.first(identity, caller)
    if earlier is not None:
        return Submission(identity, earlier, is_new=False)
    options = job_options.from_fields(data)
    labels = _labels(data)
    job_id = identity.id or uuid4()
    release = _release(data, options["ordering_key"] or str(job_id))
    try:
        options["sink"] = choose_sink(options["sink"], release, caller)
    except NoSuchSink as error:
        raise Invalid(Fault("/sink", str(error))) from error
    job = job_new(
        caller=caller,
        release=release,
        decoded=_decode(release, data, files),
        identity=identity,
        job_id=job_id,
        labels=labels,
        **options,
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


def _release(data: Mapping[str, Any], key: str) -> Release:
    model = data.get("model")
    if not isinstance(model, str):
        raise Invalid(Fault("/model", "expected the name of a model"))
    return choose(model, version_of(data), key)


def _decode(release: Release, data: dict[str, Any], files: InputFiles) -> Decoded:
    if len(_INPUTS & data.keys()) != 1:
        raise Invalid(Fault("", "expected one of 'inputs' (V2 tensors), 'rows' and 'input_uri'"))
    if "input_uri" in data:
        return files.decode(release, data["input_uri"])
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
