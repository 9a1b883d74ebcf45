"""A batch's chunks: made from the plan, given jobs a few at a time, and settled when these have ended.

For transactions that hold the batch's row locked. However many chunks there are, each call does a little.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import orjson
from django.db.models import Count, F, Max, Sum
from django.utils import timezone

from inference_portal.batches import look, step_jobs
from inference_portal.batches.ending import tell
from inference_portal.batches.look import EndedChunk
from inference_portal.batches.models import Batch, Chunk, Kind
from inference_portal.batches.models.chunk import DONE, FAILED, OPEN
from inference_portal.batches.policies import Fate, fate
from inference_portal.batches.results import Predicted, Unreadable
from inference_portal.jobs.dead_letters import steps_replaced
from inference_portal.jobs.models import Worker
from inference_portal.jobs.states import State as JobState
from workers.contract import ErrorCode
from workers.manifest import BATCH

# In one call, so that each takes a moment: clients' jobs wait meanwhile. More than all workers can do.
ROWS_PER_CALL = 1_000
RESULTS_PER_CALL = 500
JOBS_PER_CALL = 100
# So many chunks of one batch have jobs at once; all others wait as chunks. A worker process ends up to some ten chunks
# a second, and a look that finds the ended ones reads all that are under way.
LEAST_WINDOW = 256
PER_PROCESS = 32
# So many are named in an event.
NAMED = 5
TOO_LARGE = "; if the model is that slow, run it with smaller chunks (chunk_rows)"
# Of a reason so much is kept: each row of a chunk that failed has it in the file of errors.
MAX_REASON = 500


def window() -> int:
    """Return how many chunks of each batch may have jobs at once, with the workers that there are now."""
    return max(LEAST_WINDOW, PER_PROCESS * Worker.objects.processes()[BATCH])


def forget_chunks(batch: Batch) -> bool:
    """Delete some of the batch's chunks, of an attempt before. Returns whether none are left."""
    ids = list(batch.chunks.order_by("number").values_list("id", flat=True)[: ROWS_PER_CALL + 1])
    Chunk.objects.filter(id__in=ids[:ROWS_PER_CALL]).delete()
    return len(ids) <= ROWS_PER_CALL


def make_chunks(batch: Batch, ranges: list[dict[str, Any]]) -> None:
    """Store the next of the chunks: `ranges` has all of them, in order."""
    last = batch.chunks.aggregate(last=Max("number"))["last"]
    begin = 0 if last is None else last + 1
    first_row = sum(each["rows"] for each in ranges[:begin])
    new = []
    for number, each in enumerate(ranges[begin : begin + ROWS_PER_CALL], begin):
        new.append((number, first_row, each["rows"], orjson.dumps(each["source"]).decode()))
        first_row += each["rows"]
    for start in range(0, len(new), step_jobs.GROUP):
        look.chunks_made(batch, new[start : start + step_jobs.GROUP])


def send_chunks(batch: Batch, most: int) -> None:
    """Give jobs to the next chunks that wait for one, until `most` are under way."""
    free = min(most - look.under_way(batch), JOBS_PER_CALL)
    if free <= 0:
        return
    chunks = Chunk.objects.filter(id__in=look.waiting_chunks(batch, free)).order_by("number")
    jobs = [(chunk.id, step_jobs.chunk_job(batch, chunk)) for chunk in chunks]
    if jobs:
        step_jobs.store([job for _, job in jobs])
        look.chunks_sent([(chunk_id, job.id) for chunk_id, job in jobs])


def settle_chunks(batch: Batch) -> Fate | None:
    """Count the chunks whose jobs have ended, and deal with the failed ones as the policy says.

    Returns Fate.ANEW or Fate.FAILS where the policy decides so about the whole run, which is then for the caller to do.
    """
    done: list[tuple[EndedChunk, int]] = []
    failed: dict[Fate, list[tuple[EndedChunk, str]]] = defaultdict(list)
    for chunk in look.ended_chunks(batch, RESULTS_PER_CALL):
        if chunk.state is None:
            # Its job was removed: it gets the same one again.
            Chunk.objects.filter(id=chunk.id).update(job_id=None)
            continue
        try:
            done.append((chunk, _rows_failed(chunk)))
        except Unreadable as error:
            failed[_fate(batch, chunk)].append((chunk, str(error)[:MAX_REASON]))
    look.chunks_done([(chunk.id, rows_failed) for chunk, rows_failed in done])
    _count(batch, [chunk for chunk, _ in done], sum(rows_failed for _, rows_failed in done))
    _try_again(batch, failed[Fate.AGAIN])
    _give_up(batch, failed[Fate.STAYS])
    for whole in (Fate.FAILS, Fate.ANEW):
        if failed[whole]:
            tell(batch, Kind.CHUNK_FAILED, _named(failed[whole]))
            return whole
    return None


