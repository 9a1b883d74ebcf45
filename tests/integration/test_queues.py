"""GET /api/queues/: what waits in each lane, what is under way, and who is there; counted in the database."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from inference_portal.accounts.models import Role, Team
from inference_portal.jobs.models import Job
from inference_portal.jobs.queues import queues, rates
from inference_portal.jobs.quota import RATE_SECONDS
from inference_portal.jobs.runs import runs_by_worker
from inference_portal.jobs.states import State
from tests.integration import rows
from tests.integration.http import client, problem
from tests.integration.rows import make_final, make_job, make_running, make_sent, make_suspect, make_worker, new_job

pytestmark = pytest.mark.django_db
PATH = "/api/queues/"
NOTHING = {
    "rows": 0,
    "messages": 0,
    "running": 0,
    "retrying": 0,
    "oldest_wait_seconds": 0.0,
    "consumers": 0,
    "rate": 0.0,
    "dead_letters": 0,
}


@pytest.fixture
def operator(team: Team) -> Client:
    return client(team, Role.OPERATOR)


def shown(operator: Client) -> dict[str, dict[str, Any]]:
    """Return what the answer says of each lane, by its name."""
    answer = operator.get(PATH)
    assert answer.status_code == 200, answer.content
    return {entry.pop("lane"): entry for entry in answer.json()["results"]}


def ago(seconds: float) -> Any:
    return timezone.now() - timedelta(seconds=seconds)


def test_each_pool_has_its_lane_and_its_isolation_lane_also_when_nothing_happens(operator: Client) -> None:
    assert shown(operator) == {
        name: {"pool": pool, "isolated": isolated, **NOTHING}
        for name, pool, isolated in (
            ("cpu", "cpu", False),
            ("cpu.isolated", "cpu", True),
            ("gpu", "gpu", False),
            ("gpu.isolated", "gpu", True),
            ("batch", "batch", False),
            ("batch.isolated", "batch", True),
            ("explain", "explain", False),
            ("explain.isolated", "explain", True),
            ("container", "container", False),
            ("container.isolated", "container", True),
        )
    }


def test_only_operators_see_it(team: Team) -> None:
    problem(Client().get(PATH), 401, "unauthenticated")
    for role in (Role.VIEWER, Role.SUBMITTER):
        problem(client(team, role).get(PATH), 403, "forbidden")


def test_jobs_wait_as_rows_until_their_bundle_is_a_message(team: Team, operator: Client) -> None:
    for _ in range(3):
        make_job(rows.make_team("other"))
    make_job(team, state=State.RETRYING, attempt=2, not_before=timezone.now() + timedelta(minutes=1))
    one, two = uuid4(), uuid4()
    for bundle in (one, one, two):
        make_sent(team, bundle=bundle)
    make_running(team, bundle=two)
    # Claimed, and not yet with the broker.
    make_sent(team, sent_at=None)
    make_suspect(team)
    make_job(team, pool="gpu")
    for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED):
        make_final(team, state)
    lanes = shown(operator)
    kept = ("rows", "retrying", "messages", "running")
    assert {name: [lane[key] for key in kept] for name, lane in lanes.items() if lane["pool"] in ("cpu", "gpu")} == {
        "cpu": [4, 1, 2, 1],
        "cpu.isolated": [0, 0, 1, 0],
        "gpu": [1, 0, 0, 0],
        "gpu.isolated": [0, 0, 0, 0],
    }


def test_the_oldest_wait_is_that_of_a_job_which_could_be_started(team: Team, operator: Client) -> None:
    def oldest() -> float:
        return float(shown(operator)["cpu"]["oldest_wait_seconds"])

    make_running(team, queued_at=ago(4000))
    make_job(team, queued_at=ago(3000), state=State.RETRYING, not_before=timezone.now() + timedelta(minutes=1))
    make_final(team, State.SUCCEEDED, queued_at=ago(2000))
    assert oldest() == 0
    make_job(team, queued_at=ago(10))
    assert oldest() == pytest.approx(10, abs=5)
    # A retry waits since it is due, not since it was accepted.
    make_job(team, queued_at=ago(3000), state=State.RETRYING, not_before=ago(40))
    assert oldest() == pytest.approx(40, abs=5)
    # With a worker that hangs a job waits as a message, too.
    make_sent(team, queued_at=ago(100))
    assert oldest() == pytest.approx(100, abs=5)


def test_by_a_database_whose_clock_is_ahead_nothing_has_waited_less_than_no_time(team: Team, operator: Client) -> None:
    make_job(team, queued_at=timezone.now() + timedelta(seconds=3))
    assert shown(operator)["cpu"]["oldest_wait_seconds"] == 0


def test_consumers_are_the_processes_of_live_workers(operator: Client) -> None:
    make_worker(processes=2)
    make_worker("cpu", "cpu.isolated", processes=3)
    make_worker("gpu.isolated")
    make_worker(processes=7, seen_at=ago(17))
    lanes = shown(operator)
    assert {name: lane["consumers"] for name, lane in lanes.items() if lane["pool"] in ("cpu", "gpu")} == {
        "cpu": 5,
        "cpu.isolated": 3,
        "gpu": 0,
        "gpu.isolated": 1,
    }


def test_the_rate_is_of_all_jobs_that_have_ended_lately(team: Team, operator: Client) -> None:
    for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED):
        make_final(team, state, finished_at=ago(RATE_SECONDS - 10))
    make_final(team, State.SUCCEEDED, finished_at=ago(RATE_SECONDS + 1))
    make_final(team, State.SUCCEEDED, pool="gpu")
    lanes = shown(operator)
    assert (lanes["cpu"]["rate"], lanes["gpu"]["rate"]) == (3 / RATE_SECONDS, 1 / RATE_SECONDS)


def test_a_dead_letter_counts_where_it_was_given_up_until_somebody_has_dealt_with_it(
    team: Team, operator: Client
) -> None:
    make_final(team, State.DEAD_LETTERED)
    for _ in range(2):
        make_final(team, State.DEAD_LETTERED, isolated=True)
    make_final(team, State.DEAD_LETTERED, discarded_at=timezone.now())
    lanes = shown(operator)
    assert (lanes["cpu"]["dead_letters"], lanes["cpu.isolated"]["dead_letters"]) == (1, 2)


@contextmanager
def plans() -> Iterator[list[str]]:
    """Collect how the database goes about each query on jobs, asked with the same parameters."""
    found: list[str] = []
    word = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"

    def explain(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "jobs_job" in sql:
            execute(f"{word} {sql}", params, many, context)
            found.append("\n".join(str(row[-1]) for row in context["cursor"].fetchall()))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        yield found


def test_no_query_reads_the_jobs_that_have_ended_long_ago(team: Team) -> None:
    long_ago = ago(3600)
    final = {"state": State.SUCCEEDED, "finished_at": long_ago, "accepted_at": long_ago, "queued_at": long_ago}
    Job.objects.bulk_create([new_job(team, **final) for _ in range(3000)])
    for make in (make_job, make_running, make_sent):
        for _ in range(20):
            make(team)
    for _ in range(20):
        make_final(team, State.DEAD_LETTERED)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    with plans() as found:
        queues(), rates(), runs_by_worker()
    assert len(found) == 5
    for plan in found:
        assert re.search("job_(open|leased|dead|ended)", plan), plan
        assert not re.search(r"Seq Scan on jobs_job|SCAN jobs_job(?! USING)", plan), plan
