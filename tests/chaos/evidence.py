"""Collects what the checker compares: rows from the system's database, message counts from its broker."""

import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import amqp
import psycopg
from kombu import Connection

from inference_portal.jobs.states import FINAL
from tests.chaos.checker import AttemptRow, Evidence, JobRow
from tests.chaos.effects import Effect
from tests.chaos.ledger import Entry
from workers import topology

# A queue that is read has been seen empty within this time: heartbeats come and go.
EMPTY_WITHIN_SECONDS = 20.0

_OPEN = f"SELECT count(*) FROM jobs_job WHERE state NOT IN ({', '.join(repr(s.value) for s in sorted(FINAL))})"


def query(database: str, sql: str) -> list[tuple[Any, ...]]:
    """Return all rows of a query on the system's database (an address of PostgreSQL, else a SQLite file)."""
    if database.startswith("postgres"):
        with psycopg.connect(database, connect_timeout=5) as connection:
            return connection.execute(sql).fetchall()  # type: ignore[arg-type]
    with closing(sqlite3.connect(database, timeout=20)) as connection:
        return connection.execute(sql).fetchall()


def wait_until_final(database: str, seconds: float) -> float:
    """Wait until no row is open, at most so long. Returns the seconds that it took."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        if query(database, _OPEN) == [(0,)]:
            break
        time.sleep(0.25)
    return time.monotonic() - start


def collect(entries: Iterable[Entry], database: str, broker: str) -> Evidence:
    """Read everything. `broker` is an address, or the folder in which the embedded broker keeps its messages."""
    jobs = query(database, "SELECT id, model, state, attempt, result, error_message FROM jobs_job")
    failed = "SELECT job_id, number, code, message FROM jobs_attempt ORDER BY id"
    effects = "SELECT job, attempt, old_state, new_state, written FROM chaos_effect ORDER BY number"
    return Evidence(
        entries=list(entries),
        jobs={_id(row[0]): JobRow(_id(row[0]), *row[1:]) for row in jobs},
        effects=[Effect(_id(job), *rest) for job, *rest in query(database, effects)],
        attempts=[AttemptRow(_id(job), *rest) for job, *rest in query(database, failed)],
        queues=messages_left(broker),
        parked=query(database, "SELECT count(*) FROM jobs_parkedmessage")[0][0],
    )


def messages_left(broker: str) -> dict[str, int]:
    """Return how many messages each queue of the topology holds: 0 for one that was seen empty, -1 for one that isn't.

    Delivered messages that nobody has acknowledged don't count here: theirs are jobs that are still open.
    """
    left = {spec.name: 1 for spec in topology.TABLE}
    end = time.monotonic() + EMPTY_WITHIN_SECONDS
    while any(count > 0 for count in left.values()):
        for name, count in left.items():
            if count > 0:
                left[name] = _messages(broker, name)
        if time.monotonic() > end:
            break
        time.sleep(0.1)
    return left


def _messages(broker: str, queue: str) -> int:
    if not broker.startswith("amqp"):
        return sum(1 for _ in Path(broker, "queue").glob(f"[!.]*.{queue}.msg"))
    try:
        with Connection(broker, connect_timeout=5) as connection:
            return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
    except amqp.NotFound:
        return -1


def _id(value: Any) -> UUID:
    return value if isinstance(value, UUID) else UUID(str(value))
