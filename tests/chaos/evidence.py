"""Collects what the checker compares: rows from the system's database, message counts from its broker."""

import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from inference_portal.jobs.states import FINAL
from tests.chaos.checker import AttemptRow, Evidence, JobRow
from tests.chaos.effects import Effect
from tests.chaos.ledger import Entry
from tests.rabbitmq_node import TICK_SECONDS, RabbitMQNode
from workers import topology

# A queue that is read has been seen empty within this time: heartbeats come and go.
EMPTY_WITHIN_SECONDS = 60.0
# Not less than the node's counts may be old.
LOOK_SECONDS = TICK_SECONDS

_OPEN = f"SELECT count(*) FROM jobs_job WHERE state NOT IN ({', '.join(repr(s.value) for s in sorted(FINAL))})"


def query(database: str, sql: str) -> list[tuple[Any, ...]]:
    """Return all rows of a query on the system's database (an address of PostgreSQL, else a SQLite file)."""
    if database.startswith("postgres"):
        with psycopg.connect(database, connect_timeout=5) as connection:
            return connection.execute(sql).fetchall()  # type: ignore[arg-type]
    with closing(sqlite3.connect(database, timeout=20)) as connection:
        return connection.execute(sql).fetchall()


def wait_until_final(database: str, seconds: float) -> float:
    """Wait until no row is open, at most so long after the last one has ended. Returns the seconds that it took.

    Suspects are tried one after the other: after many kills on a busy machine that takes its time, and is not stuck.
    """
    start = moved = time.monotonic()
    fewest: int | None = None
    while time.monotonic() - moved < seconds:
        ((count,),) = query(database, _OPEN)
        if count == 0:
            break
        if fewest is None or count < fewest:
            fewest, moved = count, time.monotonic()
        time.sleep(0.25)
    return time.monotonic() - start


def collect(entries: Iterable[Entry], database: str, broker: RabbitMQNode | Path) -> Evidence:
    """Read everything. `broker` is a node, or the folder in which the embedded broker keeps its messages.

    First what is left there: once the queues are empty, every message has had its effect.
    """
    queues = messages_left(broker)
    columns = "id, model, state, attempt, result, error_message, length(input), idempotency_key, expires_at IS NOT NULL"
    jobs = query(database, f"SELECT {columns}, failures FROM jobs_job")
    failed = "SELECT job_id, number, code, message FROM jobs_attempt ORDER BY id"
    effects = "SELECT job, attempt, old_state, new_state, written FROM chaos_effect ORDER BY number"
    return Evidence(
        entries=list(entries),
        jobs={_id(row[0]): JobRow(_id(row[0]), *row[1:]) for row in jobs},
        effects=[Effect(_id(job), *rest) for job, *rest in query(database, effects)],
        attempts=[AttemptRow(_id(job), *rest) for job, *rest in query(database, failed)],
        queues=queues,
        parked=query(database, "SELECT count(*) FROM jobs_parkedmessage")[0][0],
    )


def messages_left(broker: RabbitMQNode | Path) -> dict[str, int]:
    """Return how many messages each queue of the topology holds: 0 for one that was seen empty, -1 for one that isn't.

    Delivered messages that nobody has acknowledged count too.
    """
    left = {spec.name: 1 for spec in topology.TABLE}
    end = time.monotonic() + EMPTY_WITHIN_SECONDS
    while any(count > 0 for count in left.values()):
        time.sleep(LOOK_SECONDS)
        found = _messages(broker)
        left = {name: count and found.get(name, -1) for name, count in left.items()}
        if time.monotonic() > end:
            break
    return left


def _messages(broker: RabbitMQNode | Path) -> Mapping[str, int]:
    if isinstance(broker, RabbitMQNode):
        return broker.messages()
    return {spec.name: sum(1 for _ in broker.glob(f"queue/[!.]*.{spec.name}.msg")) for spec in topology.TABLE}


def _id(value: Any) -> UUID:
    return value if isinstance(value, UUID) else UUID(str(value))
