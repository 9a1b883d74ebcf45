"""Claims: due jobs taken by one dispatcher, as bundles of one release, until they are sent or put back."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from inference_portal.jobs import sql
from inference_portal.jobs.models import Job
from inference_portal.jobs.record import sent_lease
from inference_portal.jobs.room import Share
from inference_portal.jobs.states import IN_FLIGHT, Event, target
from inference_portal.jobs.turns import Lane, Turn, Turns
from inference_portal.store import model_store
from workers.contract import JobItem
from workers.failpoints import failpoint
from workers.manifest import BUNDLE_ROWS, CONTAINER, EXPLAIN, Manifest
from workers.model_store import UnknownModel

logger = logging.getLogger(__name__)

# How many rows a bundle may have in a lane, of a model and version.
RowsOf = Callable[[Lane, str, str], int]


_IN_FLIGHT = sorted(IN_FLIGHT)
_CLAIM = "UPDATE jobs_job SET state = %s, bundle = %s, lease_until = %s, sent_at = NULL WHERE id IN ({})"


@dataclass(frozen=True, slots=True)
class Claim:
    """Jobs of one release that this dispatcher alone may send now."""

    bundle: UUID
    lane: Lane
    model: str
    version: str
    sha256: str
    jobs: tuple[JobItem, ...]
    step: str = ""
    timeout: float | None = None

    @property
    def ids(self) -> list[str]:
        """The jobs' ids."""
        return [job.id for job in self.jobs]

    @property
    def rows(self) -> int:
        """How many rows its jobs have together."""
        return sum(job.rows for job in self.jobs)


def claim(room: list[Share], turns: Turns) -> list[Claim]:
    """Take due jobs for the lanes that have room, as bundles; nobody else can take them for CLAIM_SECONDS."""
    claims: list[Claim] = []
    turns.left_some = False
    try:
        with transaction.atomic():
            until = timezone.now() + timedelta(seconds=settings.CLAIM_SECONDS)
            for lane, bundles, teams in room:
                due, more = turns.next(lane, teams, bundles * max(1, most_rows(lane)))
                packed = pack(lane, due, bundles, bundle_rows)
                turns.left_some |= more and len(packed) < bundles
                claims += packed
            for claimed in claims:
                ids = sql.keys(claimed.ids)
                values = [target(Event.DISPATCH), *sql.keys([claimed.bundle]), sql.moment(until), *ids]
                with connection.cursor() as cursor:
                    cursor.execute(_CLAIM.format(sql.places(ids)), values)
    except IntegrityError:
        # Another dispatcher has just sent a job of the same ordering key; the next look will know.
        logger.info("another dispatcher was first")
        return []
    failpoint("dispatcher.after_claim")
    return claims


def bundle_rows(lane: Lane, model: str, version: str) -> int:
    """Return how many rows a bundle of the release may have in the lane; 0 leaves each job alone."""
    if lane.isolated or lane.pool == CONTAINER:
        return 0
    try:
        return _rows(lane, model_store().get(model, version).manifest)
    except UnknownModel:
        return BUNDLE_ROWS


def most_rows(lane: Lane) -> int:
    """Return how many rows a bundle may have in the lane, of whatever release."""
    if lane.isolated or lane.pool == CONTAINER:
        return 0
    manifests = (release.manifest for release in model_store().snapshot().every())
    return max((_rows(lane, manifest) for manifest in manifests if lane.pool in manifest.pools), default=BUNDLE_ROWS)


def _rows(lane: Lane, manifest: Manifest) -> int:
    most = manifest.micro_batch.max_rows
    if lane.pool == EXPLAIN and manifest.explanations is not None:
        return min(most, manifest.explanations.max_rows)
    return most


