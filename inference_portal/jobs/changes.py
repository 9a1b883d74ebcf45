"""Waiting until another process has changed the database, instead of asking it again and again.

PostgreSQL tells (LISTEN/NOTIFY, sent with the commit). SQLite has a counter that grows with every commit of another
connection, and reading it costs microseconds.
"""

import logging
import threading
import time
from typing import Protocol

import psycopg
from django.db import connection, connections

logger = logging.getLogger(__name__)

# Work for the dispatcher: a job was accepted, or room was made; with the payload STEPS by the end of a batch's step.
DISPATCH = "inference_dispatch"
STEPS = "steps"
# Work for the courier: something is to be delivered.
DELIVER = "inference_deliver"
# Jobs are final; the payload is their ids.
FINAL = "inference_final"

# Looking wakes the process, so it's done less often where nothing has changed for a while.
SQLITE_POLL_SECONDS = 0.004
SQLITE_QUIET_POLL_SECONDS = 0.025
SQLITE_QUIET_SECONDS = 0.25


class Changes(Protocol):
    """Something that can be waited for, by one thread."""

    # Whether waiting costs processor time, so that one should only wait when there is something to wait for.
    polls: bool

    def wait(self, timeout: float) -> list[str] | None:
        """Return the payloads that came within `timeout` seconds; None: unknown, look at everything."""

    def close(self) -> None:
        """Give up the connection."""


def listen(channel: str) -> Changes:
    """Start to listen in this thread."""
    return PostgresChanges(channel) if connection.vendor == "postgresql" else SqliteChanges()


def notify(channel: str, payload: str = "") -> None:
    """Tell the listeners once the current transaction commits. The payload must stay below 8,000 bytes."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, %s)", [channel, payload])


def ids_in(payloads: list[str]) -> set[str]:
    """Return the ids of the jobs that notifications on FINAL name."""
    return {part for payload in payloads for part in payload.split(",")}


class PostgresChanges:
    """A connection of its own that listens on one channel, opened again when it was lost."""

    polls = False

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._connection: psycopg.Connection | None = None

    def wait(self, timeout: float) -> list[str] | None:
        """See Changes.wait. What was sent while there was no connection is unknown, hence None after a reconnect."""
        try:
            if self._connection is None:
                self._connection = self._connect()
                return None
            return [n.payload for n in self._connection.notifies(timeout=timeout, stop_after=1)]
        except psycopg.Error as error:
            logger.warning("listening on %s was interrupted: %s", self._channel, error)
            self.close()
            time.sleep(min(timeout, 0.5))
            return None

    def close(self) -> None:
        """See Changes.close."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> psycopg.Connection:
        parameters = connections["default"].get_connection_params()
        ours = {k: v for k, v in parameters.items() if k not in ("cursor_factory", "context", "prepare_threshold")}
        opened = psycopg.connect(**(ours | {"autocommit": True, "connect_timeout": 5}))
        opened.execute(f"LISTEN {self._channel}")
        return opened


class SqliteChanges:
    """Watches SQLite's `data_version` on this thread's connection."""

    polls = True

    def __init__(self) -> None:
        self._seen: int | None = None
        self._changed = float("-inf")
        self._pause = threading.Event()

    def wait(self, timeout: float) -> list[str] | None:
        """See Changes.wait. Returns None on any commit of another connection: SQLite doesn't say what it changed."""
        end = time.monotonic() + timeout
        # The first look sees a number that it can't compare: None, like PostgreSQL's first.
        while (version := self._version()) == self._seen:
            now = time.monotonic()
            if now >= end:
                return []
            is_quiet = now - self._changed > SQLITE_QUIET_SECONDS
            self._pause.wait(SQLITE_QUIET_POLL_SECONDS if is_quiet else SQLITE_POLL_SECONDS)
        self._seen = version
        self._changed = time.monotonic()
        return None

    def close(self) -> None:
        """See Changes.close. The connection is the thread's, Django closes it."""

    def _version(self) -> int:
        connection.ensure_connection()
        # Without Django's cursor, which costs ten times as much: this is asked all the time.
        (version,) = connection.connection.execute("PRAGMA data_version").fetchone()
        return int(version)
