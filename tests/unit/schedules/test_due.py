"""Which instants are due: compared with a clock that is looked at every minute."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference_portal.batches.schedules.due import Cron, Every, Once, Rule, WrongRule, cron, due_between, upcoming
from inference_portal.batches.schedules.due import zone_named as zone

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BERLIN, NEW_YORK, LORD_HOWE = zone("Europe/Berlin"), zone("America/New_York"), zone("Australia/Lord_Howe")
CAIRO, AZORES, KATHMANDU, UTC_ZONE = zone("Africa/Cairo"), zone("Atlantic/Azores"), zone("Asia/Kathmandu"), zone("UTC")
# Of 2026: the clock is put forward, and back. Lord Howe does so by half an hour, Cairo at midnight to one o'clock.
SHIFTS = {
    BERLIN: (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)),
    NEW_YORK: (datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)),
    LORD_HOWE: (datetime(2026, 10, 3, 15, 30, tzinfo=UTC), datetime(2026, 4, 4, 15, tzinfo=UTC)),
    CAIRO: (datetime(2026, 4, 23, 22, tzinfo=UTC), datetime(2026, 10, 29, 21, tzinfo=UTC)),
    AZORES: (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)),
    UTC_ZONE: (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)),
    KATHMANDU: (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)),
}


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def days(line: str, where: ZoneInfo, first: str, count: int) -> list[str]:
    """Return what is due from midnight of the day on, for so many days, as local times with their offsets."""
    start = datetime.fromisoformat(first).replace(tzinfo=where)
    end = (start + count * DAY).astimezone(UTC)
    found, more = due_between(Cron(line, where), start.astimezone(UTC) - MINUTE, end - MINUTE, 1000)
    assert not more
    return [instant.astimezone(where).isoformat(timespec="minutes") for instant in found]


@pytest.mark.parametrize(
    ("line", "where", "day", "expected"),
    [
        # Put forward: right after the gap, and once.
        ("30 2 * * *", BERLIN, "2026-03-29", ["2026-03-29T03:00+02:00"]),
        ("0,30 2 * * *", BERLIN, "2026-03-29", ["2026-03-29T03:00+02:00"]),
        ("*/10 2 * * *", BERLIN, "2026-03-29", ["2026-03-29T03:00+02:00"]),
        ("0 2,3 * * *", BERLIN, "2026-03-29", ["2026-03-29T03:00+02:00"]),
        ("0 */12 * * *", BERLIN, "2026-03-29", ["2026-03-29T00:00+01:00", "2026-03-29T12:00+02:00"]),
        ("30 2 * * *", NEW_YORK, "2026-03-08", ["2026-03-08T03:00-04:00"]),
        ("15 2 * * *", LORD_HOWE, "2026-10-04", ["2026-10-04T02:30+11:00"]),
        ("45 2 * * *", LORD_HOWE, "2026-10-04", ["2026-10-04T02:45+11:00"]),
        ("0 0 * * *", CAIRO, "2026-04-24", ["2026-04-24T01:00+03:00"]),
        ("30 2 * * *", UTC_ZONE, "2026-03-29", ["2026-03-29T02:30+00:00"]),
        # Put back: once, the first time.
        ("30 2 * * *", BERLIN, "2026-10-25", ["2026-10-25T02:30+02:00"]),
        ("0 2,3 * * *", BERLIN, "2026-10-25", ["2026-10-25T02:00+02:00", "2026-10-25T03:00+01:00"]),
        ("*/30 2 * * *", BERLIN, "2026-10-25", ["2026-10-25T02:00+02:00", "2026-10-25T02:30+02:00"]),
        ("30 1 * * *", NEW_YORK, "2026-11-01", ["2026-11-01T01:30-04:00"]),
        ("45 1 * * *", LORD_HOWE, "2026-04-05", ["2026-04-05T01:45+11:00"]),
        ("30 0 * * *", AZORES, "2026-10-25", ["2026-10-25T00:30+00:00"]),
        ("30 1 * * *", UTC_ZONE, "2026-10-25", ["2026-10-25T01:30+00:00"]),
    ],
)
def test_a_local_time_runs_once_on_the_day_of_a_shift(
    line: str, where: ZoneInfo, day: str, expected: list[str]
) -> None:
    assert days(line, where, day, 1) == expected


@pytest.mark.parametrize(
    ("where", "day", "hours"),
    [
        (BERLIN, "2026-03-29", 23),
        (BERLIN, "2026-10-25", 25),
        (NEW_YORK, "2026-11-01", 25),
        (UTC_ZONE, "2026-03-29", 24),
    ],
)
def test_a_line_for_every_hour_runs_as_the_hours_pass(where: ZoneInfo, day: str, hours: int) -> None:
    start = datetime.fromisoformat(day).replace(tzinfo=where)
    found, _ = due_between(Cron("0 * * * *", where), start.astimezone(UTC), (start + DAY).astimezone(UTC), 1000)
    assert len(found) == hours
    assert {later - earlier for earlier, later in pairwise(found)} == {HOUR}


def test_each_day_of_a_year_has_one_run_in_every_zone() -> None:
    for where in SHIFTS:
        for line in ("30 2 * * *", "0 0 * * *", "59 23 * * *", "15 1 * * *"):
            rule = Cron(line, where)
            found, _ = due_between(rule, utc("2026-01-01T12:00Z"), utc("2027-01-01T12:00Z"), 1000)
            assert len({each.astimezone(where).date() for each in found}) == len(found) == 365


FIELD = {
    "minute": st.one_of(st.just("*"), st.integers(0, 59).map(str), st.sampled_from(["*/15", "0,30", "10-20", "*/7"])),
    "hour": st.one_of(st.just("*"), st.integers(0, 4).map(str), st.sampled_from(["*/2", "1-3", "0,2", "23", "0-23"])),
    "day": st.sampled_from(["*", "*", "28-30", "1", "*/2"]),
    "month": st.sampled_from(["*", "*", "3,10", "4"]),
    "weekday": st.sampled_from(["*", "*", "SUN", "MON-FRI"]),
}
LINES = st.tuples(*FIELD.values()).map(" ".join)


@given(LINES, st.sampled_from(list(SHIFTS)), st.integers(0, 1), st.integers(-120, 120), st.integers(1, 400))
@example("30 2 * * *", BERLIN, 0, -60, 120)
@example("*/15 * * * *", BERLIN, 1, -120, 300)
@example("30 * * * *", LORD_HOWE, 1, -31, 200)
def test_it_finds_what_somebody_sees_who_looks_at_the_clock_every_minute(
    line: str, where: ZoneInfo, which: int, offset: int, minutes: int
) -> None:
    after = SHIFTS[where][which] + offset * MINUTE
    until = after + minutes * MINUTE
    found, more = due_between(Cron(line, where), after, until, 10_000)
    assert (found, more) == (seen(line, where, after, until), False)


def seen(line: str, where: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
    """Look at the clock of the zone every minute: what it shows, and what it has just skipped, fits the line or not."""
    fits, every_hour = reader(line)
    due = []
    shown: set[datetime] = set()
    # Long enough before to know what was shown once already.
    moment = after - 4 * HOUR
    last = (moment - MINUTE).astimezone(where).replace(tzinfo=None)
    while moment <= until:
        now = moment.astimezone(where).replace(tzinfo=None)
        skipped = [last + n * MINUTE for n in range(1, (now - last) // MINUTE)]
        times = [now] if every_hour else [time for time in [*skipped, now] if time not in shown]
        if any(fits(time) for time in times) and moment > after:
            due.append(moment)
        shown |= {*skipped, now}
        last, moment = now, moment + MINUTE
    return due


def reader(line: str) -> tuple[Callable[[datetime], bool], bool]:
    """Return what tells whether a local time fits the line, written apart from cronsim."""
    names = {"SUN": 0, "MON": 1, "FRI": 5}

    def numbers(field: str, low: int, high: int) -> set[int]:
        found: set[int] = set()
        for part in field.split(","):
            text, _, step = part.partition("/")
            first, _, last = (f"{low}-{high}" if text == "*" else text).partition("-")
            begin, end = (names[word] if word in names else int(word) for word in (first, last or first))
            found |= set(range(begin, end + 1, int(step or 1)))
        return found

    fields = line.split()
    minutes, hours = numbers(fields[0], 0, 59), numbers(fields[1], 0, 23)
    dates, months, weekdays = numbers(fields[2], 1, 31), numbers(fields[3], 1, 12), numbers(fields[4], 0, 6)
    both = fields[2].startswith("*") or fields[4].startswith("*")

    def fits(time: datetime) -> bool:
        date, weekday = time.day in dates, (time.weekday() + 1) % 7 in weekdays
        day = date and weekday if both else date or weekday
        return time.minute in minutes and time.hour in hours and time.month in months and day

    return fits, len(hours) == 24


RULES: list[Rule] = [
    Cron("*/5 * * * *", BERLIN),
    Cron("30 2 * * *", LORD_HOWE),
    Every(7 * 60, utc("2026-01-01T00:03Z")),
    Once(utc("2026-03-29T01:00Z")),
]


@given(st.sampled_from(RULES), st.integers(0, 40_000), st.lists(st.integers(0, 3_000), min_size=1, max_size=20))
def test_however_the_time_is_cut_each_instant_is_found_once(rule: Rule, start: int, parts: list[int]) -> None:
    begin = utc("2026-03-15T00:00Z") + start * MINUTE
    moment, found = begin, []
    for part in parts:
        found += due_between(rule, moment, moment + part * MINUTE, 10_000)[0]
        moment += part * MINUTE
    assert found == due_between(rule, begin, moment, 100_000)[0]
    assert found == sorted(set(found))


@given(st.sampled_from(RULES), st.integers(0, 30_000), st.integers(1, 20))
def test_of_many_it_finds_the_last_ones(rule: Rule, minutes: int, limit: int) -> None:
    after = utc("2026-03-20T00:00Z")
    until = after + minutes * MINUTE
    every, _ = due_between(rule, after, until, 100_000)
    assert due_between(rule, after, until, limit) == (every[-limit:], len(every) > limit)


def test_years_of_downtime_cost_no_more_than_a_day() -> None:
    found, more = due_between(Every(5, utc("2000-01-01T00:00Z")), utc("2000-01-01T00:00Z"), utc("2026-01-01T00:00Z"), 3)
    assert more
    assert found == [utc("2025-12-31T23:59:50Z"), utc("2025-12-31T23:59:55Z"), utc("2026-01-01T00:00:00Z")]


def test_a_clock_that_was_put_back_finds_nothing() -> None:
    for rule in RULES:
        assert due_between(rule, utc("2026-04-01T00:00Z"), utc("2026-03-01T00:00Z"), 100) == ([], False)


def test_an_interval_is_counted_from_its_anchor() -> None:
    rule = Every(90, utc("2026-01-01T00:00:10Z"))
    assert upcoming(rule, utc("2025-01-01T00:00Z"), 2) == [utc("2026-01-01T00:01:40Z"), utc("2026-01-01T00:03:10Z")]
    assert upcoming(rule, utc("2026-01-01T00:01:40Z"), 1) == [utc("2026-01-01T00:03:10Z")]


def test_one_moment_comes_once() -> None:
    at = utc("2026-01-01T00:00Z")
    assert upcoming(Once(at), at - MINUTE, 5) == [at]
    assert upcoming(Once(at), at, 5) == []
    assert due_between(Once(at), at - MINUTE, at, 5) == ([at], False)


def test_leap_days_come_every_four_years() -> None:
    rule = cron("0 3 29 2 *", UTC_ZONE, utc("2026-01-01T00:00Z"))
    assert [each.year for each in upcoming(rule, utc("2026-01-01T00:00Z"), 3)] == [2028, 2032, 2036]


@pytest.mark.parametrize("line", ["0 0 30 2 *", "0 0 31 2,4,6 *", "0 0 31 4 */2"])
def test_a_line_that_is_never_due_is_refused(line: str) -> None:
    with pytest.raises(WrongRule, match="never due"):
        cron(line, BERLIN, utc("2026-01-01T00:00Z"))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "five fields"),
        ("* * * *", "five fields"),
        ("* * * * * *", "five fields"),
        ("@daily", "five fields"),
        (f"{'0,' * 100}0 * * * *", "five fields"),
        ("60 * * * *", "its minute"),
        ("0 24 * * *", "its hour"),
        ("0 0 32 * *", "its day-of-month"),
        ("0 0 0 * *", "its day-of-month"),
        ("0 0 1 13 *", "its month"),
        ("0 0 * * 8", "its day-of-week"),
        ("0-60/5 * * * *", "its minute"),
        ("*/0 * * * *", "its minute"),
        ("5-1 * * * *", "its minute"),
        ("٣ * * * *", "its minute"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused(line: str, why: str) -> None:
    with pytest.raises(WrongRule, match=why):
        cron(line, BERLIN, utc("2026-01-01T00:00Z"))


@given(st.lists(st.text("0123456789*/,-LWMONSU#? x", max_size=8), min_size=4, max_size=6).map(" ".join) | st.text())
def test_any_text_is_a_rule_or_refused(line: str) -> None:
    try:
        rule = cron(line, BERLIN, utc("2026-01-01T00:00Z"))
    except WrongRule:
        return
    assert upcoming(rule, utc("2026-01-01T00:00Z"), 1)[0] > utc("2026-01-01T00:00Z")


@pytest.mark.parametrize(
    "name", ["", "Mars/Base", "../etc/passwd", "/etc/passwd", "Europe", "a\0b", "x" * 5000, "Europe/"]
)
def test_a_time_zone_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(WrongRule, match="time zone"):
        zone(name)
