"""`{{ day }}` and the like in a schedule's addresses: a name in double braces, nothing else."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

# What a run's addresses may say about it, and what that is; for the docs and for those who guess.
NAMES = {
    "day": "the date on which it is due, 2026-01-31",
    "yesterday": "the date before",
    "year": "the year in which it is due, 2026",
    "month": "the month in which it is due, 01",
    "hour": "the hour at which it is due, 03",
    "due": "when it is due, in UTC: 20260131T020000Z",
    "since_last": "when the last run was due that was made, in UTC; of the first one: when the schedule was made",
}
_PLACE = re.compile(r"\{\{([^{}]*)\}\}")


class WrongTemplate(ValueError):
    """A text with braces that stand for nothing."""


def check(text: str, names: Iterable[str] = NAMES) -> None:
    """Raise WrongTemplate for a name that doesn't exist, and for braces that aren't in pairs around a name."""
    names = tuple(names)
    for name in _PLACE.findall(text):
        if name.strip() not in names:
            raise WrongTemplate(f"there is no '{name.strip()[:50]}'; there are {', '.join(names)}")
    rest = _PLACE.sub("", text)
    if "{{" in rest or "}}" in rest:
        raise WrongTemplate("expected a name between each '{{' and '}}'")


def names_in(text: str) -> set[str]:
    """Return the names that a text has between braces."""
    return {name.strip() for name in _PLACE.findall(text)}


def values(due: datetime, since_last: datetime, zone: ZoneInfo) -> dict[str, str]:
    """Return what the names stand for in a run. Dates and hours are those of the zone."""
    local = due.astimezone(zone)
    return {
        "day": f"{local:%Y-%m-%d}",
        "yesterday": f"{local.date() - timedelta(days=1):%Y-%m-%d}",
        "year": f"{local:%Y}",
        "month": f"{local:%m}",
        "hour": f"{local:%H}",
        "due": _instant(due),
        "since_last": _instant(since_last),
    }


def render(text: str, meant: dict[str, str]) -> str:
    """Return the text with each name replaced. Raises WrongTemplate."""
    check(text, meant)
    return _PLACE.sub(lambda place: meant[place[1].strip()], text)


def _instant(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}"
