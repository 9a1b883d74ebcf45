"""The jobs that a batch is made of: their ids, what they are told, and how they are stored."""

import hashlib
from collections.abc import Sequence
from operator import itemgetter
from typing import Any
from uuid import UUID, uuid5

import orjson
from django.utils import timezone

from inference_portal.batches.carried import of_input
from inference_portal.batches.models import Batch, Chunk
from inference_portal.batches.models.chunk import DONE
from inference_portal.jobs import changes
from inference_portal.jobs.models import Job, Priority
from inference_portal.jobs.record import STEP_SECONDS, release_policy
from workers.manifest import BATCH

PLAN, CHUNK, MERGE, CLEAN = "plan", "chunk", "merge", "clean"
# A chunk that hangs, or whose worker died unseen, is tried again after so long: the time that a small one has, and how
# many rows even a slow model does in a second; or as long as the manifest says, if that is more.
CHUNK_SECONDS, CHUNK_ROWS_PER_SECOND = 60.0, 1_000
# In one INSERT.
GROUP = 500


def plan_id(batch: Batch, attempt: int | None = None) -> UUID:
    """Return the id of the job that makes the plan of the batch's attempt, by default the present one."""
    return _job_id(batch, str(batch.attempt if attempt is None else attempt), PLAN)


def merge_id(batch: Batch) -> UUID:
    """Return the id of the job that writes the output of the batch's attempt."""
    return _job_id(batch, str(batch.attempt), MERGE)


def plan_job(batch: Batch) -> Job:
    """Return the job that looks at the input and the output's place, and cuts the rows into ranges."""
    work = {
        "batch": str(batch.id),
        "input": batch.input,
        "output": batch.output,
        "keep": batch.keep_columns,
        "chunk_rows": batch.chunk_rows,
        "sample": batch.sample_rows,
        "folder": batch.folder,
    }
    return _job(batch, plan_id(batch), PLAN, work)


def chunk_job(batch: Batch, chunk: Chunk) -> Job:
    """Return the job that predicts a chunk's rows."""
    work = {
        "batch": str(batch.id),
        **of_input(batch, chunk),
        "source": chunk.source,
        "number": chunk.number,
        "first": chunk.first_row,
        "rows": chunk.rows,
        "keep": batch.keep_columns,
        "folder": batch.folder,
        "format": batch.output["format"],
        "run": batch.planned["run"],
    }
    job_id = _job_id(batch, f"{batch.attempt}.{chunk.attempt}", CHUNK, chunk.number)
    own = release_policy(batch.model, batch.version).timeout_seconds
    seconds = min(max(own, CHUNK_SECONDS + chunk.rows / CHUNK_ROWS_PER_SECOND), STEP_SECONDS)
    return _job(batch, job_id, CHUNK, work, rows=chunk.rows, seconds=seconds)


def merge_job(batch: Batch) -> Job:
    """Return the job that writes the output and the errors from the parts."""
    work = {
        "batch": str(batch.id),
        "input": batch.input,
        "files": batch.planned["files"],
        "keep": batch.keep_columns,
        "folder": batch.folder,
        "format": batch.output["format"],
        "output": batch.planned["output"],
        "run": batch.planned["run"],
        "attempt": batch.attempt,
        "parts": _parts(batch),
        "errors": f"{batch.folder}/errors.csv",
    }
    return _job(batch, merge_id(batch), MERGE, work)


def clean_job(batch: Batch, *, everything: bool, name: str = "") -> Job:
    """Return the job that removes the parts, or all that the batch's folder holds; `name` tells it from others."""
    work = {"folder": batch.folder, "everything": everything}
    what = f"{batch.attempt}.{'everything' if everything else 'parts'}{name}"
    return _job(batch, _job_id(batch, what, CLEAN), CLEAN, work)


def store(jobs: Sequence[Job]) -> None:
    """Store the jobs and wake the dispatcher, with the current transaction's commit. Made twice they are made once."""
    Job.objects.bulk_create(jobs, batch_size=GROUP, ignore_conflicts=True)
    changes.notify(changes.DISPATCH)


def _job_id(batch: Batch, attempt: str, step: str, number: int = 0) -> UUID:
    return uuid5(batch.id, f"{attempt}/{step}/{number}")


def _job(
    batch: Batch, job_id: UUID, step: str, work: dict[str, Any], *, rows: int = 1, seconds: float = STEP_SECONDS
) -> Job:
    data = orjson.dumps(work)
    now = timezone.now()
    return Job(
        id=job_id,
        team_id=batch.team_id,
        submitted_by=batch.submitted_by,
        model=batch.model,
        version=batch.version,
        sha256=batch.sha256,
        pool=BATCH,
        priority=Priority.LOW,
        step=step,
        batch_id=batch.id,
        timeout_seconds=seconds,
        rows=rows,
        input=data,
        input_sha256=hashlib.sha256(data).hexdigest(),
        accepted_at=now,
        queued_at=now,
    )


def _parts(batch: Batch) -> list[dict[str, Any]]:
    """Return what the merge has to know of each chunk: of one that is done no more than which it is.

    Those are many, and the dispatcher waits meanwhile: as objects they would take five times as long.
    """
    done = batch.chunks.filter(state=DONE).values_list("number", "first_row", "rows")
    parts = [_part(*chunk) | {"state": "done", "source": {}} for chunk in done]
    for chunk in batch.chunks.exclude(state=DONE):
        part = _part(chunk.number, chunk.first_row, chunk.rows)
        part |= {"state": "failed", "source": chunk.source, "reason": chunk.reason}
        parts.append(part if chunk.number < batch.planned["ranges"] else part | of_input(batch, chunk))
    return sorted(parts, key=itemgetter("number"))


def _part(number: int, first: int, rows: int) -> dict[str, Any]:
    return {"number": number, "first": first, "rows": rows}
