"""Who waits for a job is woken by its end, holds no database connection, and gives the place back."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import Client

from inference_portal.accounts.models import ApiKey, Team
from inference_portal.jobs import waiting
from inference_portal.jobs.models import Job
from inference_portal.jobs.record import record_result
from inference_portal.jobs.states import State
from inference_portal.jobs.waiting import NoPlace, WaitHub, hub
from tests.integration import rows
from tests.integration.rows import in_threads, make_final, make_job, make_sent
from tests.stack import ROOT, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def submitter(team: Team) -> Client:
    _, key = ApiKey.objects.create_key(name="key", team=team)
    return Client(headers={"Authorization": f"Bearer {key}"})


@pytest.fixture(autouse=True)
def _hub_listens(team: Team) -> Iterator[None]:
    """Have the process's hub at work, as after the first request that waited."""
    job = make_job(team)
    with hub.place(job.id) as waiter:
        waiter.wait(0.1)
    yield
    assert hub._waiters == {}, "a waiter was left behind"


def end(job: Job) -> None:
    assert record_result(rows.result(rows.success(job))) == 1


def test_everybody_is_woken_by_the_own_jobs_end_only(team: Team) -> None:
    jobs = [make_sent(team) for _ in range(5)]

    def wait(job: Job, seconds: float) -> Job | None:
        with hub.place(job.id) as waiter:
            return waiter.wait(seconds)

    def ends() -> None:
        time.sleep(0.3)
        for job in jobs[:4]:
            end(job)

    begun = time.monotonic()
    waits = [lambda job=job: wait(job, 10) for job in [*jobs[:4], jobs[0]]]  # type: ignore[misc]
    *ended, nobody, _ = in_threads(*waits, lambda: wait(jobs[4], 1.5), ends)
    assert [job.id for job in ended] == [job.id for job in [*jobs[:4], jobs[0]]]
    assert all(job.state == State.SUCCEEDED and bytes(job.result) for job in ended)
    assert nobody is None
    assert time.monotonic() - begun < 4


def test_a_wait_that_is_over_returns_nothing_in_time(team: Team) -> None:
    job = make_sent(team)
    with hub.place(job.id) as waiter:
        begun = time.monotonic()
        assert waiter.wait(0.2) is None
        assert 0.15 < time.monotonic() - begun < 1
        assert waiter.wait(-5) is None


def test_an_end_between_place_and_wait_is_not_missed(team: Team) -> None:
    job = make_sent(team)
    with hub.place(job.id) as waiter:
        in_threads(lambda: end(job))
        time.sleep(0.1)
        begun = time.monotonic()
        assert waiter.wait(10) is not None
        assert time.monotonic() - begun < 2


def test_a_job_that_ended_before_its_waiter_came_is_answered_at_once(team: Team, submitter: Client) -> None:
    job = make_final(team, State.SUCCEEDED)
    begun = time.monotonic()
    for path in ("status", "result"):
        assert submitter.get(f"/{path}/wine/{job.id}?wait=10").status_code == 200
    assert time.monotonic() - begun < 1


def test_a_long_poll_is_answered_when_the_job_ends(team: Team, submitter: Client) -> None:
    job = make_sent(team)

    def ends() -> None:
        time.sleep(0.3)
        end(job)

    begun = time.monotonic()
    answer, _ = in_threads(lambda: submitter.get(f"/result/wine/{job.id}?wait=10"), ends)
    assert answer.status_code == 200
    assert time.monotonic() - begun < 2


def test_when_all_places_are_taken_the_next_is_told_and_a_place_comes_back(team: Team) -> None:
    small = WaitHub(2)
    jobs = [make_job(team) for _ in range(3)]
    with small.place(jobs[0].id):
        with small.place(jobs[0].id):
            with pytest.raises(NoPlace), small.place(jobs[2].id):
                pass
            with pytest.raises(NoPlace), small.place(jobs[2].id):
                pass
        with small.place(jobs[1].id):
            pass
        with pytest.raises(KeyError), small.place(jobs[1].id):
            raise KeyError
    with small.place(jobs[0].id), small.place(jobs[1].id):
        pass
    assert small._waiters == {}


