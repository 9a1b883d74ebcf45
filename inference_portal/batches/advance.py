"""Moves batches on, from the database alone. Safe to run twice at once, and to die anywhere.

Each batch is moved in one transaction that holds its row locked; what is found there decides, not what was remembered.
"""

import logging
import random
import time
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import DataError, InterfaceError, OperationalError, transaction
from django.utils import timezone

from inference_portal.batches import carried, chunks, look, step_jobs
from inference_portal.batches.ending import FRESH, batch_end, batch_transition, tell
from inference_portal.batches.models import Batch, Kind
from inference_portal.batches.policies import Fate, Verdict, verdict
from inference_portal.batches.receipt import receipt_of
from inference_portal.batches.results import Merged, Planned, Unreadable, ranges_again
from inference_portal.batches.states import Event, State
from inference_portal.jobs.models import Job
from inference_portal.jobs.services import steps_cancel
from inference_portal.jobs.states import State as JobState
from workers.failpoints import failpoint

logger = logging.getLogger(__name__)

# No batch is begun after so long: clients' jobs wait for the same loop.
CALL_SECONDS = 0.1
# Beside the codes of `workers.contract.ErrorCode` and the verdicts of `batches.policies`.
DEADLINE_PASSED, CHUNK_FAILED, STEP_FAILED = "deadline-passed", "chunk-failed", "step-failed"


def advance() -> int:
    """Move on the batches that something can be done for, as many as a moment allows. Returns their number."""
    now, most = timezone.now(), chunks.window()
    return _moved(look.ready(now, most), now, most)


def resume() -> int:
    """Move on those of which nothing is under way any more: plan, all chunks so far, or merge have ended."""
    stopped = look.stopped()
    return _moved(stopped, timezone.now(), chunks.window()) if stopped else 0


def _moved(ready: list[UUID], now: datetime, most: int) -> int:
    begun = time.monotonic()
    # Whoever comes too late this time is not the same every time.
    random.shuffle(ready)
    moved = 0
    for batch_id in ready:
        if moved and time.monotonic() - begun > CALL_SECONDS:
            break
        try:
            moved += move(batch_id, now=now, most=most)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            # The others go on.
            logger.exception("batch %s was not moved on", batch_id)
            if isinstance(error, DataError):
                moved += _give_up(batch_id)
    return moved


def _give_up(batch_id: UUID) -> bool:
    """End a batch of which a step has returned what the database doesn't store: it would be tried for ever."""
    try:
        with transaction.atomic():
            batch = Batch.objects.locked(batch_id, waits=False)
            if batch is None or batch.is_final:
                return False
            message = "What a step of it has returned can't be stored; the dispatcher's log says why."
            batch_end(batch, Event.FAIL, code=STEP_FAILED, message=message)
    except DataError:
        logger.exception("batch %s can't be given up either", batch_id)
        return False
    return True


def move(batch_id: UUID, *, now: datetime, most: int) -> bool:
    """Move one batch on; `most` of its chunks may have jobs at once. False: it has ended, or somebody else does it."""
    with transaction.atomic():
        batch = Batch.objects.locked(batch_id, waits=False)
        if batch is None or batch.is_final:
            return False
        if batch.state == State.MERGING:
            _merging(batch, now)
        elif _is_late(batch, now):
            _end_late(batch)
        elif batch.state == State.QUEUED:
            _queued(batch, most)
        else:
            _running(batch, most)
        failpoint("batches.before_commit")
    return True


def _queued(batch: Batch, most: int) -> None:
    """Make chunks of the plan once it is there."""
    step = _step(step_jobs.plan_id(batch))
    if step is None:
        step_jobs.store([step_jobs.plan_job(batch)])
    elif step["finished_at"] is not None and chunks.forget_chunks(batch):
        if step["state"] != JobState.SUCCEEDED:
            return _end_failed(batch, "plan", step)
        try:
            plan = Planned.read(step["result"])
        except Unreadable as error:
            return batch_end(batch, Event.FAIL, code=STEP_FAILED, message=str(error))
        _start(batch, plan)
        chunks.make_chunks(batch, plan.ranges + carried.ranges_of(batch))
        chunks.send_chunks(batch, most)


def _start(batch: Batch, plan: Planned) -> None:
    taken_over = carried.ranges_of(batch)
    rows = plan.rows + sum(each["rows"] for each in taken_over)
    batch_transition(
        batch,
        Event.START,
        plan={
            "run": batch.attempt,
            "columns": plan.columns,
            "files": plan.files,
            "output": plan.output,
            # How many of the chunks are of this plan; the others are taken over.
            "ranges": len(plan.ranges),
        },
        rows_total=rows,
        chunks_total=len(plan.ranges) + len(taken_over),
        started_at=batch.started_at or timezone.now(),
    )
    split = "1 chunk" if batch.chunks_total == 1 else f"{batch.chunks_total:,} chunks"
    text = f"{rows:,} rows in {split}"
    if batch.carried is not None:
        text += f", {batch.carried['rows']:,} rows of them carried over from batch {batch.carried['from']}"
    tell(batch, Kind.STARTED, text)


