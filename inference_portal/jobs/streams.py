"""Clients that follow jobs: one thread a process looks for all of them, and tells each what it sees change.

Ends are told by the database at once (see `jobs.changes`); other changes are seen within LOOK_SECONDS. A follower holds
a thread and no database connection.
"""

import logging
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from uuid import UUID

from django.conf import settings
from django.db import connection

from inference_portal.jobs import changes
from inference_portal.jobs.models import Job
from inference_portal.jobs.pool import let_go
from inference_portal.jobs.waiting import NoPlace

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5


class Follower:
    """One client that follows one job."""

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        self._lock = threading.Lock()
        self._seen: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._last: tuple[str, int] | None = None

    def next(self, seconds: float) -> Job | None:
        """Return the job as it was when it changed next, None if it didn't within `seconds`. Holds no connection."""
        let_go()
        try:
            return self._seen.get(timeout=seconds)
        except queue.Empty:
            return None

    def tell(self, job: Job) -> None:
        """Hand over the job if it has changed."""
        with self._lock:
            if (job.state, job.attempt) != self._last:
                self._last = job.state, job.attempt
                self._seen.put(job)


class Streams:
    """Knows who follows which job."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._free = threading.BoundedSemaphore(places)
        self._lock = threading.Lock()
        self._followers: set[Follower] = set()
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def taken(self) -> int:
        """How many of the places are taken now."""
        with self._lock:
            return len(self._followers)

    @contextmanager
    def follow(self, job: Job) -> Iterator[Follower]:
        """Take a place; the first that `next` returns is the job as it is here. Raises NoPlace."""
        if not self._free.acquire(blocking=False):
            raise NoPlace
        follower = Follower(job.id)
        follower.tell(job)
        try:
            with self._lock:
                self._followers.add(follower)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="streams", daemon=True)
                    self._thread.start()
            self._wanted.set()
            yield follower
        finally:
            with self._lock:
                self._followers.discard(follower)
            self._free.release()

    def _run(self) -> None:
        while True:
            try:
                with closing(changes.listen(changes.FINAL)) as source:
                    while True:
                        self._until_wanted()
                        self._look()
                        source.wait(LOOK_SECONDS)
            except Exception:
                logger.exception("following jobs was interrupted, going on")
                connection.close()
                time.sleep(LOOK_SECONDS)

    def _until_wanted(self) -> None:
        with self._lock:
            if not self._followers:
                self._wanted.clear()
        self._wanted.wait()

    def _look(self) -> None:
        with self._lock:
            followers = list(self._followers)
        jobs = {job.id: job for job in Job.objects.brief({follower.job_id for follower in followers})}
        for follower in followers:
            if follower.job_id in jobs:
                follower.tell(jobs[follower.job_id])


streams = Streams(max(0, settings.MAX_EVENT_STREAMS))
