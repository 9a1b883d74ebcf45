"""The state machine of a delivery: one table, like that of the jobs."""

from enum import StrEnum


class State(StrEnum):
    """Where a delivery is. `retrying` waits for its next try; `disabled`: its endpoint was turned off before it came
    to it."""

    PENDING = "pending"
    DELIVERING = "delivering"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    FAILED = "failed"
    DISABLED = "disabled"


class Event(StrEnum):
    """What can happen to a delivery."""

    CLAIM = "claim"
    SUCCEED = "succeed"
    RETRY = "retry"
    GIVE_UP = "give_up"
    DISABLE = "disable"
    REDELIVER = "redeliver"


WAITING = frozenset({State.PENDING, State.RETRYING})
OPEN = WAITING | {State.DELIVERING}
DONE = frozenset(State) - OPEN

# event -> (from any of these states, to this state)
TRANSITIONS: dict[Event, tuple[frozenset[State], State]] = {
    # A courier has it in hand, until its lease is over.
    Event.CLAIM: (WAITING, State.DELIVERING),
    Event.SUCCEED: (frozenset({State.DELIVERING}), State.DELIVERED),
    # Also of one whose courier was lost: nobody knows whether it arrived.
    Event.RETRY: (frozenset({State.DELIVERING}), State.RETRYING),
    # Also of one that waits for a receiver which has answered nobody for too long.
    Event.GIVE_UP: (OPEN, State.FAILED),
    Event.DISABLE: (OPEN, State.DISABLED),
    # Somebody wants it sent again.
    Event.REDELIVER: (DONE, State.PENDING),
}


def sources(event: Event) -> frozenset[State]:
    """Return the states in which the event changes a delivery."""
    return TRANSITIONS[event][0]


def target(event: Event) -> State:
    """Return the state that the event leads to."""
    return TRANSITIONS[event][1]
