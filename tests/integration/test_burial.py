"""What the broker gave up is found in the database: jobs go on as suspects, what nobody can read is parked once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from django.db import OperationalError, connection, connections
from kombu import Connection

from inference_portal.accounts.models import Team
from inference_portal.jobs import burial
from inference_portal.jobs.burial import Burial, bury
from inference_portal.jobs.models import Attempt, Job, ParkedMessage
from inference_portal.jobs.states import FINAL, State
from tests.integration import garbage, rows
from tests.integration.garbage import Garbage, buried, celery_body, celery_headers, kinds
from tests.integration.machine import dead_bundle
from tests.integration.rows import failure, make_final, make_job, make_running, make_sent, make_suspect, success, whole
from tests.stack import wait_for
from workers import topology
from workers.contract import HEARTBEAT, INFER, RECORD, STARTED, Bundle, ErrorCode, Heartbeat, JobItem, Run, Started

pytestmark = pytest.mark.django_db
KINDS = kinds(INFER)
# A burial that doesn't wait for a database that is away.
STOPPED = threading.Event()
STOPPED.set()


def message_of(*jobs: Job, **headers: Any) -> Garbage:
    """The jobs' bundle as a message."""
    items = tuple(JobItem(str(job.id), job.attempt, job.rows) for job in jobs)
    data = b"".join(bytes(job.input) for job in jobs)
    bundle = Bundle(str(uuid4()), "wine", "1", jobs[0].sha256, rows.WIDTH, items, data)
    return Garbage(celery_body(bundle.to_message()), celery_headers(INFER) | headers)


def died(
    message: Garbage, queue: str = "inference.cpu", reason: str = "delivery_limit"
) -> tuple[dict[str, Any], bytes]:
    """Headers and body as they come out of the dead-letter queue."""
    return message.headers | {"x-first-death-queue": queue, "x-first-death-reason": reason}, message.body


# --- What is recorded ---


def test_the_jobs_of_a_dead_bundle_go_on_as_suspects(team: Team) -> None:
    sent, running = make_sent(team), make_running(team)
    bury(*died(message_of(sent, running)))
    for job in (sent, running):
        job.refresh_from_db()
        assert (job.state, job.attempt, job.isolated, job.failures) == (State.RETRYING, 2, True, 0)
        (attempt,) = job.failed_attempts.all()
        assert (attempt.number, attempt.code) == (1, ErrorCode.WORKER_LOST)
        assert attempt.message == "the broker gave its message up (delivery_limit in inference.cpu)"
    assert [len(claimed.jobs) for claimed in rows.take()] == [1, 1]
    assert not ParkedMessage.objects.exists()


def test_a_suspect_whose_message_died_alone_is_counted_and_given_up_in_the_end(team: Team) -> None:
    first, last = make_suspect(team), make_suspect(team, attempt=4, failures=2)
    bury(*died(message_of(first), "inference.cpu.isolated"))
    bury(*died(message_of(last), "inference.cpu.isolated"))
    assert (whole(first.id)["state"], whole(first.id)["failures"]) == (State.RETRYING, 1)
    assert (whole(last.id)["state"], whole(last.id)["failures"]) == (State.DEAD_LETTERED, 3)


def test_of_a_dead_bundle_only_what_is_still_in_that_attempt_changes(team: Team) -> None:
    jobs = [make_final(team, state) for state in FINAL]
    jobs += [make_sent(team, attempt=2), make_job(team, state=State.RETRYING, attempt=2)]
    message = message_of(*(Job(**{**vars_of(job), "attempt": 1}) for job in jobs))
    before = [whole(job.id) for job in jobs]
    bury(*died(message))
    assert [whole(job.id) for job in jobs] == before


def vars_of(job: Job) -> dict[str, Any]:
    return {field.attname: getattr(job, field.attname) for field in Job._meta.concrete_fields}


def test_a_dead_bundle_that_comes_twice_is_counted_once(team: Team) -> None:
    """As after a crash between the commit and the acknowledgement."""
    job, suspect = make_sent(team), make_suspect(team)
    for _ in range(2):
        bury(*died(message_of(job)))
        bury(*died(message_of(suspect)))
    assert (whole(job.id)["attempt"], whole(suspect.id)["attempt"], whole(suspect.id)["failures"]) == (2, 3, 1)
    assert Attempt.objects.count() == 2


