"""The one place that decides what happens after a failed attempt. Pure."""

from dataclasses import dataclass

from inference_portal.jobs.states import Event
from workers.contract import ErrorCode
from workers.manifest import Policy

# Somebody died of it, but who? Of a bundle it may be any job, and a broker's restart looks the same.
SUSPECT = frozenset({ErrorCode.WORKER_LOST, ErrorCode.TIMED_OUT, ErrorCode.LEASE_EXPIRED})
# What may be different next time. Everything else is wrong data or a wrong model, and stays wrong.
TRANSIENT = SUSPECT | {
    ErrorCode.MODEL_UNAVAILABLE,
    ErrorCode.MESSAGE_REFUSED,
    ErrorCode.OUT_OF_MEMORY,
    ErrorCode.STORAGE_AWAY,
    ErrorCode.CONTAINER_UNAVAILABLE,
}
MAX_DELAY_SECONDS = 600.0
# A worker that lacks a model, is too old for a message, or finds no container or storage says so at once, and would
# soon have used up all attempts while others could serve it, or while the container starts again.
ELSEWHERE = frozenset(
    {
        ErrorCode.MODEL_UNAVAILABLE,
        ErrorCode.MESSAGE_REFUSED,
        ErrorCode.STORAGE_AWAY,
        ErrorCode.CONTAINER_UNAVAILABLE,
    }
)
ELSEWHERE_SECONDS = 10.0
# An upgrade, or a storage that is away, takes its time, and the job has nothing to do with it: so many of these in a
# row take about half an hour.
BLAMELESS = frozenset({ErrorCode.MESSAGE_REFUSED, ErrorCode.STORAGE_AWAY})
REFUSED_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Decision:
    """The event to apply. For a retry: the seconds to wait before it, and whether the job is tried alone from now on.

    `counts` says whether the attempt is one of those that the model's policy allows.
    """

    event: Event
    delay: float = 0.0
    isolate: bool = False
    counts: bool = True


def decide(
    code: ErrorCode, *, failures: int, isolated: bool, policy: Policy, jitter: float, refusals: int = 0
) -> Decision:
    """Decide after an attempt failed with `code`, `failures` counted ones before it; `jitter` is random in [0, 1).

    Exponential backoff with equal jitter: between half and all of backoff x 2^failures, at most ten minutes.
    A suspect is tried again at once, alone; only what happens to it there counts against it. What is BLAMELESS never
    does: that has a limit of its own, with `refusals` before it one after the other.
    """
    if code is ErrorCode.EXPIRED:
        return Decision(Event.EXPIRE, counts=False)
    if code not in TRANSIENT:
        return Decision(Event.FAIL)
    if code in SUSPECT and not isolated:
        return Decision(Event.RETRY, isolate=True, counts=False)
    counts = code not in BLAMELESS
    before, most = (failures, policy.attempts) if counts else (refusals, REFUSED_ATTEMPTS)
    if before + 1 >= most:
        return Decision(Event.GIVE_UP, counts=counts)
    base = policy.backoff_seconds
    if code in ELSEWHERE:
        base = max(base, ELSEWHERE_SECONDS)
    full = min(base * 2**before, MAX_DELAY_SECONDS)
    return Decision(Event.RETRY, full * (0.5 + jitter / 2), isolate=isolated, counts=counts)
