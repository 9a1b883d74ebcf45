"""The state machine of a job: one table. Pure Python; docs and tests are generated from it.

A change of state is one UPDATE filtered on id, attempt and the table's source states. No row changed is a normal
outcome: somebody else was first, or the message was late.
"""

from enum import StrEnum


class State(StrEnum):
    """Where a job is. `retrying` waits for its next attempt."""

    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DEAD_LETTERED = "dead_lettered"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Event(StrEnum):
    """What can happen to a job."""

    DISPATCH = "dispatch"
    START = "start"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY = "retry"
    GIVE_UP = "give_up"
    CANCEL = "cancel"
    EXPIRE = "expire"
    REPLAY = "replay"
    RERUN = "rerun"


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.DEAD_LETTERED, State.CANCELLED, State.EXPIRED})
OPEN = frozenset(State) - FINAL
# Between claim and result: the states from which a worker's message may move a job.
IN_FLIGHT = frozenset({State.QUEUED, State.RUNNING})

# event -> (from any of these states, to this state)
TRANSITIONS: dict[Event, tuple[frozenset[State], State]] = {
    # The dispatcher claims it: a message for this attempt is on its way.
    Event.DISPATCH: (frozenset({State.QUEUED, State.RETRYING}), State.QUEUED),
    # A worker says that it takes a while.
    Event.START: (frozenset({State.QUEUED}), State.RUNNING),
    Event.SUCCEED: (IN_FLIGHT, State.SUCCEEDED),
    # The data or the model is wrong: trying again can't help.
    Event.FAIL: (IN_FLIGHT, State.FAILED),
    # This attempt is over, another one may succeed.
    Event.RETRY: (IN_FLIGHT, State.RETRYING),
    # The last attempt is over.
    Event.GIVE_UP: (IN_FLIGHT, State.DEAD_LETTERED),
    Event.CANCEL: (OPEN, State.CANCELLED),
    # Its time to live is over and no worker has started it.
    Event.EXPIRE: (OPEN - {State.RUNNING}, State.EXPIRED),
    # An operator has looked at a dead letter and tries it again.
    Event.REPLAY: (frozenset({State.DEAD_LETTERED}), State.QUEUED),
    # Its team wants it after all.
    Event.RERUN: (FINAL - {State.SUCCEEDED}, State.QUEUED),
}


def sources(event: Event) -> frozenset[State]:
    """Return the states in which the event changes a job."""
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
