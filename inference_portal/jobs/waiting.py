"""Requests that wait for a job's end: one hub a process asks the database for all of them.

A waiter holds a thread and nothing else, in particular no database connection.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from uuid import UUID

from django.conf import settings
from django.db import connection

from inference_portal.jobs import changes
from inference_portal.jobs.models import Job
from inference_portal.jobs.pool import give_back, let_go

logger = logging.getLogger(__name__)

# A notification can be lost with its connection; the hub then looks by itself.
LOOK_AGAIN_SECONDS = 2.0
# Who waits no longer than this may keep a connection to SQLite.
SHORTLY = 0.1


class NoPlace(RuntimeError):
    """All places for waiting are taken."""


class Waiter:
    """One request that waits for one job."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._job: Job | None = None

    def wait(self, seconds: float) -> Job | None:
        """Return the job once it is final, or None when `seconds` are over. Holds no database connection."""
        give_back()
        if not self._ended.wait(min(max(0.0, seconds), SHORTLY)):
            let_go()
            self._ended.wait(max(0.0, seconds - SHORTLY))
        return self._job

    def end(self, job: Job) -> None:
        """Hand over the final job; called by the hub."""
        self._job = job
        self._ended.set()


class WaitHub:
    """Knows who waits for which job, and wakes them."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._free = threading.BoundedSemaphore(places)
        self._lock = threading.Lock()
        self._waiters: dict[str, list[Waiter]] = {}
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def taken(self) -> int:
        """How many of the places are taken now."""
        with self._lock:
            return sum(map(len, self._waiters.values()))

    @contextmanager
    def place(self, job_id: UUID) -> Iterator[Waiter]:
        """Take a place before the job can end (for a new one: before it is inserted). Raises NoPlace."""
        if not self._free.acquire(blocking=False):
            raise NoPlace
        waiter, key = Waiter(), str(job_id)
        try:
            with self._lock:
                self._waiters.setdefault(key, []).append(waiter)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="wait-hub", daemon=True)
                    self._thread.start()
            self._wanted.set()
            yield waiter
        finally:
            with self._lock:
                others = self._waiters[key]
                others.remove(waiter)
                if not others:
                    del self._waiters[key]
            self._free.release()

    def _run(self) -> None:
        while True:
            try:
                self._watch()
            except Exception:
                logger.exception("the wait hub was interrupted, going on")
                connection.close()
                time.sleep(0.5)

    def _watch(self) -> None:
        looked = 0.0
        with closing(changes.listen(changes.FINAL)) as source:
            while True:
                if source.polls:
                    self._until_wanted()
                payloads = source.wait(LOOK_AGAIN_SECONDS)
                with self._lock:
                    ids = set(self._waiters)
                if payloads is not None and time.monotonic() - looked < LOOK_AGAIN_SECONDS:
                    ids &= changes.ids_in(payloads)
                else:
                    looked = time.monotonic()
                if ids:
                    self._wake(ids)

    def _until_wanted(self) -> None:
        with self._lock:
            if not self._waiters:
                self._wanted.clear()
        self._wanted.wait()

    def _wake(self, ids: set[str]) -> None:
        for job in Job.objects.ended(UUID(job_id) for job_id in ids):
            with self._lock:
                waiters = list(self._waiters.get(str(job.id), ()))
            for waiter in waiters:
                waiter.end(job)


# A wrong setting is reported by the check inference.E002.
hub = WaitHub(max(0, settings.MAX_WAITERS))
