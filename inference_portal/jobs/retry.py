"""The one place that decides what happens after a failed attempt. Pure."""

from dataclasses import dataclass

from inference_portal.jobs.states import Event
from workers.contract import ErrorCode
from workers.manifest import Policy

# Somebody died of it, but who? Of a bundle it may be any job, and a broker's restart looks the same.
SUSPECT = frozenset({ErrorCode.WORKER_LOST, ErrorCode.TIMED_OUT, ErrorCode.LEASE_EXPIRED})
# What may be different next time. Everything else is wrong data or a wrong model, and stays wrong.
TRANSIENT = SUSPECT | {ErrorCode.MODEL_UNAVAILABLE, ErrorCode.MESSAGE_REFUSED, ErrorCode.OUT_OF_MEMORY}
MAX_DELAY_SECONDS = 600.0
# A worker that lacks a model, or is too old for a message, says so at once, and would soon have used up all attempts
# while others could serve it.
ELSEWHERE = frozenset({ErrorCode.MODEL_UNAVAILABLE, ErrorCode.MESSAGE_REFUSED})
ELSEWHERE_SECONDS = 10.0
# An upgrade takes its time, and the job has nothing to do with it: so many tries are about half an hour.
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


def decide(code: ErrorCode, *, failures: int, isolated: bool, policy: Policy, jitter: float) -> Decision:
    """Decide after an attempt failed with `code`, `failures` counted ones before it; `jitter` is random in [0, 1).

    Exponential backoff with equal jitter: between half and all of backoff x 2^failures, at most ten minutes.
    A suspect is tried again at once, alone; only what happens to it there counts against it.
    """
    if code is ErrorCode.EXPIRED:
        return Decision(Event.EXPIRE, counts=False)
    if code not in TRANSIENT:
        return Decision(Event.FAIL)
    if code in SUSPECT and not isolated:
        return Decision(Event.RETRY, isolate=True, counts=False)
    refused = code is ErrorCode.MESSAGE_REFUSED
    if failures + 1 >= (max(policy.attempts, REFUSED_ATTEMPTS) if refused else policy.attempts):
        return Decision(Event.GIVE_UP)
    base = policy.backoff_seconds
    if code in ELSEWHERE:
        base = max(base, ELSEWHERE_SECONDS)
    full = min(base * 2**failures, MAX_DELAY_SECONDS)
    return Decision(Event.RETRY, full * (0.5 + jitter / 2), isolate=isolated)
