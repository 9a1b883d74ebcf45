"""Times for people: UTC, and as exact as is useful."""

from datetime import UTC, datetime


def moment_text(moment: datetime | None) -> str:
    """Return a time to the second, in UTC; a dash for none."""
    return "–" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def duration_text(start: datetime | None, end: datetime | None) -> str:
    """Return the time between two clocks, which may differ a little: never negative. A dash when one is missing."""
    if start is None or end is None:
        return "–"
    seconds = max(0.0, (end - start).total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
