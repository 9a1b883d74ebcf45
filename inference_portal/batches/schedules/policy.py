"""What becomes of instants that are due: run or skipped. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

# The newest instant is on time if it is seen so soon: a restart of the processes loses no run.
GRACE = timedelta(minutes=5)
# Of the instants that nobody saw in time so many are looked at; the ones before are told of in one word.
MAX_MISSED = 100
# More runs of a schedule never wait for each other.
MAX_WAITING = 100


class CatchUp(StrEnum):
    """What becomes of the runs that were due while the system was away."""

    SKIP = "skip"
    LATEST = "latest"
    ALL = "all"


class Overlap(StrEnum):
    """What becomes of a run that is due while an earlier one of the schedule is under way."""

    SKIP = "skip"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True)
class Decision:
    """One instant: it runs, or it is skipped and `why` says why."""

    due_at: datetime
    runs: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Situation:
    """How it is when instants are due: `busy` when a run is under way or waits, `waiting` how many wait."""

    now: datetime
    catch_up: CatchUp
    overlap: Overlap
    busy: bool = False
    waiting: int = 0


def decide(due: list[datetime], are_more: bool, situation: Situation) -> list[Decision]:
    """Return a decision for each instant, in their order; `are_more` says that there are earlier ones, too."""
    catch_up, room = situation.catch_up, MAX_WAITING - situation.waiting
    decisions: list[Decision] = []
    # From the newest on: where not all have room it is the oldest that go.
    for place, instant in enumerate(reversed(due)):
        on_time = place == 0 and situation.now - instant <= GRACE
        wanted = on_time or catch_up is CatchUp.ALL or (catch_up is CatchUp.LATEST and place == 0)
        # What is caught up on waits for its turn, whatever the overlap.
        overlaps = situation.busy and situation.overlap is Overlap.SKIP and (on_time or catch_up is not CatchUp.ALL)
        if not wanted:
            newer = " and a later one as well" if place else ""
            why = f"nobody saw it in time{newer}; catch_up is '{catch_up}'"
        elif overlaps:
            why = "the run before it was still under way; overlap is 'skip'"
        elif room <= 0:
            why = f"{MAX_WAITING} runs of this schedule were waiting already"
        else:
            room, why = room - 1, ""
        decisions.append(Decision(instant, not why, why))
    decisions.reverse()
    if are_more and decisions:
        first = decisions[0]
        told = "the ones before it were skipped: more were due than are looked at"
        decisions[0] = Decision(first.due_at, first.runs, f"{first.why}; {told}" if first.why else told)
    return decisions