def reopen_chunks(batch: Batch) -> int:
    """Have the policy, another one now, decide again about the chunks that it has left failed. Returns their number."""
    reopened = batch.chunks.filter(state=FAILED).update(state=OPEN, rows_failed=0)
    recount(batch)
    return reopened


def retry_chunks(batch: Batch) -> None:
    """Have all chunks that are not done tried again, in a new attempt of the batch."""
    again = batch.chunks.filter(state__in=[OPEN, FAILED])
    steps_replaced(job_id for job_id in again.values_list("job_id", flat=True) if job_id is not None)
    again.update(state=OPEN, attempt=1, job_id=None, rows_failed=0)
    recount(batch)


def recount(batch: Batch) -> None:
    """Set the sums of what is through by the chunks themselves."""
    through = batch.chunks.exclude(state=OPEN).aggregate(
        rows=Sum("rows", default=0), failed=Sum("rows_failed", default=0), chunks=Count("id")
    )
    _store_sums(batch, through["rows"], through["failed"], through["chunks"])


def unfinished(batch: Batch) -> bool:
    """Tell whether there are chunks that are not done."""
    return batch.chunks.exclude(state=DONE).exists()


def _rows_failed(chunk: EndedChunk) -> int:
    """Return how many of the chunk's rows have no prediction. Raises Unreadable with the reason when all have none."""
    if chunk.state != JobState.SUCCEEDED:
        why = f"{chunk.error_code}: {chunk.error_message}" if chunk.error_code else f"its job was {chunk.state}"
        raise Unreadable(why + (TOO_LARGE if chunk.error_code == ErrorCode.TIMED_OUT else ""))
    predicted = Predicted.read(chunk.result)
    if predicted.rows != chunk.rows:
        raise Unreadable(f"a worker wrote {predicted.rows} of {chunk.rows} rows")
    return predicted.failed


def _fate(batch: Batch, chunk: EndedChunk) -> Fate:
    return fate(batch.policy, chunk_tries=chunk.attempt, run_tries=batch.run_tries, most=batch.max_attempts)


def _try_again(batch: Batch, failed: list[tuple[EndedChunk, str]]) -> None:
    if not failed:
        return
    for reason, ids in _by_reason(failed).items():
        Chunk.objects.filter(id__in=ids).update(attempt=F("attempt") + 1, job_id=None, reason=reason)
    steps_replaced(chunk.job_id for chunk, _ in failed)
    tell(batch, Kind.CHUNK_RETRIED, _named(failed))


def _give_up(batch: Batch, failed: list[tuple[EndedChunk, str]]) -> None:
    if not failed:
        return
    for reason, ids in _by_reason(failed).items():
        Chunk.objects.filter(id__in=ids).update(state=FAILED, rows_failed=F("rows"), reason=reason)
    chunks = [chunk for chunk, _ in failed]
    _count(batch, chunks, sum(chunk.rows for chunk in chunks))
    tell(batch, Kind.CHUNK_FAILED, _named(failed))


def _count(batch: Batch, through: list[EndedChunk], rows_failed: int) -> None:
    if not through:
        return
    if "begun" not in batch.planned:
        _note_beginning(batch, through)
    rows = sum(chunk.rows for chunk in through)
    _store_sums(batch, batch.rows_done + rows, batch.rows_failed + rows_failed, batch.chunks_done + len(through))


def without_beginning(plan: dict[str, Any]) -> dict[str, Any]:
    """Return the plan for an attempt in which nothing is done yet."""
    return {name: value for name, value in plan.items() if name not in ("begun", "before")}


def _note_beginning(batch: Batch, through: list[EndedChunk]) -> None:
    """Note for the estimate since when rows are done in this attempt, and how many were before.

    By the first results: what was before them is no pace, but waiting for a worker.
    """
    begun = min((chunk.started_at for chunk in through if chunk.started_at is not None), default=timezone.now())
    batch.plan = batch.planned | {"begun": begun.isoformat(), "before": batch.rows_done}
    Batch.objects.filter(id=batch.id).update(plan=batch.plan)


def _store_sums(batch: Batch, rows_done: int, rows_failed: int, chunks_done: int) -> None:
    batch.rows_done, batch.rows_failed, batch.chunks_done = rows_done, rows_failed, chunks_done
    Batch.objects.filter(id=batch.id).update(rows_done=rows_done, rows_failed=rows_failed, chunks_done=chunks_done)


def _by_reason(failed: Iterable[tuple[EndedChunk, str]]) -> dict[str, list[int]]:
    by_reason: dict[str, list[int]] = defaultdict(list)
    for chunk, reason in failed:
        by_reason[reason].append(chunk.id)
    return by_reason


def _named(failed: list[tuple[EndedChunk, str]]) -> str:
    numbers = ", ".join(str(chunk.number) for chunk, _ in failed[:NAMED])
    more = f" and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
    return f"chunk {numbers}{more}: {failed[0][1]}"
