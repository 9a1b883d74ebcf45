"""How many jobs may be open: of one team, and in all. A queue without a bound grows until something breaks.

The steps of batches aren't counted: how many there may be is bounded by their batch.

Each portal process counts for itself: what the database said last, and on top whatever it has accepted since. It never
misses a job of its own; for a moment it may count one twice. Other processes' jobs it knows from the database, which is
asked again after a second (five while half of the places are free): several portals may together overshoot by what they
accept within that second.

A refusal is never told from memory: the database is asked after the request has come, so that a client whose jobs have
just ended gets through. Those who are about to be refused wait for that one answer together.
"""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.db.models import F
from django.utils import timezone

from inference_portal.jobs.models import Job
from inference_portal.jobs.pool import give_back

# So old may a count be for accepting; and while no more than half of the places are taken.
SAMPLE_SECONDS = 1.0
QUIET_SAMPLE_SECONDS = 5.0
NEVER = -QUIET_SAMPLE_SECONDS
# Before refusals the database counts again, and then has peace for so many times as long (up to SAMPLE_SECONDS): with
# many open jobs it is busy with that for a tenth of a core, with few of them nobody has to wait.
REST = 10
# While jobs come and go at the same moment, the places that a look has found may be taken before one gets there: so
# many seconds one looks again before it is a refusal all the same.
PATIENCE = 10.0
# What the rate is measured over.
RATE_SECONDS = 20.0
RETRY_UNKNOWN, RETRY_LEAST, RETRY_MOST = 30, 1, 600
_OPEN = "SELECT COUNT(*) FROM jobs_job WHERE finished_at IS NULL AND batch_id IS NULL"
_OPEN_AND_QUOTA = f"SELECT ({_OPEN} AND team_id = %s), (SELECT quota FROM accounts_team WHERE id = %s)"  # noqa: S608


class Full(RuntimeError):
    """As many jobs are open as may be: of the team, or (`of_team` False) in all.

    In `retry_after` seconds about a tenth of the places will be free again.
    """

    def __init__(self, detail: str, *, of_team: bool, retry_after: int) -> None:
        self.of_team, self.retry_after = of_team, retry_after
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Sample:
    """What the database said: how many jobs are open, and how many may be. Times are of the monotonic clock."""

    begun: float
    ended: float
    open: int
    limit: int


class OpenJobs:
    """The open jobs of one team, or of all teams together."""

    def __init__(self, team_id: int | None) -> None:
        self._team_id = team_id
        self._lock = threading.Lock()
        self._sample = Sample(begun=NEVER, ended=NEVER, open=0, limit=0)
        # Accepted here and not surely in the sample; and those of them whose insert is under way.
        self._since = 0
        self._pending = 0
        # Held by the thread that asks the database for these.
        self._asking = threading.Lock()
        self._measuring = threading.Lock()
        self._rate = 0.0
        self._rate_at = NEVER

    def add(self, wanted: int = 1) -> int:
        """Count up to `wanted` more jobs before they are stored; `settle` must follow.

        Returns for how many of them there is a place. Raises Full when there is none.
        """
        arrived = time.monotonic()
        while True:
            with self._lock:
                sample, counted = self._sample, self._sample.open + self._since
                quiet = 2 * counted <= sample.limit
                age = QUIET_SAMPLE_SECONDS if quiet else SAMPLE_SECONDS
                if counted < sample.limit and sample.begun > arrived - age:
                    granted = min(wanted, sample.limit - counted)
                    self._since += granted
                    self._pending += granted
                    return granted
            full = sample.open >= sample.limit and sample.begun >= arrived
            if full or time.monotonic() > arrived + PATIENCE:
                raise self._full(sample.limit, counted)
            self._ask(sample)

    def settle(self, granted: int = 1) -> None:
        """Note that the insert is over: from now on the database knows about it, however it ended."""
        with self._lock:
            self._pending -= granted

    def _ask(self, seen: Sample) -> None:
        """Take another sample than the one that was seen, unless somebody else has done so."""
        with _alone(self._asking):
            if self._sample is not seen:
                return
            rest = min(REST * (seen.ended - seen.begun), SAMPLE_SECONDS)
            pause = seen.ended + rest - time.monotonic()
            if pause > 0:
                give_back()
                time.sleep(pause)
            # Waiting for a connection is no work of the database.
            connection.ensure_connection()
            with self._lock:
                settled = self._since - self._pending
                begun = time.monotonic()
            counted, limit = self._look()
            with self._lock:
                self._since -= settled
                self._sample = Sample(begun, time.monotonic(), counted, limit)

    def _look(self) -> tuple[int, int]:
        """Return how many jobs are open, and how many may be, by the database and the settings."""
        with connection.cursor() as cursor:
            if self._team_id is None:
                cursor.execute(_OPEN)
                return int(cursor.fetchone()[0]), int(settings.MAX_OPEN_JOBS)
            cursor.execute(_OPEN_AND_QUOTA, [self._team_id, self._team_id])
            counted, own = cursor.fetchone()
            return int(counted), int(settings.TEAM_QUOTA if own is None else own)

    def _full(self, limit: int, counted: int) -> Full:
        rate, wait = self._jobs_per_second(), RETRY_UNKNOWN
        if rate > 0:
            missing = counted - limit + max(1, limit // 10)
            wait = min(max(math.ceil(missing / rate), RETRY_LEAST), RETRY_MOST)
        whose = "All teams together have" if self._team_id is None else "The team has"
        detail = f"{whose} {counted:,} open jobs; at most {limit:,} may be open at once."
        return Full(detail, of_team=self._team_id is not None, retry_after=wait)

    def _jobs_per_second(self) -> float:
        """Return how many jobs have ended lately; measured again after a second."""
        with _alone(self._measuring):
            if time.monotonic() - self._rate_at > SAMPLE_SECONDS:
                ended = Job.objects.ended_since(timezone.now() - timedelta(seconds=RATE_SECONDS))
                if self._team_id is not None:
                    # The sum keeps SQLite from reading all jobs of the team instead of what ended lately.
                    ended = ended.alias(whose=F("team_id") + 0).filter(whose=self._team_id)
                self._rate = ended.count() / RATE_SECONDS
                self._rate_at = time.monotonic()
            return self._rate


class Quota:
    """The bounds of all teams, as one process knows them."""

    def __init__(self) -> None:
        self._all = OpenJobs(None)
        self._teams: dict[int, OpenJobs] = {}

    @contextmanager
    def places(self, team_id: int, wanted: int = 1) -> Iterator[int]:
        """Hold places for up to `wanted` jobs while they are stored, and say for how many. Raises Full for none."""
        team = self._teams.get(team_id) or self._teams.setdefault(team_id, OpenJobs(team_id))
        of_team = team.add(wanted)
        try:
            of_all = self._all.add(of_team)
            try:
                yield of_all
            finally:
                self._all.settle(of_all)
        finally:
            team.settle(of_team)


@contextmanager
def _alone(lock: threading.Lock) -> Iterator[None]:
    """Be the only thread here. Who has to wait holds no connection: the one inside needs one."""
    if not lock.acquire(blocking=False):
        give_back()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


quota = Quota()
