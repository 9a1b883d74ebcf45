"""How far a batch is, for people and programs."""

from dataclasses import dataclass
from datetime import datetime

from inference_portal.batches.models import Batch


@dataclass(frozen=True, slots=True)
class Pace:
    """By the estimate of the present attempt: None until rows are done, and once the batch has ended."""

    rows_per_second: float | None
    seconds_left: float | None


def pace(batch: Batch, now: datetime) -> Pace:
    """Return how fast it goes, and how long it will take."""
    if batch.eta is None or batch.pace is None or batch.is_final:
        return Pace(None, None)
    return Pace(batch.pace, max(0.0, (batch.eta - now).total_seconds()))


def percent(batch: Batch) -> float:
    """Return how much of its rows are through; 0 until they are counted."""
    return 100.0 * batch.rows_done / batch.rows_total if batch.rows_total else 0.0


def pace_text(batch: Batch, now: datetime) -> str:
    """Return the rows a second and the time left, "" while nobody knows."""
    known = pace(batch, now)
    parts = [] if known.rows_per_second is None else [f"{known.rows_per_second:,.0f} rows/s"]
    if known.seconds_left is not None:
        parts.append(f"{_time_text(known.seconds_left)} left")
    return ", ".join(parts)


def rows_text(batch: Batch) -> str:
    """Return how many of how many rows, and how many of them failed."""
    total = "?" if batch.rows_total is None else f"{batch.rows_total:,}"
    return f"{batch.rows_done:,} of {total} rows" + (f", {batch.rows_failed:,} failed" if batch.rows_failed else "")


def _time_text(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
