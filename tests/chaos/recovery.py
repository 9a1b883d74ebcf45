"""How soon the system recovered from each blow. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.chaos.effects import Effect
from tests.chaos.ledger import Entry
from tests.chaos.monkey import Blow


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds: the middle, the 99th of a hundred, and the longest, of `count` values."""

    count: int
    p50: float
    p99: float
    longest: float

    def __str__(self) -> str:
        return f"p50 {self.p50:.1f} s, p99 {self.p99:.1f} s, max {self.longest:.1f} s"


def spread(values: Iterable[float]) -> Spread:
    """Describe some numbers; all zero if there are none."""
    ordered = sorted(values)
    if not ordered:
        return Spread(0, 0.0, 0.0, 0.0)
    last = len(ordered) - 1
    return Spread(len(ordered), ordered[round(last * 0.5)], ordered[round(last * 0.99)], ordered[-1])


def recovery(blows: Sequence[Blow], entries: Sequence[Entry], effects: Sequence[Effect]) -> dict[str, Spread]:
    """Return for each kind of victim and for all kills: until it was back, and until a job asked for later was done."""
    # What was cancelled tells nothing about workers, and a repeat asks for nothing new.
    written = {effect.job: effect.written for effect in effects if effect.new_state == "succeeded"}
    asked = {entry.id: entry.time for entry in reversed(entries)}
    done = [(time, written[job]) for job, time in asked.items() if job in written]
    kills = [blow for blow in blows if blow.kills and blow.struck is not None]
    groups = {"all": kills} | {victim: [b for b in kills if b.victim == victim] for victim in _victims(kills)}
    return {
        f"{name}, {what}": spread(value for blow in group if (value := measure(blow)) is not None)
        for name, group in groups.items()
        for what, measure in (("back", lambda b: b.back), ("a new job done", lambda b: _first_done(b, done)))
    }


def as_json(spreads: dict[str, Spread]) -> dict[str, Any]:
    """Return the figures for a report file."""
    return {name: asdict(value) for name, value in spreads.items()}


def _victims(blows: Sequence[Blow]) -> list[str]:
    return sorted({blow.victim for blow in blows})


def _first_done(blow: Blow, done: Sequence[tuple[float, float]]) -> float | None:
    assert blow.struck is not None
    return min((end - blow.struck for asked, end in done if asked >= blow.struck), default=None)
