"""Batches in each situation, and somebody who plays their workers: results come as from a worker's message."""

import socket
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Role, Team
from inference_portal.batches.advance import advance
from inference_portal.batches.models import Batch
from inference_portal.batches.services import batch_accept, batch_new
from inference_portal.jobs.claims import mark_sent
from inference_portal.jobs.models import Job
from inference_portal.jobs.record import record_result
from inference_portal.jobs.turns import Lane
from tests.integration import rows
from workers.contract import BundleResult, ErrorCode, Failure, Outcome, Run

LANES = {Lane("batch", False): 64, Lane("batch", True): 64}
URI = "store://uploads/{}/x/rows.parquet"
# What a step says instead of a result.
Broken = ErrorCode | dict[str, Any]


def caller(team: Team, role: Role = Role.SUBMITTER) -> Caller:
    """Somebody of the team."""
    return Caller(team.id, role, "somebody")


def make_batch(team: Team, **fields: Any) -> Batch:
    """Submit a batch for the wine model."""
    usual: dict[str, Any] = {"model": "wine", "input": {"uri": URI.format(team.id)}, "chunk_rows": 10}
    batch = batch_new(caller=caller(team), **(usual | fields))
    batch_accept(batch=batch)
    return batch


@dataclass
class Worker:
    """Has a data set of so many rows, and does steps until told otherwise.

    `broken` says what goes wrong with a step (or with the chunk of a number), one entry for each time that it is tried;
    `faults` how many rows of a chunk fail.
    """

    rows: int = 35
    broken: dict[str | int, list[Broken]] = field(default_factory=lambda: defaultdict(list))
    faults: dict[int, int] = field(default_factory=dict)
    # What was done: (step, number of the chunk) -> how often.
    seen: Counter[tuple[str, int]] = field(default_factory=Counter)
    works: list[dict[str, Any]] = field(default_factory=list)

    def work(self, most: int = 64) -> int:
        """Do what is due. Returns how many steps that were."""
        claims = rows.take(dict.fromkeys(LANES, most))
        for claimed in claims:
            mark_sent(claimed)
            (item,) = claimed.jobs
            job = Job.objects.get(id=item.id)
            record_result(as_result(self.outcome(job)))
        return len(claims)

    def outcome(self, job: Job) -> Outcome:
        """Do one step."""
        work = orjson.loads(bytes(job.input))
        number = work.get("number", 0)
        self.seen[job.step, number] += 1
        self.works.append({"step": job.step, **work})
        wrong = self.broken.get(number if job.step == "chunk" else job.step)
        if wrong:
            said = wrong.pop(0)
            if isinstance(said, ErrorCode):
                return Outcome(str(job.id), job.attempt, failure=Failure(said, f"{job.step} broke"))
            return Outcome(str(job.id), job.attempt, outputs=orjson.dumps(said).decode())
        result = getattr(self, f"_{job.step}")(work)
        return Outcome(str(job.id), job.attempt, outputs=orjson.dumps(result).decode())

    def _plan(self, work: dict[str, Any]) -> dict[str, Any]:
        uri, size = work["input"]["uri"], work["chunk_rows"]
        starts = range(0, self.rows, size)
        ranges = [
            {
                "number": number,
                "first": first,
                "rows": min(size, self.rows - first),
                "source": {"parts": [{"file": uri, "skip": first}]},
            }
            for number, first in enumerate(starts)
        ]
        output = work["output"]["uri"] or f"{work['folder']}/output.{work['output']['format']}"
        files = [[uri, 100, "v1"], ["store://another", 1, "v1"]]
        return {"rows": self.rows, "columns": ["a"], "files": files, "ranges": ranges, "output": output}

    def _chunk(self, work: dict[str, Any]) -> dict[str, Any]:
        return {"rows": work["rows"], "failed": self.faults.get(work["number"], 0), "sha256": "0" * 64}

    def _merge(self, work: dict[str, Any]) -> dict[str, Any]:
        failed = sum(
            part["rows"] if part["state"] == "failed" else self.faults.get(part["number"], 0) for part in work["parts"]
        )
        total = sum(part["rows"] for part in work["parts"])
        errors = {"uri": work["errors"], "rows": failed, "bytes": 9, "sha256": "1" * 64} if failed else None
        return {
            "uri": work["output"],
            "rows": total,
            "failed": failed,
            "bytes": 99,
            "sha256": "2" * 64,
            "errors": errors,
        }

    def _clean(self, work: dict[str, Any]) -> dict[str, Any]:
        return {}


def as_result(outcome: Outcome, started: float | None = None) -> BundleResult:
    """Return a step's result as a worker sends it: read back from its message."""
    now = time.time()
    run = Run("batch@host/7", socket.gethostname(), "cpu", started or now - 0.5, now, "xgboost 3.2.0")
    return BundleResult.from_message(BundleResult("b", run, (outcome,)).to_message())


def until(batch: Batch, there: Callable[[Batch], object], worker: Worker, rounds: int = 60) -> Batch:
    """Advance and work until something is as it should be. Returns the batch as it is then."""
    for _ in range(rounds):
        for act in (advance, worker.work):
            batch.refresh_from_db()
            if there(batch):
                return batch
            act()
    raise AssertionError(f"never: {batch.state} {batch.chunks_done}/{batch.chunks_total}, {told(batch)}")


def finish(batch: Batch, worker: Worker) -> Batch:
    """Advance and work until the batch has ended, and do what is left then."""
    until(batch, lambda batch: batch.is_final, worker)
    advance()
    worker.work()
    batch.refresh_from_db()
    return batch


def told(batch: Batch) -> list[str]:
    """Return the kinds of the batch's events."""
    return list(batch.events.values_list("kind", flat=True))


def states(batch: Batch) -> dict[int, tuple[str, int]]:
    """Return each chunk's state and attempt."""
    return {chunk.number: (chunk.state, chunk.attempt) for chunk in batch.chunks.all()}


def open_steps(batch: Batch) -> list[str]:
    """Return the steps that have not ended."""
    return list(Job.objects.filter(batch_id=batch.id, finished_at=None).order_by("step").values_list("step", flat=True))
