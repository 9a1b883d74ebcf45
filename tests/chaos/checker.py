"""What was promised against what is there: each difference is one line in plain words. Pure; `evidence` collects."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np

from inference_portal.jobs.states import FINAL
from tests.chaos.effects import Effect
from tests.chaos.ledger import Entry

# (model, number of the first sample, number of samples) -> what the model itself says.
Expected = Callable[[str, int, int], np.ndarray]


@dataclass(frozen=True, slots=True)
class JobRow:
    """One row of the jobs' table."""

    id: UUID
    model: str
    state: str
    attempt: int
    result: bytes | None
    error: str = ""

    @property
    def is_final(self) -> bool:
        """Tell whether the job has ended."""
        return self.state in FINAL


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One failed attempt."""

    job: UUID
    number: int
    code: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that tells what has happened: the ledger, the database, and what the broker still holds."""

    entries: list[Entry]
    jobs: dict[UUID, JobRow]
    effects: list[Effect]
    attempts: list[AttemptRow]
    # Messages left in each queue; -1: there is no such queue.
    queues: dict[str, int] = field(default_factory=dict)
    # Messages that the portal found in the dead letters and could not read.
    parked: int = 0


def violations(
    evidence: Evidence, expected: Expected, *, broker_alone: bool = False, parked: int = 0, poison: bool = False
) -> list[str]:
    """Return every broken promise; none if all is well.

    `broker_alone` declares that nothing had to wait for a lease: the broker's redelivery brings everything back, so an
    attempt that ended with its lease means that a message was lost. `parked` messages were garbage from the start.
    `poison` declares that each job kills whoever runs it: all must end as dead letters.
    """
    found = [
        *_lost(evidence),
        *_open(evidence),
        *_ended_otherwise(evidence, "dead_lettered" if poison else "succeeded"),
        *_wrong(evidence, expected),
        *_not_once(evidence),
        *_left_over(evidence),
    ]
    if broker_alone:
        found += _waited_for_a_lease(evidence)
    if evidence.parked != parked:
        found.append(f"parked: {evidence.parked} unreadable messages are parked, {parked} were sent")
    return found


def _lost(evidence: Evidence) -> Iterator[str]:
    for entry in evidence.entries:
        if entry.id not in evidence.jobs:
            yield f"lost: job {entry.id} was accepted and has no row"
    for job_id, count in Counter(entry.id for entry in evidence.entries).items():
        if count > 1:
            yield f"accepted twice: {count} requests were answered with the id {job_id}"


def _open(evidence: Evidence) -> Iterator[str]:
    promised = {entry.id for entry in evidence.entries}
    for job in evidence.jobs.values():
        if not job.is_final:
            whose = "" if job.id in promised else " (its client never got the 202)"
            yield f"stuck: job {job.id} is still {job.state} in attempt {job.attempt}{whose}{_history(evidence, job)}"


def _ended_otherwise(evidence: Evidence, right: str) -> Iterator[str]:
    for job in evidence.jobs.values():
        if job.is_final and job.state != right:
            yield f"unexpected end: job {job.id} is {job.state} ({job.error}){_history(evidence, job)}"


def _wrong(evidence: Evidence, expected: Expected) -> Iterator[str]:
    for entry in evidence.entries:
        job = evidence.jobs.get(entry.id)
        if job is None or job.state != "succeeded":
            continue
        right = np.asarray(expected(entry.model, entry.first, entry.rows), dtype=np.float32)
        if job.model != entry.model:
            yield f"wrong: job {entry.id} was for {entry.model}, its row says {job.model}"
        elif _probability(job.result).tobytes() != right.tobytes():
            text = (job.result or b"").decode(errors="replace")
            asked = f"{entry.rows} rows of {entry.model} from {entry.first}"
            yield f"wrong: job {entry.id} ({asked}) has {text}, right is {right.tolist()}"


def _not_once(evidence: Evidence) -> Iterator[str]:
    by_job = defaultdict(list)
    for effect in evidence.effects:
        by_job[effect.job].append(effect)
    for job_id, effects in by_job.items():
        if len(effects) > 1:
            steps = ", ".join(f"attempt {e.attempt} {e.old_state} to {e.new_state} at {e.written:.3f}" for e in effects)
            yield f"applied twice: job {job_id} has {len(effects)} final effects: {steps}"
        if job_id not in evidence.jobs:
            yield f"lost: job {job_id} had an effect and has no row now"
    for job in evidence.jobs.values():
        if job.is_final and job.id not in by_job:
            yield f"unseen: job {job.id} is {job.state}, and no effect was logged"


def _left_over(evidence: Evidence) -> Iterator[str]:
    for queue, messages in evidence.queues.items():
        if messages < 0:
            yield f"left over: the queue {queue} is gone"
        elif messages:
            yield f"left over: {messages} messages in the queue {queue}"


def _waited_for_a_lease(evidence: Evidence) -> Iterator[str]:
    for attempt in evidence.attempts:
        if attempt.code == "lease-expired":
            yield (
                f"lease: a message was lost, the lease had to bring it back: job {attempt.job}, attempt "
                f"{attempt.number} ({attempt.message})"
            )


def _history(evidence: Evidence, job: JobRow) -> str:
    attempts = sorted((a for a in evidence.attempts if a.job == job.id), key=lambda a: a.number)
    return f"; failed attempts: {', '.join(f'{a.number} {a.code}' for a in attempts)}" if attempts else ""


def _probability(result: bytes | None) -> np.ndarray:
    """Return the numbers of the tensor `probability`; whatever else is stored there equals no prediction."""
    try:
        tensors = {tensor["name"]: tensor for tensor in json.loads(result or b"")}
        return np.array(tensors["probability"]["data"], dtype=np.float32)
    except (ValueError, LookupError, TypeError):
        return np.array([], dtype=np.float32)