def test_without_a_place_sync_is_503_async_202_and_a_poll_is_answered_at_once(
    team: Team, submitter: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inference_portal.api import infer, results

    for module in (infer, results):
        monkeypatch.setattr(module, "hub", WaitHub(0))
    body = json.dumps({"instances": [[1.0] * 13]})
    before = Job.objects.count()

    def ask(prefer: str) -> int:
        sent = submitter.post("/v2/models/wine/infer", body, "application/json", headers={"Prefer": prefer})
        return int(sent.status_code)

    assert ask("wait=5") == 503
    assert Job.objects.count() == before, "a refused request was stored"
    assert ask("respond-async, wait=5") == 202
    job = make_job(team)
    begun = time.monotonic()
    assert submitter.get(f"/result/wine/{job.id}?wait=5").status_code == 202
    assert time.monotonic() - begun < 1


def test_a_lost_listening_connection_delays_but_loses_no_end(team: Team, postgresql: None) -> None:
    job, later = make_sent(team), make_sent(team)
    with hub.place(job.id) as waiter, hub.place(later.id) as other:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid != pg_backend_pid()"
            )
            assert cursor.fetchone()[0] >= 1
        end(job)  # nobody listens now
        begun = time.monotonic()
        assert waiter.wait(10) is not None
        assert time.monotonic() - begun < waiting.LOOK_AGAIN_SECONDS + 1.5
        time.sleep(0.5)
        begun = time.monotonic()
        end(later)
        assert other.wait(10) is not None
        assert time.monotonic() - begun < 1


def test_a_notification_that_is_no_id_wakes_nobody_and_stops_nothing(team: Team, postgresql: None) -> None:
    job = make_sent(team)
    with hub.place(job.id) as waiter:
        with connection.cursor() as cursor:
            for payload in ("", ",", "nonsense", "x" * 7000):
                cursor.execute("SELECT pg_notify('inference_final', %s)", [payload])
        end(job)
        begun = time.monotonic()
        assert waiter.wait(10) is not None
        assert time.monotonic() - begun < 1.5


CROWD = """
import json, os, threading, time
os.environ["DATABASE_POOL_SIZE"] = "4"
import django
django.setup()
from uuid import UUID
from django.db import connection
from inference_portal.jobs.models import Job
from inference_portal.jobs.waiting import hub
ids = [UUID(i) for i in json.loads(input())]
woken, errors = [], []

def work(job_id):
    try:
        with hub.place(job_id) as waiter:
            Job.objects.filter(id=job_id).exists()  # a connection is in this thread's hands
            if (job := waiter.wait(20)) is not None:
                woken.append(str(job.id))
    except BaseException as error:
        errors.append(repr(error))

threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in ids]
for thread in threads:
    thread.start()
time.sleep(1.0)
print("waiting", flush=True)
input()
for thread in threads:
    thread.join(20)
print(json.dumps({"woken": sorted(woken), "errors": errors}), flush=True)
os._exit(0)
"""


def test_sixty_waiters_share_four_connections_and_are_all_woken(team: Team, postgresql: None) -> None:
    jobs = [make_sent(team) for _ in range(60)]
    parameters = connection.settings_dict
    url = f"postgres://{parameters['USER']}@{parameters['HOST']}:{parameters['PORT']}/{parameters['NAME']}"
    environment = os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "inference_portal.settings"}

    def count() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            return int(cursor.fetchone()[0])

    before = count()
    crowd = subprocess.Popen(
        [sys.executable, "-c", CROWD],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert crowd.stdin is not None and crowd.stdout is not None
        crowd.stdin.write(json.dumps([str(job.id) for job in jobs]) + "\n")
        crowd.stdin.flush()
        assert crowd.stdout.readline() == "waiting\n"
        # Its pool of four at most, and the one that listens.
        assert count() - before <= 5
        assert record_result(rows.result(*map(rows.success, jobs))) == 60
        crowd.stdin.write("\n")
        crowd.stdin.flush()
        said = json.loads(crowd.stdout.readline())
    finally:
        crowd.kill()
        crowd.communicate()
    assert said["errors"] == []
    assert said["woken"] == sorted(str(job.id) for job in jobs)
    wait_for(lambda: count() <= before, 5, lambda: "connections are left")
