"""From due rows to messages: the only publisher of work.

The backlog is rows, not messages. A pool gets bundles only while fewer are under way than its workers can have in hand;
that holding back is what makes bundles large under load, and costs nothing when there is none.
"""

import logging
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Count
from django.utils import timezone

from inference_portal.jobs import changes
from inference_portal.jobs.models import Job, Worker
from inference_portal.jobs.record import lease
from inference_portal.jobs.states import IN_FLIGHT, Event, target
from inference_portal.jobs.sweep import sweep
from workers import topology
from workers.contract import INFER, Bundle, JobItem
from workers.failpoints import failpoint
from workers.publisher import Publisher

logger = logging.getLogger(__name__)

# One predict call: above some hundred rows a larger matrix gains nothing, and one message stays small.
BUNDLE_ROWS = 256
# A worker process runs one bundle and finds the next one ready; an idle pool may always wake.
BUNDLES_PER_PROCESS = 2
# Between two claims under load, so that rows gather (measured: 614-655 against 872-892 jobs/s).
CLAIM_PAUSE_SECONDS = 0.008
SWEEP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Claim:
    """Jobs of one release that this dispatcher alone may send now."""

    bundle: UUID
    pool: str
    model: str
    version: str
    sha256: str
    jobs: tuple[JobItem, ...]

    @property
    def ids(self) -> list[str]:
        """The jobs' ids."""
        return [job.id for job in self.jobs]


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
        for first in failed.values():
            raise first
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


def claim(room: dict[str, int]) -> list[Claim]:
    """Take due jobs for the pools that have room, as bundles; nobody else can take them for CLAIM_SECONDS."""
    if not room:
        return []
    due = Job.objects.due().filter(pool__in=room).not_locked()
    with transaction.atomic():
        fields = ("pool", "model", "version", "sha256", "id", "attempt", "rows")
        rows = list(due.values_list(*fields)[: BUNDLE_ROWS * sum(room.values())])
        claims = pack(rows, room)
        until = timezone.now() + timedelta(seconds=settings.CLAIM_SECONDS)
        for claimed in claims:
            Job.objects.filter(id__in=claimed.ids).update(
                state=target(Event.DISPATCH), bundle=claimed.bundle, lease_until=until, sent_at=None
            )
    failpoint("dispatcher.after_claim")
    return claims


def pack(due: list[tuple[str, str, str, str, UUID, int, int]], room: dict[str, int]) -> list[Claim]:
    """Put jobs (pool, model, version, sha256, id, attempt, rows), in their order, into at most `room[pool]` bundles.

    A bundle holds jobs of one release and at most BUNDLE_ROWS rows, or one larger job.
    """
    filling: dict[tuple[str, str, str, str], list[JobItem]] = {}
    closed: set[tuple[str, str, str, str]] = set()
    used: Counter[str] = Counter()
    full: dict[tuple[str, str, str, str], list[list[JobItem]]] = defaultdict(list)
    for *parts, job_id, attempt, rows in due:
        pool, model, version, sha256 = (str(part) for part in parts)
        release = (pool, model, version, sha256)
        items = filling.get(release)
        if release in closed:
            continue
        if items is None or sum(item.rows for item in items) + rows > BUNDLE_ROWS:
            if used[pool] >= room.get(pool, 0):
                # The order within a release is kept: what doesn't fit isn't overtaken by something smaller.
                closed.add(release)
                continue
            used[pool] += 1
            items = filling[release] = []
            full[release].append(items)
        items.append(JobItem(str(job_id), attempt, rows))
    return [Claim(uuid4(), *release, jobs=tuple(items)) for release, bundles in full.items() for items in bundles]


def mark_sent(claimed: Claim) -> None:
    """Note that the broker has confirmed the bundle; from now on its jobs have the time that their model may take."""
    now = timezone.now()
    _still_claimed(claimed, sent_at=now, lease_until=now + lease(claimed.model, claimed.version))


def release_claim(claimed: Claim) -> None:
    """Put unsent jobs back, due at once."""
    _still_claimed(claimed, lease_until=None, bundle=None)


def _still_claimed(claimed: Claim, **fields: Any) -> None:
    """Update those of the bundle's jobs for which nothing came back yet; a result may be quicker than the dispatcher.

    It locks rows in another order, so a row that it holds now is passed over: it has left the claim.
    """
    with transaction.atomic():
        waiting = Job.objects.filter(
            id__in=claimed.ids, bundle=claimed.bundle, state__in=IN_FLIGHT, lease_until__isnull=False, sent_at=None
        )
        Job.objects.filter(id__in=waiting.not_locked().values("id")).update(**fields)
