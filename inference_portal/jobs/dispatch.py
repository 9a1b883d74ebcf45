"""From due rows to messages: the only publisher of work.

The backlog is rows, not messages. A pool gets bundles only while fewer are under way than its workers can have in hand;
that holding back is what makes bundles large under load, and costs nothing when there is none.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import InterfaceError, OperationalError, connection

from inference_portal.jobs import changes
from inference_portal.jobs.claims import BUNDLE_ROWS, Claim, claim, inputs, mark_sent, release_claim
from inference_portal.jobs.record import release_policy
from inference_portal.jobs.retention import purge
from inference_portal.jobs.room import Room
from inference_portal.jobs.sweep import expire, sweep
from inference_portal.jobs.turns import Lane, Turns, waiting
from workers import topology
from workers.contract import INFER, Bundle
from workers.failpoints import failpoint
from workers.publisher import Publisher

logger = logging.getLogger(__name__)

# Between two claims under load, so that rows gather (measured: 614-655 against 872-892 jobs/s). Where there are enough
# for a bundle already it would only make others wait.
CLAIM_PAUSE_SECONDS = 0.008
SWEEP_SECONDS = 1.0
# So long may a confirmed bundle wait for the end of its step before that is written down.
NOTE_SECONDS = 1.0
# After an error.
PAUSE_SECONDS = 1.0


class Dispatcher:
    """Claims, publishes, sweeps, until told to stop."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._room = Room()
        self._turns = Turns()

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set. Survives a database or a broker that is away."""
        source = changes.listen(changes.DISPATCH)
        swept = 0.0
        while not stop.is_set():
            if time.monotonic() - swept > SWEEP_SECONDS:
                # Each for itself: whatever keeps failing there, jobs are sent.
                for chore in (sweep, expire, purge):
                    with _survived(chore.__name__):
                        chore()
                swept = time.monotonic()
            done = False
            with _survived("dispatching"):
                claims = self.step()
                if not claims:
                    source.wait(SWEEP_SECONDS / 4)
                elif not any(2 * claimed.rows > BUNDLE_ROWS for claimed in claims):
                    stop.wait(CLAIM_PAUSE_SECONDS)
                done = True
            if not done:
                stop.wait(PAUSE_SECONDS)
        source.close()
        self._publisher.close()

    def step(self) -> list[Claim]:
        """Claim what there is room for and send it. Returns what there was."""
        due = waiting()
        if not due:
            return []
        claims = claim(self._room.by_lane(due), self._turns)
        sent: list[Claim] = []
        unsent: list[Claim] = []
        failed: dict[Lane, Exception] = {}
        noted = time.monotonic()
        for claimed in claims:
            # A lane whose queue is full or missing holds up no other.
            if claimed.lane in failed:
                unsent.append(claimed)
                continue
            try:
                self._publish(claimed)
                sent.append(claimed)
            except Exception as error:
                failed[claimed.lane] = error
                unsent.append(claimed)
            # Two lanes that stall for SOCKET_TIMEOUT each take longer than the others' claims last.
            if time.monotonic() - noted > NOTE_SECONDS:
                mark_sent(*sent)
                sent.clear()
                noted = time.monotonic()
        # In one transaction each, which is a third of a step's time for one bundle.
        mark_sent(*sent)
        # Perhaps stored, perhaps not: the same attempt goes out again, and only one result will count.
        release_claim(*unsent)
        for lane, reason in failed.items():
            logger.warning("%s: not published, trying again: %s", topology.lane(*lane), reason)
        if failed and len(failed) == len({claimed.lane for claimed in claims}):
            raise next(iter(failed.values()))
        return claims

    def _publish(self, claimed: Claim) -> None:
        """Send what is still in the claim, if anything; returns once the broker has confirmed it."""
        there = inputs(claimed)
        jobs = tuple(job for job in claimed.jobs if job.id in there)
        if not jobs:
            return
        data = b"".join(there[job.id] for job in jobs)
        rows = sum(job.rows for job in jobs)
        bundle = Bundle(
            id=str(claimed.bundle),
            model=claimed.model,
            version=claimed.version,
            sha256=claimed.sha256,
            columns=len(data) // 4 // rows,
            jobs=jobs,
            data=data,
        )
        failpoint("dispatcher.before_publish")
        self._publisher.send(
            INFER,
            bundle.to_message(),
            exchange=topology.REQUESTS,
            routing_key=topology.routing_key(*claimed.lane, claimed.model),
            about=f"{claimed.model}:{claimed.version} {len(jobs)} jobs, {rows} rows",
            time_limit=release_policy(claimed.model, claimed.version).timeout_seconds,
        )
        failpoint("dispatcher.after_publish")


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