def pack(lane: Lane, due: list[Turn], room: int, rows_of: RowsOf) -> list[Claim]:
    """Put jobs, in their order, into at most `room` bundles.

    A bundle holds jobs of one release and at most as many rows as `rows_of` says, or one larger job; a batch's step
    goes alone.
    """
    bundles: list[tuple[Turn, list[JobItem]]] = []
    filling: dict[tuple[str, str, str], list[JobItem]] = {}
    filled: Counter[tuple[str, str, str]] = Counter()
    closed: set[tuple[str, str, str]] = set()
    for turn in due:
        release = turn.release
        if turn.step:
            if len(bundles) < room:
                bundles.append((turn, [_item(turn)]))
            continue
        if release in closed:
            continue
        if release not in filling or filled[release] + turn.rows > rows_of(lane, *release[:2]):
            if len(bundles) >= room:
                # The order within a release is kept: what doesn't fit isn't overtaken by something smaller.
                closed.add(release)
                continue
            filled[release] = 0
            filling[release] = []
            bundles.append((turn, filling[release]))
        filled[release] += turn.rows
        filling[release].append(_item(turn))
    return [
        Claim(uuid4(), lane, *first.release, jobs=tuple(items), step=first.step, timeout=first.timeout)
        for first, items in bundles
    ]


def _item(turn: Turn) -> JobItem:
    return JobItem(
        str(turn.id), turn.attempt, turn.rows, None if turn.expires_at is None else turn.expires_at.timestamp()
    )


def mark_sent(*claims: Claim) -> None:
    """Note that the broker has the bundles; from now on their jobs have the time that their models may take."""
    now = timezone.now()
    by_lane: dict[Lane, list[Claim]] = defaultdict(list)
    for claimed in claims:
        by_lane[claimed.lane].append(claimed)
    for lane, sent in by_lane.items():
        _update(sent, "sent_at = %s, lease_until = %s", now, now + sent_lease(*lane))


def release_claim(*claims: Claim) -> None:
    """Put unsent jobs back, due at once."""
    if claims:
        _update(claims, "lease_until = %s, bundle = %s", None, None)


def inputs(claimed: Claim) -> dict[str, bytes]:
    """Return the inputs, by id, of those of the bundle's jobs that nothing has happened to since.

    Of an earlier message for the same attempt, stored but not confirmed, the result may come at any time; and a job may
    be cancelled, and even rerun as something else.
    """
    condition, values = _still_claimed([claimed])
    with connection.cursor() as cursor:
        # Constants; every value is a parameter.
        cursor.execute(f"SELECT id, input FROM jobs_job WHERE {condition}", values)  # noqa: S608
        return {str(sql.as_uuid(job_id)): bytes(data) for job_id, data in cursor.fetchall()}


def prefer(claimed: Claim) -> str:
    """Return what a container is to get as its header Prefer along with the job."""
    (job,) = claimed.jobs
    reply = Job.objects.filter(id=job.id).values_list("reply", flat=True).first()
    return str((reply or {}).get("prefer", ""))


def _still_claimed(claims: Sequence[Claim]) -> tuple[str, list[Any]]:
    """Return the condition, with its values, under which a row is still this claim's and not sent."""
    ids = sql.keys(job_id for claimed in claims for job_id in claimed.ids)
    bundles = sql.keys(claimed.bundle for claimed in claims)
    condition = (
        f"id IN ({sql.places(ids)}) AND bundle IN ({sql.places(bundles)}) AND state IN ({sql.places(_IN_FLIGHT)}) "
        "AND lease_until IS NOT NULL AND sent_at IS NULL"
    )
    return condition, [*ids, *bundles, *_IN_FLIGHT]


def _update(claims: Sequence[Claim], fields: str, *moments: datetime | None) -> None:
    """Update what is still claimed; a row that a recorder holds now, which locks in another order, is passed over."""
    condition, values = _still_claimed(claims)
    if connection.vendor == "postgresql":
        condition = f"id IN (SELECT id FROM jobs_job WHERE {condition} FOR UPDATE SKIP LOCKED)"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE jobs_job SET {fields} WHERE {condition}",  # noqa: S608
            [*map(sql.moment, moments), *values],
        )
