"""Whose turn it is: the due jobs of a lane in the order in which they should go.

Between teams fair by rows; within a team by priority, then first come, first served. Of the jobs of one team, model and
ordering key only the first is ever due.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import connection
from django.utils import timezone

from inference_portal.jobs import sql

# What a team is looked up for at the least, so that a claim for many teams finds more than crumbs.
LEAST_PER_TEAM = 16
# As the partial index `job_due` has it: with parameters instead SQLite would not use the index.
_DUE = "state IN ('queued', 'retrying') AND lease_until IS NULL"
_PLACE = "pool, isolated, team_id"
# Walks from one (pool, isolated, team) to the next with one index look-up each, however many jobs wait.
_NEXT = (
    f"SELECT {{}} FROM jobs_job WHERE {_DUE} AND ({_PLACE}) > (w.pool, w.isolated, w.team_id) ORDER BY {_PLACE} LIMIT 1"  # noqa: S608, E501
)
_WAITING = f"""
    WITH RECURSIVE waiting({_PLACE}) AS (
        SELECT * FROM (SELECT {_PLACE} FROM jobs_job WHERE {_DUE} ORDER BY {_PLACE} LIMIT 1) AS first
        UNION ALL
        SELECT ({_NEXT.format("pool")}), ({_NEXT.format("isolated")}), ({_NEXT.format("team_id")})
        FROM waiting AS w WHERE w.pool IS NOT NULL
    ) SELECT {_PLACE} FROM waiting WHERE pool IS NOT NULL
"""  # noqa: S608
# Two look-ups for each job with a key: in `job_ordered`, and in the constraint's index. Their conditions are written
# just like this: to SQLite `<>` would be another one. (Asking for one before it in a single condition let PostgreSQL
# compare each with each.)
_SAME_KEY = (
    "{0}.team_id = job.team_id AND {0}.model = job.model AND {0}.ordering_key = job.ordering_key "
    "AND NOT ({0}.ordering_key = '') AND {0}.finished_at IS NULL"
)
_TURNS = f"""
    SELECT id, attempt, rows, expires_at, queued_at, model, version, sha256, step, timeout_seconds FROM jobs_job AS job
    WHERE {_DUE} AND pool = %s AND isolated = %s AND team_id = %s
      AND (not_before IS NULL OR not_before <= %s) AND (expires_at IS NULL OR expires_at > %s)
      AND (ordering_key = '' OR (
          id = (SELECT first.id FROM jobs_job AS first WHERE {_SAME_KEY.format("first")} ORDER BY queued_at, id LIMIT 1)
          AND NOT EXISTS (SELECT 1 FROM jobs_job AS sent WHERE {_SAME_KEY.format("sent")} AND lease_until IS NOT NULL)
      ))
    ORDER BY priority, queued_at, id LIMIT %s
"""  # noqa: S608


class Lane(NamedTuple):
    """A pool's own lane, or its isolation lane."""

    pool: str
    isolated: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """One due job, with what a claim needs to know of it."""

    id: UUID
    attempt: int
    rows: int
    expires_at: datetime | None
    queued_at: datetime
    release: tuple[str, str, str]
    # Of a batch, which goes alone: what it does, and how long it may take.
    step: str = ""
    timeout: float | None = None


class Turns:
    """Remembers which team went last, so that of equals the one that has waited longest goes first."""

    def __init__(self) -> None:
        # Whether the last claim left jobs for which there was room: else there is nothing to do until somebody says so.
        self.left_some = False
        self._round = 0
        # How many rows the jobs of a lane had lately: only so many are looked up and locked as will fit.
        self._rows: dict[Lane, float] = defaultdict(lambda: 1.0)
        self._served: dict[int, int] = defaultdict(int)

    def next(self, lane: Lane, teams: list[int], most: int) -> tuple[list[Turn], bool]:
        """Return due jobs of these teams with about `most` rows, locked if the database can do that, and whether there
        may be more."""
        self._round += 1
        ranked: list[tuple[int, int, datetime, int, Turn]] = []
        limit = max(LEAST_PER_TEAM, math.ceil(most / self._rows[lane] / len(teams)))
        more = False
        for team in teams:
            rows_before = 0
            found = _turns(lane, team, limit)
            more |= len(found) == limit
            for turn in found:
                ranked.append((rows_before, self._served[team], turn.queued_at, team, turn))
                rows_before += turn.rows
        ranked.sort(key=lambda entry: entry[:4])
        if ranked and not lane.isolated:
            self._rows[lane] = sum(turn.rows for *_, turn in ranked) / len(ranked)
        # Who is first here is served first, and so is last among equals the next time.
        for _, _, _, team, _ in ranked[:1]:
            self._served[team] = self._round
        return [entry[-1] for entry in ranked], more


def waiting() -> dict[Lane, list[int]]:
    """Return the lanes in which jobs wait, each with the ids of the teams whose they are."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING)
        found: dict[Lane, list[int]] = defaultdict(list)
        for pool, isolated, team in cursor.fetchall():
            found[Lane(pool, bool(isolated))].append(team)
    return found


def _turns(lane: Lane, team: int, limit: int) -> list[Turn]:
    now = sql.moment(timezone.now())
    # Whoever else changes a row now is at work on it: no waiting, no deadlock. SQLite has one writer at a time anyway.
    statement = _TURNS + " FOR UPDATE SKIP LOCKED" if connection.vendor == "postgresql" else _TURNS
    with connection.cursor() as cursor:
        cursor.execute(statement, [lane.pool, lane.isolated, team, now, now, limit])
        return [
            Turn(
                sql.as_uuid(job_id),
                attempt,
                rows,
                None if expires_at is None else sql.as_moment(expires_at),
                sql.as_moment(queued_at),
                (model, version, sha256),
                step,
                timeout,
            )
            for job_id, attempt, rows, expires_at, queued_at, model, version, sha256, step, timeout in cursor.fetchall()
        ]
