"""From due rows to messages: the only publisher of work.

The backlog is rows, not messages. A pool gets bundles only while fewer are under way than its workers can have in hand;
that holding back is what makes bundles large under load, and costs nothing when there is none.
"""

import logging
import threading
import time
from collections import Counter
from uuid import UUID

from django.db import InterfaceError, OperationalError, connection
from django.db.models import Count

from inference_portal.jobs import changes
from inference_portal.jobs.claims import Claim, claim, mark_sent, release_claim
from inference_portal.jobs.models import Job, Worker
from inference_portal.jobs.record import release_policy
from inference_portal.jobs.sweep import sweep
from workers import topology
from workers.contract import INFER, Bundle
from workers.failpoints import failpoint
from workers.publisher import Publisher

logger = logging.getLogger(__name__)

# A worker process runs one bundle and finds the next one ready; an idle pool may always wake.
BUNDLES_PER_PROCESS = 2
# Between two claims under load, so that rows gather (measured: 614-655 against 872-892 jobs/s).
CLAIM_PAUSE_SECONDS = 0.008
SWEEP_SECONDS = 1.0


class Dispatcher:
    """Claims, publishes, sweeps, until told to stop."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._room = Room()

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set. Survives a database or a broker that is away."""
        source = changes.listen(changes.DISPATCH)
        swept = 0.0
        while not stop.is_set():
            try:
                if time.monotonic() - swept > SWEEP_SECONDS:
                    sweep()
                    swept = time.monotonic()
                busy = self.step()
            except (OperationalError, InterfaceError) as error:
                logger.warning("the database is away, trying again: %s", error)
                connection.close()
                stop.wait(1.0)
                continue
            except Exception:
                logger.exception("dispatching was interrupted, trying again")
                stop.wait(1.0)
                continue
            if busy:
                stop.wait(CLAIM_PAUSE_SECONDS)
            else:
                source.wait(SWEEP_SECONDS / 4)
        source.close()
        self._publisher.close()

    def step(self) -> bool:
        """Claim what there is room for and send it. Returns whether there was any."""
        if not Job.objects.due().exists():
            return False
        failed: dict[str, Exception] = {}
        claims = claim(self._room.by_pool())
        for claimed in claims:
            if claimed.pool not in failed:
                try:
                    self._send(claimed)
                    continue
                except Exception as error:
                    failed[claimed.pool] = error
            # Perhaps stored, perhaps not: the same attempt goes out again, and only one result will count. A pool whose
            # queue is full or missing holds up no other.
            release_claim(claimed)
        for pool, reason in failed.items():
            logger.warning("%s: not published, trying again: %s", pool, reason)
        if failed and len(failed) == len({claimed.pool for claimed in claims}):
            raise next(iter(failed.values()))
        return bool(claims)

    def _send(self, claimed: Claim) -> None:
        inputs = dict(Job.objects.filter(id__in=claimed.ids).values_list("id", "input"))
        data = b"".join(bytes(inputs[UUID(job.id)]) for job in claimed.jobs)
        rows = sum(job.rows for job in claimed.jobs)
        bundle = Bundle(
            id=str(claimed.bundle),
            model=claimed.model,
            version=claimed.version,
            sha256=claimed.sha256,
            columns=len(data) // 4 // rows,
            jobs=claimed.jobs,
            data=data,
        )
        failpoint("dispatcher.before_publish")
        self._publisher.send(
            INFER,
            bundle.to_message(),
            exchange=topology.REQUESTS,
            routing_key=f"{claimed.pool}.{claimed.model}",
            about=f"{claimed.model}:{claimed.version} {len(claimed.jobs)} jobs, {rows} rows",
            time_limit=release_policy(claimed.model, claimed.version).timeout_seconds,
        )
        failpoint("dispatcher.after_publish")
        mark_sent(claimed)


class Room:
    """How many more bundles each pool may have under way."""

    def __init__(self) -> None:
        self._processes: Counter[str] = Counter()
        self._looked = float("-inf")

    def by_pool(self) -> dict[str, int]:
        """Return the number for each pool that has room."""
        if time.monotonic() - self._looked > SWEEP_SECONDS:
            self._processes = Counter()
            for pools, processes in Worker.objects.alive().values_list("pools", "processes"):
                for pool in pools:
                    self._processes[pool] += processes
            self._looked = time.monotonic()
        under_way = dict(
            Job.objects.filter(lease_until__isnull=False)
            .values("pool")
            .annotate(bundles=Count("bundle", distinct=True))
            .values_list("pool", "bundles")
        )
        room = {
            pool: BUNDLES_PER_PROCESS * max(1, self._processes[pool]) - under_way.get(pool, 0)
            for pool in topology.POOLS
        }
        return {pool: free for pool, free in room.items() if free > 0}
