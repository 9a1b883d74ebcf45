"""Clients that follow jobs: one thread a process looks for all of them, and tells each what it sees change.

What else has a state can be followed alike (`Kind`). Ends of jobs are told by the database at once (see
`jobs.changes`); other changes are seen within LOOK_SECONDS. A follower holds a thread and no database connection, and
while nobody follows anything the process holds none for it either.
"""

import logging
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Model

from inference_portal.jobs import changes
from inference_portal.jobs.models import Job
from inference_portal.jobs.pool import let_go
from inference_portal.jobs.waiting import NoPlace

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5


T = TypeVar("T", bound=Model)
# What is compared to see a change.
Mark = tuple[Any, ...]


class Kind(Protocol[T]):
    """What can be followed: rows with a UUID."""

    def mark(self, thing: T) -> Mark:
        """Return what tells one state of it from the next."""

    def marks(self, ids: set[UUID]) -> dict[UUID, Mark]:
        """Return the marks of those that exist now, at as little cost as can be."""

    def load(self, ids: set[UUID]) -> Iterable[T]:
        """Return those that exist now, as followers are told of them."""


class Jobs:
    """Jobs: state and attempt; of what hasn't changed no result is read."""

    def mark(self, thing: Job) -> Mark:
        """See Kind.mark."""
        return thing.state, thing.attempt

    def marks(self, ids: set[UUID]) -> dict[UUID, Mark]:
        """See Kind.marks."""
        found = Job.objects.filter(id__in=ids).values_list("id", "state", "attempt")
        return {job_id: (state, attempt) for job_id, state, attempt in found}

    def load(self, ids: set[UUID]) -> Iterable[Job]:
        """See Kind.load."""
        return Job.objects.brief(ids)


class Follower(Generic[T]):
    """One client that follows one thing."""

    def __init__(self, thing: T, mark: Mark) -> None:
        self.thing_id: UUID = thing.pk
        self._seen: queue.SimpleQueue[T] = queue.SimpleQueue()
        self._last: Mark | None = None
        self.tell(thing, mark)

    def next(self, seconds: float) -> T | None:
        """Return the thing as it was when it changed next, None if it didn't within `seconds`. Holds no connection."""
        let_go()
        try:
            return self._seen.get(timeout=seconds)
        except queue.Empty:
            return None

    def knows(self, mark: Mark) -> bool:
        """Tell whether this is what it was told last."""
        return mark == self._last

    def tell(self, thing: T, mark: Mark) -> None:
        """Hand over the thing as it is now; called by one thread at a time."""
        if not self.knows(mark):
            self._last = mark
            self._seen.put(thing)


class Places:
    """How many clients of this process may follow something at once: each takes a thread."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._free = threading.BoundedSemaphore(places)

    @property
    def taken(self) -> int:
        """How many of the places are taken now."""
        return self.places - self._free._value

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Take a place. Raises NoPlace."""
        if not self._free.acquire(blocking=False):
            raise NoPlace
        try:
            yield
        finally:
            self._free.release()


class Streams(Generic[T]):
    """Knows who follows which thing of one kind."""

    def __init__(self, places: Places, kind: Kind[T]) -> None:
        self.places = places
        self._kind = kind
        self._lock = threading.Lock()
        self._followers: set[Follower[T]] = set()
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def follow(self, thing: T) -> Iterator[Follower[T]]:
        """Take a place; the first that `next` returns is the thing as it is here. Raises NoPlace."""
        with self.places.taking():
            follower = Follower(thing, self._kind.mark(thing))
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

    def _run(self) -> None:
        while True:
            self._until_wanted()
            try:
                self._watch()
            except Exception:
                logger.exception("following was interrupted, going on")
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
                    ids = {each for each in ids if str(each) in ended}
                else:
                    due = time.monotonic() + LOOK_SECONDS
                if ids:
                    self._look(ids)

    def _followed(self) -> set[UUID]:
        with self._lock:
            return {follower.thing_id for follower in self._followers}

    def _look(self, ids: set[UUID]) -> None:
        """Tell what has changed."""
        now = self._kind.marks(ids)
        with self._lock:
            behind = [f for f in self._followers if f.thing_id in now and not f.knows(now[f.thing_id])]
        if behind:
            found = {thing.pk: thing for thing in self._kind.load({follower.thing_id for follower in behind})}
            for follower in behind:
                if follower.thing_id in found:
                    thing = found[follower.thing_id]
                    follower.tell(thing, self._kind.mark(thing))


places = Places(max(0, settings.MAX_EVENT_STREAMS))
streams = Streams(places, Jobs())
