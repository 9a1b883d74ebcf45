"""How much waits in each lane, for operators: all from rows, since the portal never asks the broker.

Each query goes by a partial index over what is open, has ended lately, or waits for a person. The jobs that have ended
long ago, which are most, are not read.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Min, Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from inference_portal.jobs.models import Job, Worker
from inference_portal.jobs.quota import RATE_SECONDS
from inference_portal.jobs.states import State
from inference_portal.jobs.turns import Lane
from workers import topology

LANES = tuple(Lane(pool, isolated) for pool in topology.POOLS for isolated in (False, True))


@dataclass(frozen=True, slots=True)
class Queue:
    """One lane as it is now."""

    lane: Lane
    # Its open jobs by their state, and how many of them wait as rows: no message is under way for these.
    states: Counter[str]
    rows: int
    # The bundles that the broker or a worker has.
    messages: int
    # In seconds, of the job that has waited longest to be started.
    oldest_wait: float
    # Processes of live workers.
    consumers: int
    # What was given up in this lane and waits for a person.
    dead_letters: int

    @property
    def name(self) -> str:
        """The lane's name, as workers report it."""
        return topology.lane(*self.lane)


def queues() -> list[Queue]:
    """Return every lane that carries work."""
    now = timezone.now()
    states: dict[Lane, Counter[str]] = defaultdict(Counter)
    rows: Counter[Lane] = Counter()
    since: dict[Lane, datetime] = {}
    # A retry waits from the moment at which it is due.
    due = Q(not_before=None) | Q(not_before__lte=now)
    open_jobs = Job.objects.filter(finished_at=None).values_list("pool", "isolated", "state")
    for pool, isolated, state, jobs, unsent, first in open_jobs.annotate(
        jobs=Count("pk"),
        unsent=Count("pk", filter=Q(lease_until=None)),
        first=Min(Coalesce("not_before", "queued_at"), filter=due),
    ):
        lane = Lane(pool, isolated)
        states[lane][state] = jobs
        rows[lane] += unsent
        if first is not None and state != State.RUNNING:
            since[lane] = min(first, since.get(lane, now))
    sent = Job.objects.filter(lease_until__isnull=False, sent_at__isnull=False)
    messages = _by_lane(sent.values_list("pool", "isolated").annotate(Count("bundle", distinct=True)))
    dead = _by_lane(Job.objects.dead_letters().order_by().values_list("pool", "isolated").annotate(Count("pk")))
    processes = Worker.objects.processes()
    return [
        Queue(
            lane=lane,
            states=states[lane],
            rows=rows[lane],
            messages=messages[lane],
            oldest_wait=(now - since.get(lane, now)).total_seconds(),
            consumers=processes[topology.lane(*lane)],
            dead_letters=dead[lane],
        )
        for lane in LANES
    ]


def rates() -> dict[Lane, float]:
    """Return how many jobs of each lane have ended lately, a second."""
    ended = Job.objects.ended_since(timezone.now() - timedelta(seconds=RATE_SECONDS))
    counts = _by_lane(ended.values_list("pool", "isolated").annotate(Count("pk")))
    return {lane: counts[lane] / RATE_SECONDS for lane in LANES}


def _by_lane(counted: Iterable[tuple[Any, ...]]) -> Counter[Lane]:
    return Counter({Lane(pool, isolated): count for pool, isolated, count in counted})
