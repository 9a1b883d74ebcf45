"""How many more bundles each lane may have under way, and whose jobs may be in them."""

import os
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
# A team that had all its jobs under way so lately comes and goes: a backlog leaves it room.
COMES_AND_GOES_SECONDS = 1.0
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
        # When each team last had jobs under way in a lane, and none that waited.
        self._kept_up: dict[Lane, dict[int, float]] = defaultdict(dict)

    def by_lane(self, due: dict[Lane, list[int]]) -> dict[Lane, Share]:
        """Return the share of each lane in which jobs of these teams are due and may go.

        Each process may have two bundles under way: one that runs, and the next one. Beside teams that come and go a
        backlog has only the first of them. A lane that is full still takes a bundle for each process of those who have
        nothing under way there. So nobody waits for a flood to drain.
        """
        self._count_processes()
        now = time.monotonic()
        bundles: dict[Lane, set[UUID | None]] = defaultdict(set)
        served: dict[Lane, set[int]] = defaultdict(set)
        with connection.cursor() as cursor:
            cursor.execute(_UNDER_WAY)
            for pool, isolated, bundle, team in cursor.fetchall():
                bundles[Lane(pool, bool(isolated))].add(bundle)
                served[Lane(pool, bool(isolated))].add(team)
        for lane, teams in served.items():
            self._kept_up[lane].update(dict.fromkeys(teams.difference(due.get(lane, ())), now))
        shares = {}
        for lane, waiting in due.items():
            processes = max(1, self._processes[topology.lane(*lane)])
            if lane.isolated:
                free = SUSPECTS_PER_PROCESS * processes - len(bundles[lane])
                teams = waiting
            else:
                MODE = os.environ.get("ROOM", "B")
                cap = {"A": 2 * processes, "B": processes, "C": max(1, processes // 2)}[MODE]
                own = cap if self._others_come(lane, waiting, now) else BUNDLES_PER_PROCESS * processes
                free = own - len(bundles[lane])
                teams = waiting
                if free <= 0:
                    free = (BUNDLES_PER_PROCESS + 1) * processes - len(bundles[lane])
                    teams = [team for team in waiting if team not in served[lane]]
            if free > 0 and teams:
                shares[lane] = Share(free, teams)
        return shares

    def _others_come(self, lane: Lane, waiting: list[int], now: float) -> bool:
        """Tell whether jobs wait in the lane beside those of a team that comes and goes."""
        kept_up = self._kept_up[lane]
        for team in [team for team, at in kept_up.items() if now - at > COMES_AND_GOES_SECONDS]:
            del kept_up[team]
        return any(other != team for team in kept_up for other in waiting)

    def _count_processes(self) -> None:
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._processes = Worker.objects.processes()
            self._looked = time.monotonic()
