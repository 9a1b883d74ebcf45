"""How many more bundles each lane may have under way, and whose jobs may be in them."""

import time
from collections import Counter, defaultdict
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from inference_portal.jobs.models import Worker
from inference_portal.jobs.record import BUNDLES_PER_PROCESS, SUSPECTS_PER_PROCESS
from inference_portal.jobs.turns import Lane
from workers import topology

# How often the live workers are counted.
LOOK_SECONDS = 1.0
_UNDER_WAY = "SELECT DISTINCT pool, isolated, bundle, team_id FROM jobs_job WHERE lease_until IS NOT NULL"


class Share(NamedTuple):
    """So many bundles, of these teams."""

    bundles: int
    teams: list[int]


class Room:
    """Counts what is under way, in the database, against the workers that live."""

    def __init__(self) -> None:
        self._processes: Counter[str] = Counter()
        self._looked = float("-inf")

    def by_lane(self, due: dict[Lane, list[int]]) -> dict[Lane, Share]:
        """Return the share of each lane in which jobs of these teams are due and may go.

        A lane that one team has filled still takes a bundle for each process of those who have nothing under way there:
        they don't wait for a flood to drain.
        """
        self._count_processes()
        bundles: dict[Lane, set[UUID | None]] = defaultdict(set)
        served: dict[Lane, set[int]] = defaultdict(set)
        with connection.cursor() as cursor:
            cursor.execute(_UNDER_WAY)
            for pool, isolated, bundle, team in cursor.fetchall():
                bundles[Lane(pool, bool(isolated))].add(bundle)
                served[Lane(pool, bool(isolated))].add(team)
        shares = {}
        for lane, teams in due.items():
            processes = max(1, self._processes[topology.lane(*lane)])
            free = (SUSPECTS_PER_PROCESS if lane.isolated else BUNDLES_PER_PROCESS) * processes - len(bundles[lane])
            if free <= 0 and not lane.isolated:
                free += processes
                teams = [team for team in teams if team not in served[lane]]
            if free > 0 and teams:
                shares[lane] = Share(free, teams)
        return shares

    def _count_processes(self) -> None:
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._processes = Worker.objects.processes()
            self._looked = time.monotonic()