def test_a_bundle_of_jobs_that_are_gone_is_done_with() -> None:
    bury(*died(message_of(rows.new_job(rows.make_team()))))
    assert not ParkedMessage.objects.exists()


def test_a_result_that_its_recorder_never_survived_is_recorded(team: Team) -> None:
    good, bad = make_sent(team), make_sent(team)
    result = rows.result(success(good), failure(bad, ErrorCode.BAD_DATA))
    message = Garbage(celery_body(result.to_message()), celery_headers(RECORD))
    for _ in range(2):
        bury(*died(message, topology.RECORDER))
    assert [whole(job.id)["state"] for job in (good, bad)] == [State.SUCCEEDED, State.FAILED]
    assert not ParkedMessage.objects.exists()


def test_what_is_out_of_date_by_now_is_dropped(team: Team) -> None:
    job = make_sent(team)
    run = Run("cpu@host/1", "host", "cpu", 1.7e9)
    for task, message in (
        (STARTED, Started("b", run, ((str(job.id), 1),)).to_message()),
        (HEARTBEAT, Heartbeat("cpu@host", "host", ("cpu",), "cpu", 1, (), 1.7e9).to_message()),
    ):
        bury(*died(Garbage(celery_body(message), celery_headers(task)), topology.RECORDER))
    assert whole(job.id)["state"] == State.QUEUED
    assert not ParkedMessage.objects.exists()


@pytest.mark.parametrize("task", [INFER, RECORD, STARTED, HEARTBEAT])
@pytest.mark.parametrize("kind", KINDS)
def test_what_nobody_can_read_is_parked_once_with_all_that_came(kind: str, task: str) -> None:
    message = kinds(task)[kind]
    headers, body = died(message, "inference.cpu", "rejected")
    for count in (1, 2, 3):
        # The broker counts; it is the same message all the same.
        bury(headers | {"x-delivery-count": count}, body)
    parked = ParkedMessage.objects.get()
    assert (parked.queue, parked.reason) == ("inference.cpu", "rejected")
    assert (bytes(parked.body), parked.size) == (body, len(body))
    assert parked.error
    for name in headers:
        assert f'"{name}"' in parked.headers
    assert str(parked.pk) in str(parked)


def test_different_messages_are_parked_apart() -> None:
    for body in (b"a", b"b"):
        for queue in ("inference.cpu", "inference.gpu"):
            for name in ("x", "y"):
                bury({"task": name, "x-first-death-queue": queue}, body)
    assert ParkedMessage.objects.count() == 8


UGLY_HEADERS: dict[str, dict[str, Any]] = {
    "a task with NUL and half a character": {"task": "a\0b\ud800"},
    "a queue with NUL": {"x-first-death-queue": "a\0b"},
    "a queue with half a character": {"x-first-death-queue": "\ud800"},
    "a reason with NUL": {"x-first-death-reason": "a\0b"},
    "a reason with half a character": {"x-first-death-reason": "\ud800"},
    "a very long queue and reason": {"x-first-death-queue": "q" * 5000, "x-first-death-reason": "r" * 5000},
    "values that are no JSON": {"x": b"\xff\0", "y": {1, 2}, "z": float("nan")},
    "names with NUL": {"a\0b": "c\0d"},
    "lists and tables": {"x-death": [{"count": 3, "queue": "inference.cpu", "routing-keys": ["cpu.wine"]}]},
    "a queue that is none": {"x-first-death-queue": ["x"], "x-first-death-reason": None},
}


@pytest.mark.parametrize("kind", UGLY_HEADERS)
def test_headers_that_the_database_cannot_store_stop_nothing(kind: str) -> None:
    for _ in range(2):
        bury(UGLY_HEADERS[kind], b"x")
    parked = ParkedMessage.objects.get()
    assert "\0" not in parked.queue + parked.reason + parked.headers + parked.error
    assert bytes(parked.body) == b"x"


