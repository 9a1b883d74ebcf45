"""What happens every fraction of a second or to very many chunks, in SQL. Looks find what has changed by indexes.

The conditions of partial indexes are written out: with parameters instead SQLite would not use the indexes.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from inference_portal.batches.models import Batch
from inference_portal.jobs import sql

_UNDER_WAY = "chunk.batch_id = {batch} AND chunk.state = 'open' AND chunk.job_id IS NOT NULL"
_WAITING = "chunk.batch_id = {batch} AND chunk.state = 'open' AND chunk.job_id IS NULL"
# Their job has ended, or is gone.
_ENDED = (
    f"FROM batches_chunk AS chunk LEFT JOIN jobs_job AS job ON job.id = chunk.job_id "
    f"WHERE {_UNDER_WAY} AND (job.id IS NULL OR job.finished_at IS NOT NULL)"
)
# Each is a number for one batch by an index. Written with EXISTS, PostgreSQL would read the whole tables into a hash.
_JOBS_OPEN = (
    "(SELECT COUNT(*) FROM jobs_job AS job "
    "WHERE job.batch_id = batch.id AND job.batch_id IS NOT NULL AND job.finished_at IS NULL)"
)
_CHUNKS_UNDER_WAY = f"(SELECT COUNT(*) FROM batches_chunk AS chunk WHERE {_UNDER_WAY.format(batch='batch.id')})"  # noqa: S608
_FIRST_WAITING = (
    f"(SELECT chunk.number FROM batches_chunk AS chunk WHERE {_WAITING.format(batch='batch.id')} "  # noqa: S608
    "ORDER BY chunk.number LIMIT 1)"
)
_LAST = "COALESCE((SELECT MAX(chunk.number) FROM batches_chunk AS chunk WHERE chunk.batch_id = batch.id), -1)"
# A running batch has one open job for each chunk that is under way, until one ends.
_READY = f"""
    SELECT batch.id FROM batches_batch AS batch WHERE batch.finished_at IS NULL AND (
        batch.deadline <= %s
        OR (batch.state <> 'running' AND {_JOBS_OPEN} = 0)
        OR (batch.state = 'running' AND (
            batch.chunks_done >= batch.chunks_total
            OR {_JOBS_OPEN} < {_CHUNKS_UNDER_WAY}
            OR {_LAST} < batch.chunks_total - 1
            OR ({_FIRST_WAITING} IS NOT NULL AND {_CHUNKS_UNDER_WAY} < %s)
        ))
    )
"""  # noqa: S608
_ENDED_OF_BATCH = f"""
    SELECT chunk.id, chunk.number, chunk.rows, chunk.attempt, chunk.job_id, job.state, job.result, job.error_code,
           job.error_message, job.started_at
    {_ENDED.format(batch="%s")} ORDER BY chunk.number LIMIT %s
"""


class EndedChunk(NamedTuple):
    """A chunk with what its job has left; `state` is None when the job is gone."""

    id: int
    number: int
    rows: int
    attempt: int
    job_id: UUID
    state: str | None
    result: bytes | None
    error_code: str
    error_message: str
    started_at: datetime | None


def ready(now: datetime, window: int) -> list[UUID]:
    """Return the open batches that something can be done for; `window` chunks of each may have jobs at once."""
    with connection.cursor() as cursor:
        cursor.execute(_READY, [sql.moment(now), window])
        return [sql.as_uuid(batch_id) for (batch_id,) in cursor.fetchall()]


def stopped() -> list[UUID]:
    """Return the open batches of which no job is open."""
    statement = f"SELECT batch.id FROM batches_batch AS batch WHERE batch.finished_at IS NULL AND {_JOBS_OPEN} = 0"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return [sql.as_uuid(batch_id) for (batch_id,) in cursor.fetchall()]


def ended_chunks(batch: Batch, most: int) -> list[EndedChunk]:
    """Return chunks whose job has ended and about which nothing is decided, in order."""
    with connection.cursor() as cursor:
        cursor.execute(_ENDED_OF_BATCH, [*sql.keys([batch.id]), most])
        return [
            EndedChunk(
                *(chunk_id, number, rows, attempt, sql.as_uuid(job_id), state, result, code or "", message or ""),
                started_at=None if started_at is None else sql.as_moment(started_at),
            )
            for chunk_id, number, rows, attempt, job_id, state, result, code, message, started_at in cursor.fetchall()
        ]


def under_way(batch: Batch) -> int:
    """Return how many of the batch's chunks have jobs about which nothing is decided."""
    with connection.cursor() as cursor:
        statement = f"SELECT COUNT(*) FROM batches_chunk AS chunk WHERE {_UNDER_WAY.format(batch='%s')}"  # noqa: S608
        cursor.execute(statement, sql.keys([batch.id]))
        return int(cursor.fetchone()[0])


def waiting_chunks(batch: Batch, most: int) -> list[int]:
    """Return the ids of chunks that wait for a job, in order."""
    statement = f"SELECT id FROM batches_chunk AS chunk WHERE {_WAITING.format(batch='%s')} ORDER BY number LIMIT %s"  # noqa: S608, E501
    with connection.cursor() as cursor:
        cursor.execute(statement, [*sql.keys([batch.id]), most])
        return [chunk_id for (chunk_id,) in cursor.fetchall()]


def chunks_made(batch: Batch, new: Sequence[tuple[int, int, int, str]]) -> None:
    """Store chunks, each (number, first row, rows, source as JSON): a tenth of the time that bulk_create takes."""
    (key,) = sql.keys([batch.id])
    json = "::jsonb" if connection.vendor == "postgresql" else ""
    row = f"(%s, %s, %s, %s, %s{json}, 1, 'open', 0, '')"
    # Identifiers are constants; every value is a parameter.
    statement = f"""
        INSERT INTO batches_chunk (batch_id, number, first_row, rows, source, attempt, state, rows_failed, reason)
        VALUES {", ".join([row] * len(new))}
    """  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(statement, [value for chunk in new for value in (key, *chunk)])


def chunks_done(done: Sequence[tuple[int, int]]) -> None:
    """Mark open chunks as done, each (id, rows failed), in one statement: a bulk_update of as many takes 25 times as
    long."""
    _of_values(done, ("bigint", "integer"), "state = 'done', reason = '', rows_failed = v.value", "TRUE")


def chunks_sent(sent: Sequence[tuple[int, UUID]]) -> None:
    """Note the jobs of chunks that waited for one, each (id, job id)."""
    keys = [(chunk_id, *sql.keys([job_id])) for chunk_id, job_id in sent]
    _of_values(keys, ("bigint", "uuid"), "job_id = v.value", "chunk.job_id IS NULL")


def _of_values(pairs: Sequence[tuple[Any, ...]], types: tuple[str, str], fields: str, condition: str) -> None:
    if not pairs:
        return
    row = f"(%s::{types[0]}, %s::{types[1]})" if connection.vendor == "postgresql" else "(%s, %s)"
    # Identifiers are constants; every value is a parameter.
    statement = f"""
        WITH v(id, value) AS (VALUES {", ".join([row] * len(pairs))})
        UPDATE batches_chunk AS chunk SET {fields} FROM v
        WHERE chunk.id = v.id AND chunk.state = 'open' AND {condition}
    """  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(statement, [value for pair in pairs for value in pair])
