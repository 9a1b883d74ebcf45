"""When a run will be through, by its pace or that of the run before, and whether that is too late. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

# Nobody plans for what takes longer, and a date has an end.
FARTHEST = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: `rows` of all, `done` now, `before` when its attempt began to get rows done, at `begun`."""

    rows: int
    done: int
    before: int = 0
    begun: datetime | None = None


def rows_per_second(progress: Progress, now: datetime) -> float | None:
    """Return the pace of the attempt; None before its first rows are done."""
    seconds = 0.0 if progress.begun is None else (now - progress.begun).total_seconds()
    done = progress.done - progress.before
    return done / seconds if seconds > 0 and done > 0 else None


def estimate(progress: Progress, now: datetime, known: float | None = None) -> datetime | None:
    """Return when the last row will be done; before the first rows are, by a pace (rows a second) that is known.

    None without any, or before the rows are counted. It waits for nothing: see `is_at_risk`.
    """
    pace = rows_per_second(progress, now) or known
    if pace is None or not progress.rows:
        return None
    left = max(0, progress.rows - progress.done)
    return now + min(FARTHEST, timedelta(seconds=min(left / pace, FARTHEST.total_seconds())))


def is_at_risk(*, deadline: datetime | None, eta: datetime | None, has_workers: bool) -> bool:
    """Tell whether the deadline will be missed as things are: by the pace, or because nobody has begun nor can."""
    if deadline is None:
        return False
    return not has_workers if eta is None else eta > deadline
