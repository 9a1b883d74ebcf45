"""What one may ask of a schedule, read from JSON fields: by the API and the console's form alike."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from django.utils import timezone

from inference_portal.accounts.callers import Caller
from inference_portal.batches.schedules import request
from inference_portal.batches.schedules.due import (
    MAX_CRON,
    MAX_SECONDS,
    MIN_SECONDS,
    Every,
    Once,
    Rule,
    WrongRule,
    cron,
    upcoming,
    zone_named,
)
from inference_portal.batches.schedules.models import MAX_NAME
from inference_portal.batches.schedules.policy import CatchUp, Overlap
from workers.formats import Fault, Invalid, escape, shown
from workers.schema import MAX_FAULTS

# A moment farther away is a typing error.
MAX_AHEAD = timedelta(days=3660)
MAX_REHEARSED_ROWS = 100_000
MAX_BEFORE_SECONDS = 30 * 86_400
# Of these a schedule has one.
RULES = ("cron", "every_seconds", "at")
USUAL: dict[str, Any] = {
    "cron": "",
    "every_seconds": None,
    "at": None,
    "timezone": "UTC",
    "catch_up": CatchUp.LATEST.value,
    "overlap": Overlap.SKIP.value,
    "rehearsal": None,
    "enabled": True,
}
FIELDS = ("name", *USUAL, "batch")
# Without them there is no schedule.
_NEEDED = ("name", "batch")


def read(data: Mapping[str, Any], caller: Caller, current: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the values of a schedule that `data` asks for; what it doesn't name is as in `current`, else as usual.

    One of `cron`, `every_seconds`, `at` takes the place of the one that there was. Null is as good as left out, but for
    `rehearsal` of one that there is. Raises Invalid, which names each wrong field; Unreachable.
    """
    if unknown := sorted(data.keys() - set(FIELDS)):
        raise Invalid(*(Fault(f"/{escape(shown(name))}", "there is no such field") for name in unknown[:MAX_FAULTS]))
    given = {name: value for name, value in data.items() if value is not None}
    values, faults = USUAL | dict(current or {}), []
    if any(name in given for name in RULES):
        values |= {name: USUAL[name] for name in RULES}
    if "rehearsal" in data:
        values["rehearsal"] = None
    for name in _NEEDED:
        if name not in given and name not in values:
            faults.append(Fault(f"/{name}", "expected a value"))
    for name, value in given.items():
        try:
            values[name] = _READERS[name](value)
        except ValueError as error:
            faults.append(Fault(f"/{name}", str(error)))
    if faults:
        raise Invalid(*faults)
    rule = _rule(values, given)
    _check_rehearsal(values["rehearsal"], rule)
    if "batch" in given:
        request.check(values["batch"], caller, zone_named(values["timezone"]))
    return {name: values[name] for name in FIELDS}


def _rule(values: Mapping[str, Any], given: Mapping[str, Any]) -> Rule:
    """Return when it is due. Raises Invalid for none or several rules, and for one that is never due."""
    now = timezone.now()
    chosen = [name for name in RULES if values[name]]
    if len(chosen) != 1:
        places = [name for name in RULES if name in given] or ["cron"]
        raise Invalid(*(Fault(f"/{name}", f"expected one of {', '.join(RULES)}") for name in places))
    try:
        zone = zone_named(values["timezone"])
    except WrongRule as wrong:
        raise Invalid(Fault("/timezone", str(wrong))) from None
    if values["cron"]:
        try:
            return cron(values["cron"], zone, now)
        except WrongRule as wrong:
            raise Invalid(Fault("/cron", str(wrong))) from None
    if values["every_seconds"]:
        return Every(values["every_seconds"], now)
    at: datetime = values["at"]
    if "at" in given and not now < at < now + MAX_AHEAD:
        raise Invalid(Fault("/at", "expected a time in the future, within ten years"))
    return Once(at)


def _check_rehearsal(rehearsal: Mapping[str, Any] | None, rule: Rule) -> None:
    """Raise Invalid for a rehearsal that would come before the run before."""
    if rehearsal is None:
        return
    between = [(later - earlier).total_seconds() for earlier, later in pairwise(upcoming(rule, timezone.now(), 50))]
    if between and rehearsal["before_seconds"] >= min(between):
        text = f"expected less than the time between two runs, {min(between):,.0f} seconds"
        raise Invalid(Fault("/rehearsal/before_seconds", text))


def _name(value: Any) -> str:
    if (
        not isinstance(value, str)
        or not 1 <= len(value) <= MAX_NAME
        or not value.isprintable()
        or value != value.strip()
    ):
        raise ValueError(f"expected 1 to {MAX_NAME} printable characters, without space around them")
    return value


def _cron(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_CRON:
        raise ValueError(f"expected a cron line of at most {MAX_CRON} characters, such as '30 2 * * *'")
    # An empty one is none.
    return " ".join(value.split())


def _every_seconds(value: Any) -> int:
    return _whole(value, MIN_SECONDS, MAX_SECONDS, "seconds")


def _at(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("expected a time with its offset, such as 2026-01-31T06:00:00Z")
    return moment


def _timezone(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected the name of a time zone, such as Europe/Berlin")
    return zone_named(value).key


def _batch(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("expected an object: what POST /api/batches/ takes")
    return value


def _choice(kind: type[CatchUp] | type[Overlap]) -> Callable[[Any], str]:
    def read_choice(value: Any) -> str:
        if value not in list(kind):
            raise ValueError(f"expected {', '.join(list(kind)[:-1])} or {list(kind)[-1]}")
        return str(value)

    return read_choice


def _rehearsal(value: Any) -> dict[str, int]:
    if not isinstance(value, dict) or value.keys() != {"before_seconds", "rows"}:
        raise ValueError("expected an object with 'before_seconds' and 'rows'")
    return {
        "before_seconds": _whole(value["before_seconds"], 1, MAX_BEFORE_SECONDS, "seconds as 'before_seconds'"),
        "rows": _whole(value["rows"], 1, MAX_REHEARSED_ROWS, "as 'rows'"),
    }


def _enabled(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def _whole(value: Any, least: int, most: int, what: str) -> int:
    # To JSON 60 and 60.0 are one number. Not isinstance: true is an int.
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"expected a whole number {what} from {least:,} to {most:,}")
    return value


_READERS: dict[str, Callable[[Any], Any]] = {
    "name": _name,
    "cron": _cron,
    "every_seconds": _every_seconds,
    "at": _at,
    "timezone": _timezone,
    "batch": _batch,
    "catch_up": _choice(CatchUp),
    "overlap": _choice(Overlap),
    "rehearsal": _rehearsal,
    "enabled": _enabled,
}