@pytest.mark.parametrize(
    "job_id", ["no uuid", "\0", "\ud800", "5" * 100, ""], ids=["no uuid", "NUL", "half a character", "long", "empty"]
)
def test_a_bundle_whose_ids_are_none_is_parked_and_its_good_jobs_are_left_to_their_lease(
    team: Team, job_id: str
) -> None:
    good = make_sent(team)
    before = whole(good.id)
    items = (JobItem(str(good.id), 1, 1), JobItem(job_id, 1, 1))
    bundle = Bundle("b", "wine", "1", "ab", 1, items, bytes(8))
    bury(*died(Garbage(celery_body(bundle.to_message()), celery_headers(INFER))))
    assert ParkedMessage.objects.count() == 1
    assert whole(good.id) == before


@pytest.mark.parametrize("attempt", [-1, 0, 2**15, 2**31, 2**63, 2**70])
def test_a_bundle_whose_attempt_is_none_changes_no_job(team: Team, attempt: int) -> None:
    job = make_sent(team)
    before = whole(job.id)
    bundle = Bundle("b", "wine", "1", "ab", 1, (JobItem(str(job.id), attempt, 1),), bytes(4))
    bury(*died(Garbage(celery_body(bundle.to_message()), celery_headers(INFER))))
    assert whole(job.id) == before


# --- On the way there ---


@contextmanager
def dead_letters(app: Celery) -> Iterator[tuple[Connection, Any]]:
    """A connection to the broker, and the dead-letter queue on it, as the burial opens them."""
    opened = Burial(app)._connect()
    try:
        queue = topology.dead_letters()(opened.default_channel)
        queue.declare()
        yield opened, queue
    finally:
        opened.close()


def bury_all(app: Celery) -> int:
    count = 0
    with dead_letters(app) as (_, queue):
        while Burial(app).step(queue, STOPPED):
            count += 1
    return count


def test_every_kind_of_message_is_taken_out_of_the_queue(team: Team, broker_app: Celery) -> None:
    jobs = [make_sent(team), make_suspect(team)]
    every = {name: kind for name, kind in KINDS.items() if "compress" not in name}
    for message in [*map(message_of, jobs), *every.values()]:
        garbage.publish(broker_app, message, topology.DEAD, "inference.cpu")
    assert bury_all(broker_app) == len(jobs) + len(every)
    assert bury_all(broker_app) == 0
    assert ParkedMessage.objects.count() == len(every)
    parked = {bytes(body) for body in ParkedMessage.objects.values_list("body", flat=True)}
    assert parked == {kind.body for kind in every.values()}
    assert Attempt.objects.count() == len(jobs)


@pytest.mark.parametrize("kind", [name for name in KINDS if "compress" in name])
def test_a_message_whose_compression_is_none_is_taken_out_of_the_queue(broker_app: Celery, kind: str) -> None:
    garbage.publish(broker_app, KINDS[kind], topology.DEAD, "inference.cpu")
    assert bury_all(broker_app) == 1
    assert bytes(ParkedMessage.objects.get().body) == KINDS[kind].body


def test_what_a_worker_rejected_is_known_by_the_queue_where_it_was(team: Team, broker_app: Celery) -> None:
    job = make_sent(team)
    for message in (message_of(job), KINDS["broken JSON"]):
        garbage.publish(broker_app, message, topology.REQUESTS, "cpu.wine")
    with rows.connect(broker_app) as opened, opened.channel() as channel:
        queue = rows.declared(broker_app, "inference.cpu")(channel)
        for _ in range(2):
            queue.get().reject()
    wait_for(lambda: bury_all(broker_app) or Attempt.objects.exists(), 10, lambda: "not dead-lettered")
    wait_for(lambda: bury_all(broker_app) or ParkedMessage.objects.exists(), 10, lambda: "not dead-lettered")
    parked = ParkedMessage.objects.get()
    assert (parked.queue, parked.reason) == ("inference.cpu", "rejected")
    attempt = Attempt.objects.get()
    assert attempt.message == "the broker gave its message up (rejected in inference.cpu)"
    # Who rejects is alive: the jobs are no suspects.
    assert (attempt.code, whole(job.id)["isolated"]) == (ErrorCode.MESSAGE_REFUSED, False)


def refuse(execute: Any, sql: str, *rest: Any) -> Any:
    """A database that takes nothing any more."""
    if sql.lstrip().startswith(("UPDATE", "INSERT")):
        raise OperationalError("disk full")
    return execute(sql, *rest)


