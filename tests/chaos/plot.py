"""Numbers over time as one line of text."""

from collections.abc import Sequence
from statistics import fmean

BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """Return `width` bars from zero to the largest value; each is the mean of what falls on it."""
    if not values:
        return ""
    width = min(width, len(values))
    means = [fmean(values[i * len(values) // width : (i + 1) * len(values) // width]) for i in range(width)]
    top = max(means) or 1.0
    return "".join(BARS[round(mean / top * (len(BARS) - 1))] for mean in means)


def line(name: str, values: Sequence[float], unit: str = "") -> str:
    """Return a sparkline with its name, its first and its last value, and its peak."""
    return f"{name:<12} {sparkline(values)} {values[0]:,.0f} to {values[-1]:,.0f}{unit}, peak {max(values):,.0f}{unit}"
