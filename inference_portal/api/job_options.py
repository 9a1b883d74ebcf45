"""What a client may ask for about a job beside its input: as headers of …/infer, as fields of /api/jobs/."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypedDict

from inference_portal.deliveries.addresses import check_url
from inference_portal.jobs.models import Priority
from workers.formats import Fault, Invalid, Malformed, Unavailable

# Thirty days.
MAX_TTL_SECONDS = 2_592_000
MAX_KEY_LENGTH = 255

# The field of each header.
HEADERS = {
    "X-Inference-Priority": "priority",
    "X-Inference-Ttl": "ttl_seconds",
    "X-Inference-Ordering-Key": "ordering_key",
    "X-Inference-Webhook": "webhook",
    "X-Inference-Sink": "sink",
}
_NUMBER = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?")


class JobOptions(TypedDict):
    """What `job_new` takes."""

    priority: Priority
    ttl: timedelta | None
    ordering_key: str
    webhook: str
    sink: str


def from_headers(headers: Mapping[str, str]) -> JobOptions:
    """Read the headers of a request. Raises Malformed, which names the header."""
    given: dict[str, Any] = {field: headers[header] for header, field in HEADERS.items() if header in headers}
    if _NUMBER.fullmatch(given.get("ttl_seconds", "")):
        given["ttl_seconds"] = float(given["ttl_seconds"])
    if not given.get("ordering_key", "").isascii():
        # What else it may be, HTTP doesn't say. Some servers hand on an empty text in its place.
        given["ordering_key"] = ""
    options, faults = _read(given)
    for header, field in HEADERS.items():
        if field in faults:
            raise Malformed(f"{header}: {faults[field]}")
    return options


def from_fields(data: Mapping[str, Any]) -> JobOptions:
    """Read the fields of a body; null is as good as none. Raises Invalid, which names each field."""
    options, faults = _read({field: data[field] for field in HEADERS.values() if data.get(field) is not None})
    if faults:
        raise Invalid(*(Fault(f"/{field}", text) for field, text in faults.items()))
    return options


def compared(options: JobOptions) -> tuple[Any, ...]:
    """Return what a repeat of the request must have in common with it, JSON-ready."""
    ttl = options["ttl"]
    always = (int(options["priority"]), None if ttl is None else ttl.total_seconds(), options["ordering_key"])
    # Without them as before there were any: the ids of then are still known.
    if options["sink"]:
        return (*always, options["webhook"], options["sink"])
    return (*always, options["webhook"]) if options["webhook"] else always


def refuse_headers(headers: Mapping[str, str]) -> None:
    """Raise Unavailable for a header where only the fields count: passing over it would mislead."""
    for header, field in HEADERS.items():
        if header in headers:
            raise Unavailable(f"The header {header} is not read on this path; send the field '{field}'.")


def _read(given: Mapping[str, Any]) -> tuple[JobOptions, dict[str, str]]:
    """Return the options, and what is wrong with which field."""
    values: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for field, value in given.items():
        try:
            values[field] = _READERS[field](value)
        except ValueError as error:
            faults[field] = str(error)
    options = JobOptions(
        priority=values.get("priority", Priority.NORMAL),
        ttl=values.get("ttl_seconds"),
        ordering_key=values.get("ordering_key", ""),
        webhook=values.get("webhook", ""),
        sink=values.get("sink", ""),
    )
    return options, faults


def _priority(value: Any) -> Priority:
    for priority in Priority:
        if value == priority.label:
            return priority
    raise ValueError("expected high, normal or low")


def _ttl(value: Any) -> timedelta:
    # Not isinstance: true is an int. A NaN is in no range.
    if type(value) not in (int, float) or not 0 < value <= MAX_TTL_SECONDS:
        raise ValueError(f"expected a number of seconds above 0, at most {MAX_TTL_SECONDS:,} (30 days)")
    return timedelta(seconds=value)


def _ordering_key(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_KEY_LENGTH or not value.isprintable():
        raise ValueError(f"expected 1 to {MAX_KEY_LENGTH} printable characters, in a header of ASCII only")
    return value


def _webhook(value: Any) -> str:
    # `Forbidden` is a ValueError.
    check_url(value if isinstance(value, str) else "")
    return str(value)


def _sink(value: Any) -> str:
    # Whether there is one of this name for the team is told once it is known whose request it is.
    if not isinstance(value, str) or not value:
        raise ValueError("expected the name of a sink")
    return value


_READERS: dict[str, Callable[[Any], Any]] = {
    "priority": _priority,
    "ttl_seconds": _ttl,
    "ordering_key": _ordering_key,
    "webhook": _webhook,
    "sink": _sink,
}
