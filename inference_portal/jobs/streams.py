"""Clients that follow jobs: one thread a process looks for all of them, and tells each what it sees change.

Ends are told by the database at once (see `jobs.changes`); other changes are seen within LOOK_SECONDS. A follower holds
a thread and no database connection, and while nobody follows anything the process holds none for it either.
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

    def __init__(self, job: Job) -> None:
        self.job_id = job.id
        self._seen: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._last: tuple[str, int] | None = None
        self.tell(job)

    def next(self, seconds: float) -> Job | None:
        """Return the job as it was when it changed next, None if it didn't within `seconds`. Holds no connection."""
        let_go()
        try:
            return self._seen.get(timeout=seconds)
        except queue.Empty:
            return None

    def knows(self, state: str, attempt: int) -> bool:
        """Tell whether this is what it was told last."""
        return (state, attempt) == self._last

    def tell(self, job: Job) -> None:
        """Hand over the job as it is now; called by one thread at a time."""
        if not self.knows(job.state, job.attempt):
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
        follower = Follower(job)
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
            self._until_wanted()
            try:
                self._watch()
            except Exception:
                logger.exception("following jobs was interrupted, going on")
                time.sleep(LOOK_SECONDS)
            finally:
                connection.close()

    def _until_wanted(self) -> None:
        with self._lock:
            if not self._followers:
                self._wanted.clear()
        self._wanted.wait()

    def _watch(self) -> None:
        """Look for the followers until none is left.

        Nobody may keep listening without reading: the notifications would fill PostgreSQL's queue, until every
        transaction that notifies fails.
        """
        due = 0.0
        with closing(changes.listen(changes.FINAL)) as source:
            while ids := self._followed():
                # The first time, when it has begun to listen, a source says to look at everything.
                payloads = source.wait(max(0.0, due - time.monotonic()))
                if payloads is not None and time.monotonic() < due:
                    ended = changes.ids_in(payloads)
                    ids = {job_id for job_id in ids if str(job_id) in ended}
                else:
                    due = time.monotonic() + LOOK_SECONDS
                if ids:
                    self._look(ids)

    def _followed(self) -> set[UUID]:
        with self._lock:
            return {follower.job_id for follower in self._followers}

    def _look(self, ids: set[UUID]) -> None:
        """Tell what has changed: of the others only state and attempt are read, not their results."""
        found = Job.objects.filter(id__in=ids).values_list("id", "state", "attempt")
        now = {job_id: (state, attempt) for job_id, state, attempt in found}
        with self._lock:
            behind = [f for f in self._followers if f.job_id in now and not f.knows(*now[f.job_id])]
        if behind:
            jobs = {job.id: job for job in Job.objects.brief({follower.job_id for follower in behind})}
            for follower in behind:
                if follower.job_id in jobs:
                    follower.tell(jobs[follower.job_id])


streams = Streams(max(0, settings.MAX_EVENT_STREAMS))
