"""From due rows to messages: the only publisher of work.

The backlog is rows, not messages. A pool gets bundles only while fewer are under way than its workers can have in hand;
that holding back is what makes bundles large under load, and costs nothing when there is none.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from uuid import UUID

from django.db import InterfaceError, OperationalError, connection

from inference_portal.jobs import changes
from inference_portal.jobs.claims import Claim, bundle_rows, claim, inputs, mark_sent, prefer, release_claim
from inference_portal.jobs.record import release_policy
from inference_portal.jobs.retention import purge
from inference_portal.jobs.room import Room
from inference_portal.jobs.sweep import expire, sweep
from inference_portal.jobs.turns import Turns, waiting
from workers import topology
from workers.contract import INFER, STEP, Bundle
from workers.failpoints import failpoint
from workers.manifest import CONTAINER, EXPLAIN
from workers.publisher import Publisher

logger = logging.getLogger(__name__)

# Between two claims under load, so that rows gather (measured: 614-655 against 872-892 jobs/s). Where there are enough
# for a bundle already it would only make others wait.
CLAIM_PAUSE_SECONDS = 0.008
SWEEP_SECONDS = 1.0
# The longest wait for something to do.
IDLE_SECONDS = 0.25
# A chore is done so much early together with another one: each time of its own would wake everything once more.
TOGETHER_SECONDS = 0.05
# After an error.
PAUSE_SECONDS = 1.0


class Chore(NamedTuple):
    """What is done about every so many seconds, between two steps: it takes a moment at most, jobs wait meanwhile.

    With `soon` also after a batch's step may have ended, so many seconds after the last time.
    """

    act: Callable[[], object]
    seconds: float = SWEEP_SECONDS
    soon: float | None = None


CHORES = (Chore(sweep), Chore(expire), Chore(purge))


class Dispatcher:
    """Claims, publishes, does its chores, until told to stop."""

    def __init__(self, publisher: Publisher, chores: Sequence[Chore] = CHORES) -> None:
        self._publisher = publisher
        self._chores = [(chore, float("-inf")) for chore in chores]
        self._room = Room()
        self._turns = Turns()
        # When a batch's step may have ended.
        self._changed = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set. Survives a database or a broker that is away."""
        source = changes.listen(changes.DISPATCH)
        while not stop.is_set():
            now = time.monotonic()
            self._chores = [(chore, self._done(chore, last, now)) for chore, last in self._chores]
            done = False
            with _survived("dispatching"):
                claims = self.step()
                if claims and not any(_is_large(claimed) for claimed in claims):
                    stop.wait(CLAIM_PAUSE_SECONDS)
                if not (claims and self._turns.left_some):
                    told = source.wait(min(IDLE_SECONDS, self._until_chore()))
                    if told is None or changes.STEPS in told:
                        self._changed = time.monotonic()
                done = True
            if not done:
                stop.wait(PAUSE_SECONDS)
        source.close()
        self._publisher.close()

    def _until_chore(self) -> float:
        """Return the seconds until it is time for a chore: what was waited for may have been too early for it."""
        return max(0.0, min(self._due(chore, last) for chore, last in self._chores) - time.monotonic())

    def _due(self, chore: Chore, last: float) -> float:
        """Return when it is time for a chore that was last done then."""
        return last + (chore.seconds if chore.soon is None or self._changed <= last else chore.soon)

    def _done(self, chore: Chore, last: float, now: float) -> float:
        """Do a chore if it is time for it; returns when it was done. Whatever keeps failing there, jobs are sent."""
        if now < min(self._due(chore, last), last + chore.seconds - TOGETHER_SECONDS):
            return last
        with _survived(getattr(chore.act, "__name__", "a chore")):
            chore.act()
        return time.monotonic()

    def step(self) -> list[Claim]:
        """Claim what there is room for and send it. Returns what there was."""
        due = waiting()
        if not due:
            return []
        claims = claim(self._room.shares(due), self._turns)
        failures: dict[UUID, Exception] = {}
        posted: list[Claim] = []
        for claimed in claims:
            try:
                if self._post(claimed):
                    posted.append(claimed)
            except Exception as error:
                failures[claimed.bundle] = error
        for claimed, failure in zip(posted, self._publisher.settle(), strict=True):
            if failure is not None:
                failures[claimed.bundle] = failure
        failpoint("dispatcher.after_publish")
        # In one transaction each, which is a third of a step's time for one bundle.
        mark_sent(*(claimed for claimed in claims if claimed.bundle not in failures))
        # Perhaps stored, perhaps not: the same attempt goes out again, and only one result will count.
        release_claim(*(claimed for claimed in claims if claimed.bundle in failures))
        # A lane whose queue is full or missing holds up no other.
        failed = {claimed.lane: failures[claimed.bundle] for claimed in claims if claimed.bundle in failures}
        for lane, reason in failed.items():
            logger.warning("%s: not published, trying again: %s", topology.lane(*lane), reason)
        if failed and len(failed) == len({claimed.lane for claimed in claims}):
            raise next(iter(failed.values()))
        return claims

    def _post(self, claimed: Claim) -> bool:
        """Post what is still in the claim. False: there is nothing."""
        there = inputs(claimed)
        jobs = tuple(job for job in claimed.jobs if job.id in there)
        if not jobs:
            return False
        data = b"".join(there[job.id] for job in jobs)
        rows = sum(job.rows for job in jobs)
        bundle = Bundle(
            id=str(claimed.bundle),
            model=claimed.model,
            version=claimed.version,
            sha256=claimed.sha256,
            columns=1 if claimed.step else len(data) // 4 // rows,
            jobs=jobs,
            data=data,
            explain=claimed.lane.pool == EXPLAIN,
            step=claimed.step,
            prefer=prefer(claimed) if claimed.lane.pool == CONTAINER and not claimed.step else "",
        )
        failpoint("dispatcher.before_publish")
        what = f"batch {claimed.step}," if claimed.step else f"{len(jobs)} jobs,"
        self._publisher.post(
            STEP if claimed.step else INFER,
            bundle.to_message(),
            exchange=topology.REQUESTS,
            routing_key=topology.routing_key(*claimed.lane, claimed.model),
            about=f"{claimed.model}:{claimed.version} {what} {rows} rows",
            time_limit=claimed.timeout or release_policy(claimed.model, claimed.version).timeout_seconds,
        )
        return True


def _is_large(claimed: Claim) -> bool:
    return 2 * claimed.rows > bundle_rows(claimed.lane, claimed.model, claimed.version) > 0


@contextmanager
def _survived(what: str) -> Iterator[None]:
    """Log what goes wrong inside, and go on."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        logger.warning("%s: the database is away, trying again: %s", what, error)
        connection.close()
    except Exception:
        logger.exception("%s was interrupted, trying again", what)