@pytest.mark.parametrize("what", ["a bundle", "garbage"])
@pytest.mark.parametrize("times", [1, topology.DELIVERY_LIMIT + 3])
def test_a_message_is_acknowledged_only_after_the_commit(team: Team, broker_app: Celery, what: str, times: int) -> None:
    """The database refuses: the message stays, however often that is, and is not lost."""
    job = make_sent(team)
    before = whole(job.id)
    message = message_of(job) if what == "a bundle" else KINDS["another task"]
    garbage.publish(broker_app, message, topology.DEAD, "inference.cpu")
    for _ in range(times):
        with connection.execute_wrapper(refuse), dead_letters(broker_app) as (_, queue):
            wait_for(lambda queue=queue: _was_refused(broker_app, queue), 10, lambda: "the message is lost")
    assert whole(job.id) == before
    wait_for(lambda: bury_all(broker_app), 10, lambda: "the message is lost")
    assert (Attempt.objects.count(), ParkedMessage.objects.count()) == ((1, 0) if what == "a bundle" else (0, 1))


def test_a_message_is_kept_and_not_given_back_while_the_database_is_away(
    team: Team, broker_app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ 4 drops it after twenty times."""
    monkeypatch.setattr(burial, "PAUSE_SECONDS", 0.01)
    # A test's transaction wouldn't outlive it.
    monkeypatch.setattr(connection, "close", lambda: None)
    job = make_sent(team)
    garbage.publish(broker_app, message_of(job), topology.DEAD, "inference.cpu")
    away = iter(range(50))

    def come_back(execute: Any, sql: str, *rest: Any) -> Any:
        return refuse(execute, sql, *rest) if next(away, None) is not None else execute(sql, *rest)

    with connection.execute_wrapper(come_back), dead_letters(broker_app) as (_, queue):
        assert Burial(broker_app).step(queue, threading.Event())
    assert next(away, None) is None
    assert Attempt.objects.count() == 1
    assert buried(broker_app) == []


def _was_refused(app: Celery, queue: Any) -> bool:
    try:
        assert not Burial(app).step(queue, STOPPED), "it was taken out of the queue"
    except OperationalError:
        return True
    return False


def test_a_crash_between_commit_and_acknowledgement_parks_nothing_twice(
    team: Team, broker_app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspect = make_suspect(team)
    garbage.publish(broker_app, message_of(suspect), topology.DEAD, "inference.cpu.isolated")
    garbage.publish(broker_app, KINDS["no headers"], topology.DEAD, "inference.cpu")

    class Crash(BaseException):
        pass

    def crash(name: str) -> None:
        if name == "burial.after_commit":
            raise Crash

    for _ in range(2):
        with monkeypatch.context() as patched, dead_letters(broker_app) as (_, queue):
            patched.setattr(burial, "failpoint", crash)
            with pytest.raises(Crash):
                Burial(broker_app).step(queue, STOPPED)
    found: list[int] = []
    wait_for(lambda: found.append(bury_all(broker_app)) or sum(found) == 2, 10, lambda: f"{found}")
    assert (Attempt.objects.count(), ParkedMessage.objects.count()) == (1, 1)
    assert whole(suspect.id)["failures"] == 1
    assert buried(broker_app) == []


@pytest.mark.django_db(transaction=True)
def test_the_burial_goes_on_for_as_long_as_the_dispatcher_runs(team: Team, broker_app: Celery) -> None:
    # What is published before anybody has declared the queue goes nowhere.
    topology.declare(broker_app)
    stop = threading.Event()

    def work() -> None:
        try:
            Burial(broker_app).run(stop)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for name in ("no headers", "broken JSON"):
            garbage.publish(broker_app, KINDS[name], topology.DEAD, "inference.cpu")
            body = KINDS[name].body
            wait_for(lambda body=body: ParkedMessage.objects.filter(body=body).exists(), 20, lambda: "not parked")
        job = make_sent(team)
        garbage.publish(broker_app, message_of(job), topology.DEAD, "inference.cpu")
        wait_for(lambda: whole(job.id)["attempt"] == 2, 20, lambda: "not handed back")
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


def test_a_bundle_as_the_state_machine_makes_it_is_read(team: Team) -> None:
    make_job(team)
    (claimed,) = rows.take()
    bury(*dead_bundle(claimed))
    assert Attempt.objects.count() == 1
