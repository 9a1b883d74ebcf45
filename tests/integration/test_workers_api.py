"""GET /api/workers/: who was heard, and what they run."""

import time
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from inference_portal.accounts.models import Role, Team
from inference_portal.jobs.models import Job
from inference_portal.jobs.record import record_heartbeat, record_result, record_started
from tests.integration import rows
from tests.integration.http import client, problem
from tests.integration.rows import make_running, make_sent, make_worker, success
from workers.contract import Heartbeat, Run, Started

pytestmark = pytest.mark.django_db
PATH = "/api/workers/"


@pytest.fixture
def operator(team: Team) -> Client:
    return client(team, Role.OPERATOR)


def listed(operator: Client) -> list[dict[str, Any]]:
    answer = operator.get(PATH)
    assert answer.status_code == 200, answer.content
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def announce(process: str, *jobs: Job) -> None:
    """Have a worker's process say that it has started these jobs."""
    run = Run(worker=process, host="host", device="", started=time.time() - 2)
    record_started(Started(str(jobs[0].bundle), run, tuple((str(job.id), job.attempt) for job in jobs)))


def test_only_operators_see_it(team: Team) -> None:
    problem(Client().get(PATH), 401, "unauthenticated")
    for role in (Role.VIEWER, Role.SUBMITTER):
        problem(client(team, role).get(PATH), 403, "forbidden")


def test_a_worker_is_shown_as_its_heartbeat_has_it(operator: Client) -> None:
    assert listed(operator) == []
    beat = Heartbeat(
        "cpu@host", "host", ("cpu", "cpu.isolated"), "cpu", 2, ("wine:1",), time.time(), ("iris:1: no file",)
    )
    record_heartbeat(beat)
    (worker,) = listed(operator)
    assert abs(timezone.now() - datetime.fromisoformat(worker.pop("seen_at"))) < timedelta(seconds=10)
    assert worker == {
        "name": "cpu@host",
        "alive": True,
        "host": "host",
        "pools": ["cpu", "cpu.isolated"],
        "device": "cpu",
        "processes": 2,
        "models": ["wine:1"],
        "problems": ["iris:1: no file"],
        "runs": [],
    }


def test_who_was_not_heard_lately_is_listed_last_and_not_alive(operator: Client) -> None:
    make_worker(name="silent", seen_at=timezone.now() - timedelta(seconds=17))
    make_worker(name="alive")
    assert [(worker["name"], worker["alive"]) for worker in listed(operator)] == [("alive", True), ("silent", False)]


def test_it_is_shown_what_each_process_runs_until_its_result_has_come(team: Team, operator: Client) -> None:
    make_worker(name="cpu@host", processes=2)
    # A name that begins like the other's.
    make_worker(name="cpu@host2")
    bundle = uuid4()
    together = [make_sent(team, bundle=bundle), make_sent(rows.make_team("other"), bundle=bundle, rows=4)]
    announce("cpu@host/11", *together)
    alone = make_sent(team, version="2")
    announce("cpu@host/12", alone)
    elsewhere = make_sent(team)
    announce("cpu@host2/11", elsewhere)
    make_sent(team)  # on its way
    make_running(team, worker="gone@host/9")
    shown = {worker["name"]: worker["runs"] for worker in listed(operator)}
    assert shown.keys() == {"cpu@host", "cpu@host2"}
    first, second = shown["cpu@host"]
    assert first.pop("job") in {str(job.id) for job in together}
    started = datetime.fromisoformat(first.pop("started_at"))
    assert timezone.now() - started < timedelta(seconds=30)
    assert first == {"process": "cpu@host/11", "model": "wine", "version": "1", "jobs": 2, "rows": 5}
    assert (second["process"], second["version"], second["jobs"], second["job"]) == (
        "cpu@host/12",
        "2",
        1,
        str(alone.id),
    )
    assert [run["job"] for run in shown["cpu@host2"]] == [str(elsewhere.id)]
    record_result(rows.result(*map(success, [*together, alone])))
    assert {worker["name"]: len(worker["runs"]) for worker in listed(operator)} == {"cpu@host": 0, "cpu@host2": 1}


def test_however_many_jobs_a_process_has_in_hand_it_is_one_entry(team: Team, operator: Client) -> None:
    make_worker(name="cpu@host")
    bundle = uuid4()
    running = {"bundle": bundle, "worker": "cpu@host/1", "started_at": timezone.now()}
    for _ in range(256):
        make_running(team, **running)
    ((run,),) = [worker["runs"] for worker in listed(operator)]
    assert (run["jobs"], run["rows"]) == (256, 256)
