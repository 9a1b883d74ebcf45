"""The state machine of a batch: one table. Pure Python; docs and tests are generated from it.

A change of state is one UPDATE filtered on id, attempt and the table's source states, as with jobs.
"""

from enum import StrEnum


class State(StrEnum):
    """Where a batch is. `queued` waits for its plan; `partial` has an output in which some rows failed."""

    QUEUED = "queued"
    RUNNING = "running"
    MERGING = "merging"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What can happen to a batch."""

    START = "start"
    ANEW = "anew"
    MERGE = "merge"
    SUCCEED = "succeed"
    SUCCEED_PARTLY = "succeed_partly"
    FAIL = "fail"
    CANCEL = "cancel"
    RESUME = "resume"
    RERUN = "rerun"


FINAL = frozenset({State.SUCCEEDED, State.PARTIAL, State.FAILED, State.CANCELLED})
OPEN = frozenset(State) - FINAL

# event -> (from any of these states, to this state)
TRANSITIONS: dict[Event, tuple[frozenset[State], State]] = {
    # The plan has come: its chunks are known.
    Event.START: (frozenset({State.QUEUED}), State.RUNNING),
    # A chunk failed and the policy is `all`: the next attempt begins with a plan of its own.
    Event.ANEW: (frozenset({State.RUNNING}), State.QUEUED),
    # Every chunk is through, and few enough rows failed.
    Event.MERGE: (frozenset({State.RUNNING}), State.MERGING),
    Event.SUCCEED: (frozenset({State.MERGING}), State.SUCCEEDED),
    Event.SUCCEED_PARTLY: (frozenset({State.MERGING}), State.PARTIAL),
    Event.FAIL: (OPEN, State.FAILED),
    Event.CANCEL: (OPEN, State.CANCELLED),
    # Its team wants what failed again: the chunks that are done stay.
    Event.RESUME: (FINAL - {State.SUCCEEDED}, State.RUNNING),
    # Or all of it.
    Event.RERUN: (FINAL, State.QUEUED),
}


def sources(event: Event) -> frozenset[State]:
    """Return the states in which the event changes a batch."""
    return TRANSITIONS[event][0]


def target(event: Event) -> State:
    """Return the state that the event leads to."""
    return TRANSITIONS[event][1]


def diagram() -> str:
    """Return the table as a Mermaid state diagram for the docs."""
    lines = ["stateDiagram-v2", "    [*] --> queued: submit"]
    for event, (origins, goal) in TRANSITIONS.items():
        lines += [f"    {origin} --> {goal}: {event}" for origin in State if origin in origins and origin != goal]
    lines += [f"    {state} --> [*]" for state in State if state in FINAL]
    return "\n".join(lines)
