"""What was promised against what is there: each difference is one line in plain words. Pure; `evidence` collects."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np

from inference_portal.jobs.states import FINAL
from tests.chaos.effects import Effect
from tests.chaos.ledger import Entry

# (model, number of the first sample, number of samples) -> what the model itself says: each output by its name.
Expected = Callable[[str, int, int], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class JobRow:
    """One row of the jobs' table."""

    id: UUID
    model: str
    state: str
    attempt: int
    result: bytes | None
    error: str = ""
    # The bytes of its input.
    input_size: int = 0
    idempotency_key: str = ""
    has_ttl: bool = False
    # Of its attempts, those that the model's policy has counted.
    failures: int = 0

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
    # Messages left in each queue, delivered ones too; -1: there is no such queue.
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
        *_doubled(evidence),
        *_open(evidence),
        *_ended_otherwise(evidence, poison),
        *_wrong(evidence, expected),
        *_kept(evidence),
        *_not_once(evidence),
        *_too_early(evidence),
        *_out_of_order(evidence),
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


def _doubled(evidence: Evidence) -> Iterator[str]:
    """Requests under one name are one job, all others are each their own."""
    requests: dict[UUID, list[str]] = defaultdict(list)
    jobs: dict[str, set[UUID]] = defaultdict(set)
    for entry in evidence.entries:
        requests[entry.id].append(entry.name)
        if entry.name:
            jobs[entry.name].add(entry.id)
    for row in evidence.jobs.values():
        if row.idempotency_key:
            jobs[row.idempotency_key].add(row.id)
    for job_id, names in requests.items():
        if len(names) > 1 and ("" in names or len(set(names)) > 1):
            yield f"accepted twice: {len(names)} requests were answered with the id {job_id}"
    for name, ids in jobs.items():
        if len(ids) > 1:
            yield f"accepted twice: {len(ids)} jobs have the name {name}: {', '.join(map(str, sorted(ids)))}"


def _open(evidence: Evidence) -> Iterator[str]:
    promised = {entry.id for entry in evidence.entries}
    for job in evidence.jobs.values():
        if not job.is_final:
            whose = "" if job.id in promised else " (its client never got the 202)"
            yield f"stuck: job {job.id} is still {job.state} in attempt {job.attempt}{whose}{_history(evidence, job)}"


def _ended_otherwise(evidence: Evidence, poison: bool) -> Iterator[str]:
    may_end = {entry.id: entry.may_end for entry in evidence.entries}
    for job in evidence.jobs.values():
        # What its client has never heard of, it has told nothing either.
        right = may_end.get(job.id, ("succeeded", "expired") if job.has_ttl else ("succeeded",))
        if poison:
            right = ("dead_lettered",)
        if job.is_final and job.state not in right:
            history = _history(evidence, job)
            yield f"unexpected end: job {job.id} is {job.state} ({job.error}), not {' or '.join(right)}{history}"


def _wrong(evidence: Evidence, expected: Expected) -> Iterator[str]:
    for entry in evidence.entries:
        job = evidence.jobs.get(entry.id)
        if job is None or job.state != "succeeded" or not entry.keeps_result:
            continue
        if job.model != entry.model:
            yield f"wrong: job {entry.id} was for {entry.model}, its row says {job.model}"
            continue
        right = {name: _comparable(data) for name, data in expected(entry.model, entry.first, entry.rows).items()}
        if _outputs(job.result) != right:
            text = (job.result or b"").decode(errors="replace")
            asked = f"{entry.rows} rows of {entry.model} from {entry.first}"
            yield f"wrong: job {entry.id} ({asked}) has {text}, right is {right}"


def _kept(evidence: Evidence) -> Iterator[str]:
    for entry in evidence.entries:
        job = evidence.jobs.get(entry.id)
        if job is None or job.state != "succeeded" or entry.keeps_result:
            continue
        if job.result is not None or job.input_size:
            yield f"kept: job {entry.id} was fire and forget, and its result or its input is still there"


def _not_once(evidence: Evidence) -> Iterator[str]:
    """One end for each time that a job was put into the queue, each in another attempt."""
    reruns = {entry.id: entry.reruns for entry in evidence.entries}
    by_job = defaultdict(list)
    for effect in evidence.effects:
        by_job[effect.job].append(effect)
    for job_id, effects in by_job.items():
        steps = ", ".join(f"attempt {e.attempt} {e.old_state} to {e.new_state} at {e.written:.3f}" for e in effects)
        ends = [effect for effect in effects if not effect.reopens]
        reopened = len(effects) - len(ends)
        if len(ends) > reopened + 1 or len({end.attempt for end in ends}) < len(ends):
            yield f"applied twice: job {job_id} has {len(ends)} final effects: {steps}"
        if reopened > reruns.get(job_id, 0):
            yield f"opened again: job {job_id} went on after its end, {reopened} times: {steps}"
        if job_id not in evidence.jobs:
            yield f"lost: job {job_id} had an effect and has no row now"
    for job in evidence.jobs.values():
        if job.is_final and (not by_job[job.id] or by_job[job.id][-1].reopens):
            yield f"unseen: job {job.id} is {job.state}, and no effect was logged"


def _too_early(evidence: Evidence) -> Iterator[str]:
    ends = {entry.id: entry.time + entry.ttl for entry in evidence.entries if entry.ttl is not None}
    for effect in evidence.effects:
        if effect.new_state == "expired" and effect.written < ends.get(effect.job, 0.0):
            early = ends[effect.job] - effect.written
            yield f"too early: job {effect.job} expired {early:.3f} s before its time to live was over"


def _out_of_order(evidence: Evidence) -> Iterator[str]:
    """A job that was accepted before another one of its order was even asked for must have ended before it."""
    ended = {effect.job: number for number, effect in enumerate(evidence.effects)}
    orders: dict[str, list[Entry]] = defaultdict(list)
    for entry in evidence.entries:
        if entry.order and entry.id in ended:
            orders[entry.order].append(entry)
    for order, entries in orders.items():
        for later in entries:
            for earlier in entries:
                if earlier.accepted < later.time and ended[earlier.id] > ended[later.id]:
                    yield f"out of order: job {later.id} of {order} ended before job {earlier.id}, accepted earlier"


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


def _outputs(result: bytes | None) -> dict[str, Any]:
    """Return the stored outputs in a form to compare; what can't be read equals no prediction."""
    try:
        return {tensor["name"]: _comparable(_data(tensor)) for tensor in json.loads(result or b"")}
    except (ValueError, LookupError, TypeError):
        return {}


def _data(tensor: dict[str, Any]) -> Any:
    if tensor["datatype"] != "FP32":
        return tensor["data"] if tensor["shape"] == [len(tensor["data"])] else None
    return np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])


def _comparable(data: Any) -> Any:
    """Numbers are equal if all their bits are, in an array of the same shape."""
    if isinstance(data, np.ndarray):
        return data.shape, data.astype(np.float32).tobytes()
    return data
