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
# A team that had all its jobs under way so lately comes and goes: a backlog leaves it room.
COMES_AND_GOES_SECONDS = 5.0
_UNDER_WAY = "SELECT DISTINCT pool, isolated, bundle, team_id FROM jobs_job WHERE lease_until IS NOT NULL"
# The bundles under way, each with the teams whose jobs are in it.
Bundles = dict[UUID | None, set[int]]


class Share(NamedTuple):
    """So many bundles in a lane, of these teams."""

    lane: Lane
    bundles: int
    teams: list[int]


class Room:
    """Counts what is under way, in the database, against the workers that live.

    Each process may have two bundles under way: one that runs, and the next one. That is all for a lane in which jobs
    of one team wait, or of several that all have a backlog. Beside a team that comes and goes backlogs leave one of the
    processes free, and none has a next bundle of theirs: what comes is sent at once, and finds processor and workers
    nearly as if it were alone (see `docs/decisions/0022`).
    """

    def __init__(self) -> None:
        self._processes: Counter[str] = Counter()
        self._looked = float("-inf")
        # The teams that waited at the last look, and when each last had jobs under way and none that waited.
        self._waited: dict[Lane, set[int]] = {}
        self._kept_up: dict[Lane, dict[int, float]] = defaultdict(dict)

    def shares(self, due: dict[Lane, list[int]]) -> list[Share]:
        """Return what may go in each lane in which jobs of these teams are due."""
        self._count_processes()
        now = time.monotonic()
        lanes: dict[Lane, Bundles] = defaultdict(lambda: defaultdict(set))
        with connection.cursor() as cursor:
            cursor.execute(_UNDER_WAY)
            for pool, isolated, bundle, team in cursor.fetchall():
                lanes[Lane(pool, bool(isolated))][bundle].add(team)
        for lane, bundles in lanes.items():
            self._kept_up[lane].update(dict.fromkeys(_teams(bundles).difference(due.get(lane, ())), now))
        found = [share for lane, waiting in due.items() for share in self._in_lane(lane, waiting, lanes[lane], now)]
        self._waited = {lane: set(teams) for lane, teams in due.items()}
        return [share for share in found if share.bundles > 0 and share.teams]

    def _in_lane(self, lane: Lane, waiting: list[int], bundles: Bundles, now: float) -> list[Share]:
        processes = max(1, self._processes[topology.lane(*lane)])
        if lane.isolated:
            return [Share(lane, SUSPECTS_PER_PROCESS * processes - len(bundles), waiting)]
        served = _teams(bundles)
        # Even a full lane takes a bundle for each process of those who have nothing under way there.
        most = (BUNDLES_PER_PROCESS + 1) * processes - len(bundles)
        kept_up = self._kept_up[lane] = {
            team: at for team, at in self._kept_up[lane].items() if now - at < COMES_AND_GOES_SECONDS
        }
        if not any(other != team for team in kept_up for other in waiting):
            if most > processes:
                return [Share(lane, most - processes, waiting)]
            return [Share(lane, most, [team for team in waiting if team not in served])]
        waited = self._waited.get(lane, set())
        behind = [team for team in waiting if team in served or (team in waited and team not in kept_up)]
        theirs = sum(not teams.isdisjoint(behind) for teams in bundles.values())
        return [
            Share(lane, min(most, processes), [team for team in waiting if team not in behind]),
            Share(lane, max(1, processes - 1) - theirs, behind),
        ]

    def _count_processes(self) -> None:
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._processes = Worker.objects.processes()
            self._looked = time.monotonic()


def _teams(bundles: Bundles) -> set[int]:
    return set().union(*bundles.values())
