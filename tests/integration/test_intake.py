"""Requests that arrive together are stored together: all of them, each with an answer of its own."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.backends.signals import connection_created
from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.jobs.intake import GROUP_JOBS, Intake
from inference_portal.jobs.models import Job, Priority
from tests.integration import rows
from tests.integration.rows import in_threads, new_job
from tests.stack import ROOT

pytestmark = pytest.mark.django_db(transaction=True)
JOB_FIELDS = {field.attname for field in Job._meta.concrete_fields}


@pytest.fixture
def inserts() -> Iterator[list[str]]:
    """The statements that store jobs, from every thread's connection."""
    seen: list[str] = []
    stack = ExitStack()

    def note(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if "INSERT INTO" in sql and Job._meta.db_table in sql:
            seen.append(sql)
        return execute(sql, *rest)

    def watch(connection: Any, **kwargs: Any) -> None:
        connection.execute_wrappers.append(note)

    connection_created.connect(watch)
    with stack, connection.execute_wrapper(note):
        yield seen
    connection_created.disconnect(watch)


def test_a_job_alone_is_stored_whole(team: Team) -> None:
    fields = {"priority": Priority.HIGH, "ordering_key": "ünï ☃", "expires_at": timezone.now() + timedelta(hours=1)}
    job = new_job(team, rows=3, reply={"format": "v2", "id": "ünï ☃", "outputs": ["a"]}, **fields)
    Intake().add(job)
    stored = Job.objects.get()
    for name in JOB_FIELDS - {"input", "queued_at"}:
        assert getattr(stored, name) == getattr(job, name), name
    assert bytes(stored.input) == job.input


@pytest.mark.parametrize("wrong", [timedelta(hours=-1), timedelta(hours=1)], ids=str)
def test_the_place_in_the_queue_is_by_the_databases_clock_and_not_by_a_portals(
    team: Team, postgresql: None, wrong: timedelta
) -> None:
    intake = Intake()
    jobs = [new_job(team), new_job(team, queued_at=timezone.now() + wrong), new_job(team)]
    for job in jobs:
        intake.add(job)
    assert list(Job.objects.due()) == jobs
    assert all(abs(job.queued_at - timezone.now()) < timedelta(minutes=1) for job in Job.objects.all())


def test_without_a_clock_of_the_databases_the_place_is_the_time_of_the_request(team: Team) -> None:
    if connection.vendor == "postgresql":
        pytest.skip("about SQLite")
    job = new_job(team)
    Intake().add(job)
    assert Job.objects.get().queued_at == job.queued_at


def test_jobs_of_one_call_keep_their_order(team: Team) -> None:
    jobs = [new_job(team, ordering_key="k") for _ in range(GROUP_JOBS + 100)]
    assert Intake().add_all(jobs) == [None] * len(jobs)
    assert list(Job.objects.due()) == jobs
    assert len(set(Job.objects.values_list("queued_at", flat=True))) == len(jobs)


def test_a_group_is_no_larger_than_a_statement_may_be(team: Team, inserts: list[str]) -> None:
    assert Intake().add_all([new_job(team) for _ in range(GROUP_JOBS + 1)]) == [None] * (GROUP_JOBS + 1)
    assert [sql.count("%s") <= 32_766 for sql in inserts] == [True, True]  # SQLite's; PostgreSQL has 65,535


def test_a_portal_that_stores_the_same_in_another_order_costs_nobody_else_a_job(team: Team, postgresql: None) -> None:
    """A deadlock: the database ends the one that has waited longer, whose jobs then stand each for itself."""
    first, last, own = (new_job(team, idempotency_key=key) for key in ("first", "last", "own"))
    begun = threading.Event()

    def other_portal() -> None:
        with transaction.atomic():
            rows.make_job(team, idempotency_key="last")
            begun.set()
            time.sleep(0.4)
            rows.make_job(team, idempotency_key="first")

    def portal() -> list[BaseException | None]:
        assert begun.wait(10)
        return Intake().add_all([own, first, last])

    _, errors = in_threads(other_portal, portal)
    assert errors[0] is None
    assert [type(error) for error in errors[1:]] == [IntegrityError] * 2
    assert Job.objects.count() == 3


def test_threads_that_come_together_are_all_stored_in_few_transactions(team: Team, inserts: list[str]) -> None:
    intake = Intake()
    jobs = [[new_job(team) for _ in range(10)] for _ in range(16)]
    in_threads(*(lambda mine=mine: [intake.add(job) for job in mine] for mine in jobs))  # type: ignore[misc]
    assert set(Job.objects.all()) == {job for mine in jobs for job in mine}
    assert len(inserts) < 100, "no groups were made"


def test_what_add_returned_for_is_committed(team: Team) -> None:
    intake = Intake()

    def work() -> bool:
        job = new_job(team)
        intake.add(job)
        return rows.in_threads(lambda: Job.objects.filter(id=job.id).exists())[0]  # as another connection sees it

    assert in_threads(*[work] * 8) == [True] * 8


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"state": "lost"}, IntegrityError),
        ({"finished_at": timezone.now()}, IntegrityError),
        ({"version": "1" * 5000, "submitted_by": None}, DatabaseError),
        ({"result": b"[]"}, IntegrityError),
    ],
)
def test_a_job_that_the_database_refuses_fails_alone(team: Team, wrong: dict[str, Any], kind: type[Exception]) -> None:
    """Held up by a slow leader, so that the bad one shares a group with good ones for certain."""
    intake = Intake()
    good = [new_job(team) for _ in range(9)]
    bad = new_job(team, **wrong)
    outcomes: dict[Any, Any] = {}

    def work(job: Job) -> None:
        try:
            intake.add(job)
            outcomes[job.id] = None
        except DatabaseError as error:
            outcomes[job.id] = error

    with intake._lock:
        intake._led = True  # as if a leader were at work
    threads = [threading.Thread(target=_closing, args=(work, job)) for job in [*good[:4], bad, *good[4:]]]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(intake._waiting) == 10)
    intake._waiting[0].woken.set()  # and now it hands over
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert isinstance(outcomes.pop(bad.id), kind)
    assert list(outcomes.values()) == [None] * 9
    assert set(Job.objects.all()) == set(good)


