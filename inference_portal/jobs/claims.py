"""Claims: due jobs taken by one dispatcher, as bundles of one release, until they are sent or put back."""

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from inference_portal.jobs.models import Job, JobQuerySet
from inference_portal.jobs.record import sent_lease
from inference_portal.jobs.room import Share
from inference_portal.jobs.states import IN_FLIGHT, Event, target
from inference_portal.jobs.turns import Lane, Turn, Turns
from workers.contract import JobItem
from workers.failpoints import failpoint

logger = logging.getLogger(__name__)

# One predict call: above some hundred rows a larger matrix gains nothing, and one message stays small.
BUNDLE_ROWS = 256


@dataclass(frozen=True, slots=True)
class Claim:
    """Jobs of one release that this dispatcher alone may send now."""

    bundle: UUID
    lane: Lane
    model: str
    version: str
    sha256: str
    jobs: tuple[JobItem, ...]

    @property
    def ids(self) -> list[str]:
        """The jobs' ids."""
        return [job.id for job in self.jobs]

    @property
    def rows(self) -> int:
        """How many rows its jobs have together."""
        return sum(job.rows for job in self.jobs)


def claim(room: dict[Lane, Share], turns: Turns) -> list[Claim]:
    """Take due jobs for the lanes that have room, as bundles; nobody else can take them for CLAIM_SECONDS."""
    claims: list[Claim] = []
    try:
        with transaction.atomic():
            until = timezone.now() + timedelta(seconds=settings.CLAIM_SECONDS)
            for lane, share in room.items():
                rows = 0 if lane.isolated else BUNDLE_ROWS
                due = turns.next(lane, share.teams, share.bundles * max(1, rows))
                claims += pack(lane, due, share.bundles, rows)
            for claimed in claims:
                Job.objects.filter(id__in=claimed.ids).update(
                    state=target(Event.DISPATCH), bundle=claimed.bundle, lease_until=until, sent_at=None
                )
    except IntegrityError:
        # Another dispatcher has just sent a job of the same ordering key; the next look will know.
        logger.info("another dispatcher was first")
        return []
    failpoint("dispatcher.after_claim")
    return claims


def pack(lane: Lane, due: list[Turn], room: int, most_rows: int) -> list[Claim]:
    """Put jobs, in their order, into at most `room` bundles.

    A bundle holds jobs of one release and at most `most_rows` rows, or one larger job.
    """
    bundles: list[tuple[tuple[str, str, str], list[JobItem]]] = []
    filling: dict[tuple[str, str, str], list[JobItem]] = {}
    filled: Counter[tuple[str, str, str]] = Counter()
    closed: set[tuple[str, str, str]] = set()
    for turn in due:
        release = turn.release
        if release in closed:
            continue
        if release not in filling or filled[release] + turn.rows > most_rows:
            if len(bundles) >= room:
                # The order within a release is kept: what doesn't fit isn't overtaken by something smaller.
                closed.add(release)
                continue
            filled[release] = 0
            filling[release] = []
            bundles.append((release, filling[release]))
        filled[release] += turn.rows
        expires = None if turn.expires_at is None else turn.expires_at.timestamp()
        filling[release].append(JobItem(str(turn.id), turn.attempt, turn.rows, expires))
    return [Claim(uuid4(), lane, *release, jobs=tuple(items)) for release, items in bundles]


def mark_sent(*claims: Claim) -> None:
    """Note that the broker has the bundles; from now on their jobs have the time that their models may take."""
    now = timezone.now()
    by_lane: dict[Lane, list[Claim]] = defaultdict(list)
    for claimed in claims:
        by_lane[claimed.lane].append(claimed)
    for lane, sent in by_lane.items():
        _update(sent, sent_at=now, lease_until=now + sent_lease(*lane))


def release_claim(*claims: Claim) -> None:
    """Put unsent jobs back, due at once."""
    if claims:
        _update(claims, lease_until=None, bundle=None)


def still_claimed(*claims: Claim) -> JobQuerySet:
    """Return those of the bundles' jobs that nothing has happened to since.

    Of an earlier message for the same attempt, stored but not confirmed, the result may come at any time; and a job may
    be cancelled, and even rerun as something else.
    """
    ids = [job_id for claimed in claims for job_id in claimed.ids]
    bundles = [claimed.bundle for claimed in claims]
    return Job.objects.filter(
        id__in=ids, bundle__in=bundles, state__in=IN_FLIGHT, lease_until__isnull=False, sent_at=None
    )


def _update(claims: Sequence[Claim], **fields: Any) -> None:
    """Update what is still claimed; a row that a recorder holds now, which locks in another order, is passed over."""
    with transaction.atomic():
        Job.objects.filter(id__in=still_claimed(*claims).not_locked().values("id")).update(**fields)
