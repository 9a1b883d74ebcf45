"""The one place that decides what happens after a failed attempt. Pure."""

from dataclasses import dataclass

from inference_portal.jobs.states import Event
from workers.contract import ErrorCode
from workers.manifest import Policy

# What may be different next time. Everything else is wrong data or a wrong model, and stays wrong.
TRANSIENT = frozenset({ErrorCode.MODEL_UNAVAILABLE, ErrorCode.OUT_OF_MEMORY, ErrorCode.LEASE_EXPIRED})
MAX_DELAY_SECONDS = 600.0
# A worker that lacks a model answers at once, and would soon have used up all attempts while others could serve it.
MODEL_UNAVAILABLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Decision:
    """The event to apply, and for a retry the seconds to wait before it."""

    event: Event
    delay: float = 0.0


def decide(code: ErrorCode, attempt: int, policy: Policy, jitter: float) -> Decision:
    """Decide after attempt number `attempt` (from 1) failed with `code`; `jitter` is a random number in [0, 1).

    Exponential backoff with equal jitter: between half and all of backoff x 2^(attempt - 1), at most ten minutes.
    """
    if code not in TRANSIENT:
        return Decision(Event.FAIL)
    if attempt >= policy.attempts:
        return Decision(Event.GIVE_UP)
    base = policy.backoff_seconds
    if code is ErrorCode.MODEL_UNAVAILABLE:
        base = max(base, MODEL_UNAVAILABLE_SECONDS)
    full = min(base * 2 ** (attempt - 1), MAX_DELAY_SECONDS)
    return Decision(Event.RETRY, full * (0.5 + jitter / 2))
