"""Claims: due jobs taken by one dispatcher, as bundles of one release, until they are sent or put back."""

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from inference_portal.jobs.models import Job
from inference_portal.jobs.record import sent_lease
from inference_portal.jobs.states import IN_FLIGHT, Event, target
from workers.contract import JobItem
from workers.failpoints import failpoint

# One predict call: above some hundred rows a larger matrix gains nothing, and one message stays small.
BUNDLE_ROWS = 256


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
    bundles: list[tuple[tuple[str, str, str, str], list[JobItem]]] = []
    filling: dict[tuple[str, str, str, str], list[JobItem]] = {}
    filled: Counter[tuple[str, str, str, str]] = Counter()
    used: Counter[str] = Counter()
    closed: set[tuple[str, str, str, str]] = set()
    for pool, model, version, sha256, job_id, attempt, rows in due:
        release = (pool, model, version, sha256)
        if release in closed:
            continue
        if release not in filling or filled[release] + rows > BUNDLE_ROWS:
            if used[pool] >= room.get(pool, 0):
                # The order within a release is kept: what doesn't fit isn't overtaken by something smaller.
                closed.add(release)
                continue
            used[pool] += 1
            filled[release] = 0
            filling[release] = []
            bundles.append((release, filling[release]))
        filled[release] += rows
        filling[release].append(JobItem(str(job_id), attempt, rows))
    return [Claim(uuid4(), *release, jobs=tuple(items)) for release, items in bundles]


def mark_sent(claimed: Claim) -> None:
    """Note that the broker has confirmed the bundle; from now on its jobs have the time that their model may take."""
    now = timezone.now()
    _still_claimed(claimed, sent_at=now, lease_until=now + sent_lease(claimed.pool))


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