def _running(batch: Batch, most: int) -> None:
    """Settle what has ended, and begin what there is room for."""
    decided = chunks.settle_chunks(batch)
    if decided is Fate.ANEW:
        return _start_anew(batch)
    if decided is Fate.FAILS:
        message = f"A chunk failed in the last of {batch.max_attempts} attempts; the events say which."
        return batch_end(batch, Event.FAIL, code=CHUNK_FAILED, message=message)
    rows = batch.rows_total or 0
    found = verdict(
        rows=rows,
        rows_failed=batch.rows_failed,
        chunks=batch.chunks_total,
        chunks_done=batch.chunks_done,
        threshold=batch.error_threshold,
    )
    if found is Verdict.TOO_MANY_ERRORS:
        share = f"{batch.rows_failed:,} of {rows:,} rows failed, at most {batch.error_threshold:.4%} may"
        return batch_end(batch, Event.FAIL, code=found.value, message=f"{share}.")
    if found is Verdict.ALL_ROWS_FAILED:
        last = batch.chunks.exclude(reason="").order_by("number").values_list("reason", flat=True).first()
        message = f"None of {rows:,} rows has a prediction" + (f": {last}" if last else ".")
        return batch_end(batch, Event.FAIL, code=found.value, message=message)
    if found is Verdict.MERGES:
        batch_transition(batch, Event.MERGE)
        return step_jobs.store([step_jobs.merge_job(batch)])
    if not batch.chunks.filter(number=batch.chunks_total - 1).exists():
        _make_more_chunks(batch)
    if batch.state == State.RUNNING:
        chunks.send_chunks(batch, most)
    return None


def _make_more_chunks(batch: Batch) -> None:
    """Make some more chunks of the plan, which its job has kept."""
    step = _step(step_jobs.plan_id(batch, batch.planned["run"]))
    try:
        ranges = ranges_again(None if step is None else step["result"])
    except Unreadable as error:
        return batch_end(batch, Event.FAIL, code=STEP_FAILED, message=f"The plan is gone: {error}")
    return chunks.make_chunks(batch, ranges + carried.ranges_of(batch))


def _start_anew(batch: Batch) -> None:
    """Begin the whole run again, with a plan of its own: the data may have been what was wrong."""
    steps_cancel(batch_id=batch.id)
    batch_transition(batch, Event.ANEW, attempt=batch.attempt + 1, **FRESH)
    step_jobs.store([step_jobs.plan_job(batch)])
    tell(batch, Kind.STARTED_ANEW, f"attempt {batch.attempt}: a chunk of the one before failed")


def _merging(batch: Batch, now: datetime) -> None:
    """End the run once its output is there: also when that was seen late only."""
    step = _step(step_jobs.merge_id(batch))
    if step is None:
        step_jobs.store([step_jobs.merge_job(batch)])
    elif step["finished_at"] is None:
        if _is_late(batch, now):
            _end_late(batch)
    elif step["state"] != JobState.SUCCEEDED:
        _end_failed(batch, "merge", step)
    else:
        _end_merged(batch, step["result"])


def _end_merged(batch: Batch, result: bytes) -> None:
    try:
        merged = Merged.read(result)
        if merged.rows != batch.rows_total:
            raise Unreadable(f"the output has {merged.rows:,} of {batch.rows_total:,} rows")
    except Unreadable as error:
        return batch_end(batch, Event.FAIL, code=STEP_FAILED, message=str(error))
    event = Event.SUCCEED_PARTLY if merged.failed else Event.SUCCEED
    text = f"{merged.rows:,} rows" + (f", {merged.failed:,} of them failed" if merged.failed else "")
    return batch_end(batch, event, text=text, receipt=receipt_of(batch, merged), rows_failed=merged.failed)


def _end_failed(batch: Batch, what: str, step: dict[str, Any]) -> None:
    given_up = " was given up" if step["state"] == JobState.DEAD_LETTERED else ""
    message = step["error_message"] or f"its job was {step['state']}"
    code = step["error_code"] or STEP_FAILED
    batch_end(batch, Event.FAIL, code=code, message=f"The {what}{given_up}: {message}")


def _is_late(batch: Batch, now: datetime) -> bool:
    return batch.deadline is not None and batch.deadline <= now


def _end_late(batch: Batch) -> None:
    done = "nothing was done"
    if batch.rows_total is not None:
        done = f"{batch.rows_done:,} of {batch.rows_total:,} rows were done"
    message = f"At its deadline, {batch.deadline:%Y-%m-%d %H:%M:%S} UTC, {done}."
    batch_end(batch, Event.FAIL, code=DEADLINE_PASSED, message=message)


def _step(job_id: UUID) -> dict[str, Any] | None:
    fields = ("state", "finished_at", "result", "error_code", "error_message")
    step: dict[str, Any] | None = Job.objects.filter(id=job_id).values(*fields).first()
    return step
