"""Which instants are due between two moments: pure functions of a rule. Every instant is UTC.

A cron line means local time. A time that doesn't exist (the clock is put forward) is due once, right after the gap; one
that comes twice is due once, the first time. A line for every hour of the day means the hours as they pass instead:
nothing is due for the hour that is left out, and the hour that comes twice has its runs twice.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

MAX_CRON = 200
MIN_SECONDS, MAX_SECONDS = 10, 366 * 86_400
# No clock is put forward or back by more; before a moment's local time so much may hold instants that come after it.
_LARGEST_SHIFT = timedelta(hours=3)
# What the last instants are looked for in, at first; four times as much each time that it doesn't hold enough.
_FIRST_WINDOW = timedelta(hours=1)
_SECOND = timedelta(seconds=1)


class WrongRule(ValueError):
    """A rule that can't be read, or that is never due."""


@dataclass(frozen=True, slots=True)
class Cron:
    """Five fields (minute, hour, day, month, weekday), read as Debian's cron does, in the local time of a zone."""

    line: str
    zone: ZoneInfo

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield every instant after the moment, in order."""
        start = moment.astimezone(self.zone).replace(tzinfo=None) - _LARGEST_SHIFT
        every_hour = len(CronSim(self.line, start).hours) == 24
        waiting: list[datetime] = []
        last = moment
        # Local times come in order, their instants do not where the clock is put back. No later local time has an
        # instant before its own first one.
        for local in CronSim(self.line, start):
            found = _instants(local, self.zone)
            while waiting and waiting[0] < found[0]:
                if (instant := heapq.heappop(waiting)) > last:
                    last = instant
                    yield instant
            if every_hour:
                found = [instant for instant in found if _is_local(instant, local, self.zone)]
            for instant in found if every_hour else found[:1]:
                heapq.heappush(waiting, instant)
        # The last of all: cronsim has found nothing more in 50 years.
        while waiting:
            if (instant := heapq.heappop(waiting)) > last:
                last = instant
                yield instant


@dataclass(frozen=True, slots=True)
class Every:
    """Every so many seconds, counted from the anchor, which is none of them."""

    seconds: int
    anchor: datetime

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield every instant after the moment, in order."""
        step = timedelta(seconds=self.seconds)
        count = max(1, (moment - self.anchor) // step + 1)
        while True:
            yield self.anchor + count * step
            count += 1


@dataclass(frozen=True, slots=True)
class Once:
    """At one moment."""

    at: datetime

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield it, if it is after the moment."""
        if self.at > moment:
            yield self.at


Rule = Cron | Every | Once


def cron(line: str, zone: ZoneInfo, now: datetime) -> Cron:
    """Return the rule of a cron line. Raises WrongRule for a line that can't be read or, like 30 February, never is."""
    fields = line.split()
    if len(fields) != 5 or len(line) > MAX_CRON:
        raise WrongRule("expected five fields: minute, hour, day of the month, month, day of the week")
    line = " ".join(fields)
    try:
        CronSim(line, now.replace(tzinfo=None))
    except CronSimError as error:
        # Its way to say that no month is as long as that.
        if "day-of-month" in str(error) and _can_be_read(fields):
            raise WrongRule("it is never due: no such day comes in 50 years") from None
        raise WrongRule(f"its {str(error).removeprefix('Bad ')} can't be read") from None
    rule = Cron(line, zone)
    if next(rule.after(now), None) is None:
        raise WrongRule("it is never due: no such day comes in 50 years")
    return rule


def zone_named(name: str) -> ZoneInfo:
    """Return a time zone by its name in the IANA database. Raises WrongRule."""
    try:
        return ZoneInfo(name)
    # Names that lead to a folder, or out of the database.
    except (KeyError, ValueError, OSError):
        raise WrongRule(f"there is no time zone {name[:64]!r}; expected a name such as Europe/Berlin") from None


def upcoming(rule: Rule, after: datetime, count: int) -> list[datetime]:
    """Return the next instants after a moment, at most `count`."""
    return list(islice(rule.after(after), count))


def due_between(rule: Rule, after: datetime, until: datetime, limit: int) -> tuple[list[datetime], bool]:
    """Return the last instants after the one moment and not after the other, and whether there are earlier ones, too.

    At most `limit`; how far the two moments are apart makes no difference to the time that it takes.
    """
    window = _FIRST_WINDOW
    while True:
        start = max(after, until - window)
        found: list[datetime] = []
        for instant in rule.after(start):
            if instant > until:
                break
            found.append(instant)
            # A long window is only taken where the one before held few.
        if start == after or len(found) > limit:
            return found[-limit:], len(found) > limit
        window *= 4


def _instants(local: datetime, zone: ZoneInfo) -> list[datetime]:
    """Return when clocks show this local time: once or twice, or never, then the moment at which they skip it."""
    first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first <= second:
        return [first] if first == second else [first, second]
    # It doesn't exist, and the clock is put forward between the two: after `second`, at `first` at the latest.
    before = second.astimezone(zone).utcoffset()
    while first - second > _SECOND:
        middle = second + (first - second) // 2 // _SECOND * _SECOND
        if middle.astimezone(zone).utcoffset() == before:
            second = middle
        else:
            first = middle
    return [first]


def _is_local(instant: datetime, local: datetime, zone: ZoneInfo) -> bool:
    return instant.astimezone(zone).replace(tzinfo=None) == local


def _can_be_read(fields: list[str]) -> bool:
    """Tell whether the line is right but for its month, which has no such day."""
    try:
        CronSim(" ".join([*fields[:3], "*", fields[4]]), datetime(2000, 1, 1))
    except CronSimError:
        return False
    return True