def _closing(work: Callable[[Job], None], job: Job) -> None:
    try:
        work(job)
    finally:
        connection.close()


def wait_until(condition: Callable[[], bool]) -> None:
    end = timezone.now() + timedelta(seconds=10)
    while not condition():
        assert timezone.now() < end
        threading.Event().wait(0.01)


def test_after_a_refusal_the_next_job_is_taken(team: Team) -> None:
    intake = Intake()
    with pytest.raises(IntegrityError):
        intake.add(new_job(team, state="lost"))
    intake.add(new_job(team))
    assert Job.objects.count() == 1


def test_an_id_that_is_taken_is_an_error_and_changes_nothing(team: Team) -> None:
    first = rows.make_job(team)
    before = rows.whole(first.id)
    with pytest.raises(IntegrityError):
        Intake().add(new_job(team, id=first.id, rows=2))
    assert rows.whole(first.id) == before


CROWD = """
import json, os, sys, threading, time
os.environ["DATABASE_POOL_SIZE"] = "2"
import django
django.setup()
from django.db import connection
from inference_portal.accounts.models import Team
from inference_portal.jobs.intake import Intake
from inference_portal.jobs.models import Job, Priority
from tests.integration.rows import new_job
intake, errors, stored = Intake(), [], []
team = Team.objects.get()
connection.close()
together = threading.Barrier(24)

def work(number):
    together.wait()
    try:
        for turn in range(5):
            # Half of the requests look their key up and come to the intake with one of the two connections in hand;
            # the others know it, and take a connection only if they become the leader.
            if (number + turn) % 2:
                Team.objects.get(id=team.id)
            job = new_job(team)
            intake.add(job)
            stored.append(str(job.id))
            connection.close()  # the request is over
    except BaseException as error:
        errors.append(repr(error))
    finally:
        connection.close()

threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(24)]
begun = time.monotonic()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(max(0.0, 15 - (time.monotonic() - begun)))
alive = sum(thread.is_alive() for thread in threads)
print(json.dumps({"seconds": time.monotonic() - begun, "alive": alive, "errors": errors, "stored": stored}), flush=True)
os._exit(0)
"""


def test_more_threads_than_connections_do_not_wait_for_each_other(team: Team, postgresql: None) -> None:
    parameters = connection.settings_dict
    url = f"postgres://{parameters['USER']}@{parameters['HOST']}:{parameters['PORT']}/{parameters['NAME']}"
    environment = os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "inference_portal.settings"}
    done = subprocess.run(
        [sys.executable, "-c", CROWD], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["alive"], said["errors"]) == (0, []), said
    assert said["seconds"] < 10
    assert sorted(said["stored"]) == sorted(str(i) for i in Job.objects.values_list("id", flat=True))
    assert len(said["stored"]) == 120


def test_a_lost_connection_refuses_what_came_and_the_next_is_stored(team: Team, postgresql: None) -> None:
    intake = Intake()
    intake.add(new_job(team))

    def work() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (pid,) = cursor.fetchone()
        in_threads(lambda: terminate(pid))
        with pytest.raises(DatabaseError):
            intake.add(new_job(team))
        connection.close()  # as Django does at the end of a request
        intake.add(new_job(team))

    in_threads(work)
    assert Job.objects.count() == 2


def terminate(pid: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
