"""Due rows become messages: each job in one bundle at a time, and none lost whatever the broker does."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from amqp.exceptions import AMQPError, NotFound
from celery import Celery
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError, connection, connections
from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.jobs import changes
from inference_portal.jobs.claims import mark_sent, release_claim
from inference_portal.jobs.dispatch import Dispatcher
from inference_portal.jobs.models import Job
from inference_portal.jobs.record import (
    BUNDLES_PER_PROCESS,
    SUSPECTS_PER_PROCESS,
    record_result,
    release_policy,
)
from inference_portal.jobs.room import Room
from inference_portal.jobs.services import job_cancel
from inference_portal.jobs.states import FINAL, State
from inference_portal.jobs.turns import Lane
from tests import services
from tests.integration import rows
from tests.integration.rows import (
    CPU,
    CPU_ALONE,
    GPU,
    GPU_ALONE,
    in_threads,
    make_final,
    make_job,
    make_running,
    make_sent,
    make_suspect,
    make_team,
    make_worker,
    take,
    whole,
)
from tests.ports import free_port
from tests.rabbitmq_node import RabbitMQNode
from tests.stack import ROOT, wait_for
from workers import topology
from workers.contract import Bundle
from workers.manifest import BUNDLE_ROWS
from workers.publisher import Publisher

pytestmark = pytest.mark.django_db


def ids(*jobs: Job) -> list[str]:
    return [str(job.id) for job in jobs]


def test_a_claim_marks_its_jobs_and_nobody_else_gets_them(team: Team) -> None:
    job = make_job(team)
    now = timezone.now()
    (claimed,) = take()
    assert (claimed.ids, claimed.lane, claimed.model, claimed.version) == (ids(job), CPU, "wine", "1")
    job.refresh_from_db()
    assert (job.state, job.bundle, job.sent_at, job.attempt) == (State.QUEUED, claimed.bundle, None, 1)
    assert now + timedelta(seconds=19) < job.lease_until < now + timedelta(seconds=25)
    assert take() == []


def test_a_retry_is_claimed_as_queued_with_its_attempt(team: Team) -> None:
    make_job(team, state=State.RETRYING, attempt=2)
    ((item,),) = [claimed.jobs for claimed in take()]
    assert item.attempt == 2
    assert Job.objects.get().state == State.QUEUED


def test_jobs_of_one_release_share_a_bundle_and_others_do_not(team: Team) -> None:
    a, b = make_job(team), make_job(team, rows=3)
    c, d = make_job(team, version="2"), make_job(team, sha256="f" * 64)
    e = make_job(team, pool="gpu")
    bundles = [set(claimed.ids) for claimed in take()]
    assert sorted(bundles, key=sorted) == sorted([set(ids(a, b)), set(ids(c)), set(ids(d)), set(ids(e))], key=sorted)


def test_the_first_accepted_goes_first_and_a_bundle_is_no_longer_than_a_call(team: Team) -> None:
    now = timezone.now()
    jobs = [make_job(team, rows=100, queued_at=now - timedelta(seconds=i)) for i in (2, 5, 1, 4, 3)]
    claimed = take({CPU: 2})
    assert [c.ids for c in claimed] == [ids(jobs[1], jobs[3]), ids(jobs[4], jobs[0])]
    assert take({CPU: 1})[0].ids == ids(jobs[2])


def test_a_job_larger_than_a_bundle_goes_alone(team: Team) -> None:
    now = timezone.now()
    small, large = make_job(team, queued_at=now - timedelta(1)), make_job(team, rows=BUNDLE_ROWS + 1)
    assert [c.ids for c in take()] == [ids(small), ids(large)]


def test_what_is_not_due_is_not_claimed(team: Team) -> None:
    soon = timezone.now() + timedelta(seconds=30)
    make_job(team, not_before=soon)
    make_job(team, state=State.RETRYING, not_before=soon)
    make_sent(team)
    make_sent(team, lease_until=timezone.now() - timedelta(seconds=1))  # the sweep's
    make_running(team)
    for state in FINAL:
        make_final(team, state)
    make_job(team, expires_at=timezone.now())
    make_job(team, state=State.RETRYING, attempt=2, expires_at=timezone.now() - timedelta(hours=1))
    make_job(team, pool="gpu")
    make_job(team, isolated=True)
    assert take({CPU: 4}) == []
    assert take({}) == []


def room(team: Team) -> dict[Lane, int]:
    """The room of each lane for a team that has due jobs everywhere."""
    everywhere = {lane: [team.id] for lane in (CPU, GPU, CPU_ALONE, GPU_ALONE)}
    return {share.lane: share.bundles for share in Room().shares(everywhere)}


def test_the_room_is_two_bundles_a_living_process_less_what_is_under_way(team: Team) -> None:
    assert room(team) == {CPU: 2, GPU: 2, CPU_ALONE: 1, GPU_ALONE: 1}
    make_worker("cpu", processes=2)
    make_worker("cpu", "cpu.isolated", processes=1)
    make_worker("cpu", "gpu", processes=9, seen_at=timezone.now() - timedelta(minutes=1))
    bundle = uuid4()
    make_sent(team, bundle=bundle)
    make_sent(team, bundle=bundle)
    make_running(team)
    make_sent(team, pool="gpu")
    make_job(team)
    make_job(team, isolated=True)
    make_suspect(team)
    assert room(team) == {CPU: 4, GPU: 1, GPU_ALONE: 1}


def test_an_isolation_lane_has_one_suspect_for_each_of_its_own_processes(team: Team) -> None:
    make_worker("cpu", processes=3)
    assert room(team)[CPU_ALONE] == 1
    make_worker("cpu.isolated", processes=3)
    assert room(team) == {CPU: 6, GPU: 2, CPU_ALONE: 3, GPU_ALONE: 1}
    for _ in range(3):
        make_suspect(team)
    assert room(team) == {CPU: 6, GPU: 2, GPU_ALONE: 1}


def test_a_full_pool_has_no_room_and_a_released_claim_gives_it_back(team: Team) -> None:
    jobs = [make_job(team, version=str(i)) for i in range(3)]
    claims = take(room(team))
    assert len(claims) == 2
    assert CPU not in room(team)
    release_claim(claims[0])
    assert room(team)[CPU] == 1
    assert {str(job.id) for job in Job.objects.due()} == {claims[0].ids[0], str(jobs[2].id)}


def test_a_full_pool_takes_a_bundle_a_process_of_those_who_have_nothing_there(team: Team) -> None:
    make_worker("cpu", processes=2)
    other, third = make_team("other"), make_team("third")
    for _ in range(4):
        make_sent(team)
    assert Room().shares({CPU: [team.id]}) == []
    assert Room().shares({CPU: [team.id, other.id]}) == [(CPU, 2, [other.id])]
    make_sent(other)
    assert Room().shares({CPU: [team.id, other.id, third.id]}) == [(CPU, 1, [third.id])]
    make_sent(other)
    assert Room().shares({CPU: [third.id]}) == []
    make_suspect(team)
    assert Room().shares({CPU_ALONE: [third.id]}) == []


def test_beside_a_team_that_comes_and_goes_a_backlog_leaves_a_process_free(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_worker("cpu", processes=3)
    visitor, other = make_team("visitor"), make_team("other")
    room = Room()
    # Alone, or beside another backlog, it has two bundles for each process.
    assert room.shares({CPU: [team.id]}) == [(CPU, 6, [team.id])]
    assert room.shares({CPU: [team.id, other.id]}) == [(CPU, 6, [team.id, other.id])]
    visit = make_sent(visitor)
    assert room.shares({CPU: [team.id, other.id]}) == [(CPU, 2, [team.id, other.id])]
    # So it stays for a while after the visit; the next one goes at once and by itself.
    Job.objects.filter(id=visit.id).delete()
    for _ in range(2):
        make_sent(team)
    assert room.shares({CPU: [team.id]}) == []
    assert room.shares({CPU: [visitor.id, team.id]}) == [(CPU, 3, [visitor.id])]
    monkeypatch.setattr("inference_portal.jobs.room.COMES_AND_GOES_SECONDS", 0.0)
    assert room.shares({CPU: [team.id]}) == [(CPU, 4, [team.id])]


def test_a_backlog_with_nothing_under_way_does_not_pass_for_a_visitor(team: Team) -> None:
    make_worker("cpu", processes=2)
    visitor = make_team("visitor")
    room = Room()
    make_sent(visitor)
    assert room.shares({CPU: [team.id]}) == [(CPU, 2, [team.id])]  # so far it may be one
    assert room.shares({CPU: [team.id]}) == [(CPU, 1, [team.id])]


def published(app: Celery, lane: str = "cpu") -> list[Bundle]:
    return [Bundle.from_message(message) for message in rows.drain(app, f"inference.{lane}")]


@contextmanager
def dispatcher(app: Celery) -> Iterator[Dispatcher]:
    publisher = Publisher(app)
    try:
        yield Dispatcher(publisher)
    finally:
        publisher.close()


def test_a_published_bundle_holds_exactly_the_rows_of_its_jobs(team: Team, broker_app: Celery) -> None:
    jobs = [make_job(team, rows=n, attempt=n) for n in (1, 3, 2)]
    on_gpu = make_job(team, pool="gpu")
    with dispatcher(broker_app) as sender:
        sender.step()
    (bundle,) = published(broker_app)
    assert [(item.id, item.attempt, item.rows) for item in bundle.jobs] == [
        (str(j.id), j.attempt, j.rows) for j in jobs
    ]
    assert bundle.data == b"".join(bytes(job.input) for job in jobs)
    assert (bundle.model, bundle.version, bundle.sha256, bundle.columns) == ("wine", "1", jobs[0].sha256, rows.WIDTH)
    assert [item.id for item in published(broker_app, "gpu")[0].jobs] == ids(on_gpu)
    for job in jobs:
        job.refresh_from_db()
        assert str(job.bundle) == bundle.id
        assert job.sent_at is not None
        assert job.lease_until > timezone.now() + timedelta(seconds=60)


def test_a_suspect_goes_alone_through_the_isolation_lane_of_its_pool(team: Team, broker_app: Celery) -> None:
    usual = [make_job(team), make_job(team)]
    suspects = [make_job(team, isolated=True, state=State.RETRYING, attempt=2, queued_at=timezone.now() - timedelta(1))]
    suspects.append(make_job(team, isolated=True, state=State.RETRYING, attempt=2))
    on_gpu = make_job(team, pool="gpu", isolated=True, state=State.RETRYING, attempt=2)
    make_worker("cpu.isolated", processes=2)
    with dispatcher(broker_app) as sender:
        sender.step()
    assert [[item.id for item in bundle.jobs] for bundle in published(broker_app)] == [ids(*usual)]
    alone = published(broker_app, "cpu.isolated")
    assert [[(item.id, item.attempt) for item in bundle.jobs] for bundle in alone] == [[(i, 2)] for i in ids(*suspects)]
    assert [bundle.data for bundle in alone] == [bytes(job.input) for job in suspects]
    assert [[item.id for item in bundle.jobs] for bundle in published(broker_app, "gpu.isolated")] == [ids(on_gpu)]


def test_a_message_may_be_under_way_for_as_long_as_what_is_ahead_of_it_and_itself(
    team: Team, embedded_app: Celery
) -> None:
    suspect, usual = make_job(team, isolated=True, attempt=2), make_job(team)
    now = timezone.now()
    with dispatcher(embedded_app) as sender:
        sender.step()
    time_out = release_policy("wine", "1").timeout_seconds
    for job, bundles in ((usual, BUNDLES_PER_PROCESS), (suspect, SUSPECTS_PER_PROCESS)):
        given = (whole(job.id)["lease_until"] - now).total_seconds()
        assert 0 <= given - (settings.LEASE_SECONDS + bundles * time_out) < 5


def test_a_message_carries_its_jobs_times_to_live(team: Team, broker_app: Celery) -> None:
    until = timezone.now() + timedelta(hours=1)
    make_job(team, expires_at=until)
    make_job(team)
    with dispatcher(broker_app) as sender:
        sender.step()
    (bundle,) = published(broker_app)
    assert [item.expires for item in bundle.jobs] == [until.timestamp(), None]


def test_what_is_sent_before_any_worker_has_started_waits_for_it(team: Team, embedded_app: Celery) -> None:
    """The embedded broker knows a queue only once somebody has bound it; RabbitMQ's are declared at the start."""
    job = make_job(team)
    with dispatcher(embedded_app) as sender:
        sender.step()
    folder = Path(embedded_app.conf.broker_transport_options["data_folder_out"])
    (message,) = folder.glob("*.inference.cpu.msg")
    assert message.stat().st_size > 0
    assert [item.id for item in published(embedded_app)[0].jobs] == ids(job)


@pytest.mark.parametrize("how", ["deleted", "unbound"])
def test_a_message_that_no_queue_takes_is_an_error_and_its_claim_is_released(
    team: Team, rabbitmq_app: Celery, how: str
) -> None:
    job = make_job(team)
    with rows.connect(rabbitmq_app) as opened, opened.channel() as channel:
        if how == "deleted":
            channel.queue_delete("inference.cpu")
        else:
            channel.queue_unbind("inference.cpu", topology.REQUESTS, "cpu.#")
    before = whole(job.id)
    with dispatcher(rabbitmq_app) as sender:
        with pytest.raises(AMQPError):
            sender.step()
        assert whole(job.id) == before
        topology.declare(rabbitmq_app)
        sender.step()
    assert [item.id for item in published(rabbitmq_app)[0].jobs] == ids(job)


def test_a_pool_without_a_queue_holds_up_no_other_pool(team: Team, rabbitmq_app: Celery) -> None:
    now = timezone.now()
    stuck = make_job(team, pool="gpu", queued_at=now - timedelta(hours=1))
    free = make_job(team)
    with rows.connect(rabbitmq_app) as opened, opened.channel() as channel:
        channel.queue_delete("inference.gpu")
    with dispatcher(rabbitmq_app) as sender:
        assert sender.step()
    assert [item.id for item in published(rabbitmq_app)[0].jobs] == ids(free)
    assert Job.objects.due().get() == stuck


def test_a_queue_that_is_full_gives_its_jobs_back_as_due(
    team: Team, rabbitmq: RabbitMQNode, rabbitmq_app: Celery
) -> None:
    vhost = rabbitmq_app.conf.broker_url.rpartition("/")[2]
    limit = '{"max-length": 1, "overflow": "reject-publish"}'
    rabbitmq.ctl("set_policy", "-p", vhost, "short", "^inference.cpu$", limit, "--apply-to", "queues")
    refused = 0
    with dispatcher(rabbitmq_app) as sender:
        for _ in range(8):
            make_job(team)
            try:
                sender.step()
            except Exception:
                refused += 1
            Job.objects.filter(sent_at__isnull=False).update(lease_until=None, bundle=None, state=State.RETRYING)
            Job.objects.filter(state=State.RETRYING).update(not_before=timezone.now() + timedelta(1))
    assert refused
    assert Job.objects.due().exists()
    sent = [item.id for bundle in published(rabbitmq_app) for item in bundle.jobs]
    assert len(sent) == len(set(sent))
    assert not set(sent) & {str(job.id) for job in Job.objects.due()}


def test_a_broker_that_is_away_costs_neither_the_job_nor_an_attempt(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_URL", f"amqp://guest:guest@127.0.0.1:{free_port()}//")
    job = make_job(team)
    before = whole(job.id)
    with dispatcher(rows.make_app()) as sender:
        for _ in range(2):
            with pytest.raises(Exception, match="refused"):
                sender.step()
            assert whole(job.id) == before
    assert Job.objects.due().get() == job


def test_a_job_cancelled_between_claim_and_publish_stays_cancelled(team: Team, broker_app: Celery) -> None:
    job, other = make_job(team), make_job(team)
    (claimed,) = take()
    assert job_cancel(job_id=job.id)
    before = whole(job.id)
    with dispatcher(broker_app) as sender:
        sender._post(claimed)
        sender._publisher.settle()
    mark_sent(claimed)
    assert whole(job.id) == before
    assert whole(other.id)["sent_at"] is not None
    (bundle,) = published(broker_app)
    assert [item.id for item in bundle.jobs] == ids(other)
    assert record_result(rows.result(rows.success(job), rows.success(other))) == 1


def emptied(job: Job) -> None:
    """Its first message, stored but not confirmed, was run meanwhile."""
    assert record_result(rows.result(rows.success(job))) == 1


def rerun_as_something_else(job: Job) -> None:
    """Cancelled and then rerun as another version with other columns; nobody has claimed it since."""
    assert job_cancel(job_id=job.id)
    wider = np.ones(2 * rows.WIDTH, dtype="<f4").tobytes()
    Job.objects.filter(id=job.id).update(
        state=State.QUEUED, attempt=2, version="2", input=wider, finished_at=None, bundle=None
    )


@pytest.mark.parametrize("leaves", [emptied, rerun_as_something_else])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_job_that_has_left_the_claim_takes_nothing_with_it(
    team: Team, embedded_app: Celery, leaves: Callable[[Job], None], position: int
) -> None:
    jobs = [make_job(team, rows=n, keeps_result=False) for n in (1, 2, 3)]
    (claimed,) = take()
    left = jobs.pop(position)
    leaves(left)
    before = whole(left.id)
    with dispatcher(embedded_app) as sender:
        sender._post(claimed)
        sender._publisher.settle()
    mark_sent(claimed)
    (bundle,) = published(embedded_app)
    assert [(item.id, item.rows) for item in bundle.jobs] == [(str(job.id), job.rows) for job in jobs]
    assert (bundle.columns, bundle.data) == (rows.WIDTH, b"".join(bytes(job.input) for job in jobs))
    assert whole(left.id) == before
    assert all(whole(job.id)["sent_at"] is not None for job in jobs)


def test_a_claim_that_all_jobs_have_left_is_not_sent(team: Team, embedded_app: Celery) -> None:
    job = make_job(team, keeps_result=False)
    (claimed,) = take()
    emptied(job)
    with dispatcher(embedded_app) as sender:
        assert not sender._post(claimed)
    assert published(embedded_app) == []


def test_a_result_before_the_dispatchers_note_is_final(team: Team) -> None:
    job = make_job(team)
    (claimed,) = take()
    assert record_result(rows.result(rows.success(job))) == 1
    before = whole(job.id)
    mark_sent(claimed)
    release_claim(claimed)
    assert whole(job.id) == before


def test_a_claim_that_another_dispatcher_has_taken_over_is_left_alone(team: Team) -> None:
    job = make_job(team)
    (slow,) = take()
    release_claim(slow)  # as the sweep does once its lease is over
    (quick,) = take()
    before = whole(job.id)
    mark_sent(slow)
    release_claim(slow)
    assert whole(job.id) == before
    mark_sent(quick)
    assert whole(job.id)["sent_at"] is not None


def test_a_confirmed_bundle_is_not_released(team: Team) -> None:
    job = make_job(team)
    (claimed,) = take()
    mark_sent(claimed)
    before = whole(job.id)
    release_claim(claimed)
    assert whole(job.id) == before


@pytest.mark.django_db(transaction=True)
def test_dispatchers_at_once_never_take_the_same_job(team: Team) -> None:
    jobs = Job.objects.bulk_create([rows.new_job(team) for _ in range(600)])

    def work() -> list[str]:
        mine: list[str] = []
        while found := take({CPU: 1}):
            mine += [i for claimed in found for i in claimed.ids]
        return mine

    taken = [i for part in in_threads(*[work] * 6) for i in part]
    assert len(taken) == len(set(taken))
    # Who finds the last rows locked passes over them; they are due for its next step.
    assert set(taken) | {str(i) for i in Job.objects.due().values_list("id", flat=True)} == set(ids(*jobs))


@contextmanager
def running(app: Celery) -> Iterator[None]:
    """A dispatcher's loop in a thread."""
    stop = threading.Event()

    def work() -> None:
        try:
            Dispatcher(Publisher(app)).run(stop)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(40)
        assert not thread.is_alive()


def all_sent(jobs: list[Job]) -> Callable[[], bool]:
    return lambda: Job.objects.filter(id__in=[j.id for j in jobs], sent_at__isnull=False).count() == len(jobs)


@pytest.mark.django_db(transaction=True)
def test_the_dispatcher_sends_a_job_as_soon_as_it_is_stored(team: Team, embedded_app: Celery) -> None:
    with running(embedded_app):
        time.sleep(0.3)
        job = make_job(team)
        wait_for(all_sent([job]), 5, lambda: f"not sent: {whole(job.id)}")
    assert [item.id for item in published(embedded_app)[0].jobs] == ids(job)


@pytest.mark.django_db(transaction=True)
def test_the_dispatcher_outlives_every_kind_of_broker_failure(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rabbitmq: RabbitMQNode
) -> None:
    """One node of our own is stopped, killed, and started again; `rabbitmq` is only asked for to skip without one."""
    with RabbitMQNode(tmp_path / "node") as node:
        monkeypatch.setenv("BROKER_URL", node.url())
        app = rows.make_app()
        topology.declare(app)
        sent: list[Job] = []
        with running(app):
            for end in (node.stop, node.kill9):
                first = make_job(team)
                wait_for(all_sent([first]), 20, lambda: "not sent while the broker was there")
                end()
                second = make_job(team)
                time.sleep(0.5)
                assert whole(second.id)["sent_at"] is None
                node.start()
                wait_for(all_sent([second]), 30, lambda: "not sent once the broker was back")
                sent += [first, second]
                Job.objects.update(lease_until=None, not_before=timezone.now() + timedelta(1))
        found = [item.id for bundle in published(app) for item in bundle.jobs]
        # A confirm may have been lost with the broker: twice is allowed, never is not.
        assert set(found) == set(ids(*sent))
        assert all(Job.objects.values_list("attempt", flat=True)[i] == 1 for i in range(4))


@pytest.mark.django_db(transaction=True)
def test_the_dispatcher_outlives_a_lost_database_connection(team: Team, postgresql: None, embedded_app: Celery) -> None:
    with running(embedded_app):
        time.sleep(0.2)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid != pg_backend_pid()"
            )
            assert cursor.fetchone()[0] >= 2
        job = make_job(team)
        wait_for(all_sent([job]), 10, lambda: "not sent")
    assert [item.id for item in published(embedded_app)[0].jobs] == ids(job)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("broken", ["sweep", "expire", "purge"])
def test_a_chore_that_keeps_failing_stops_neither_the_others_nor_the_dispatching(
    team: Team, embedded_app: Celery, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fails() -> int:
        raise RuntimeError("it is broken")

    fails.__name__ = broken
    monkeypatch.setattr(f"inference_portal.jobs.dispatch.{broken}", fails)
    old = timezone.now() - timedelta(days=1)
    lost, late = make_sent(team, sent_at=None, lease_until=old), make_job(team, expires_at=old)
    past = make_final(team, State.SUCCEEDED, finished_at=timezone.now() - timedelta(days=1_000))
    done = {
        "sweep": lambda: whole(lost.id)["sent_at"] is not None,
        "expire": lambda: whole(late.id)["state"] == State.EXPIRED,
        "purge": lambda: not Job.objects.filter(id=past.id).exists(),
    }
    del done[broken]
    with running(embedded_app):
        job = make_job(team)
        wait_for(all_sent([job]), 10, lambda: f"not sent: {whole(job.id)}")
        wait_for(lambda: all(condition() for condition in done.values()), 15, lambda: "another chore wasn't done")


@pytest.mark.django_db(transaction=True)
def test_a_wait_that_fails_does_not_end_the_dispatcher(
    team: Team, embedded_app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        polls = False
        waits = 0

        def wait(self, timeout: float) -> None:
            self.waits += 1
            raise OperationalError("disk I/O error")

        def close(self) -> None:
            pass

    source = Broken()
    monkeypatch.setattr(changes, "listen", lambda channel: source)
    with running(embedded_app):
        wait_for(lambda: source.waits > 0, 5, lambda: "it never waited")
        job = make_job(team)
        wait_for(all_sent([job]), 10, lambda: f"not sent: {whole(job.id)}")


@pytest.mark.django_db(transaction=True)
def test_a_dispatcher_that_ends_by_an_error_takes_its_process_with_it(
    embedded_app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(self: Dispatcher, stop: threading.Event) -> None:
        raise RuntimeError("it is broken")

    monkeypatch.setattr(Dispatcher, "run", breaks)
    monkeypatch.setattr("signal.signal", lambda *args: None)
    with pytest.raises(RuntimeError, match="broken"):
        call_command("dispatch")
    assert "burial" not in [thread.name for thread in threading.enumerate()]


def listening() -> int:
    """How many dispatchers listen for work."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = %s",
            [f"LISTEN {changes.DISPATCH}"],
        )
        return int(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_two_dispatcher_processes_send_every_job_once(
    team: Team, postgresql: None, tmp_path: Path, rabbitmq: RabbitMQNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = connection.settings_dict
    url = f"postgres://{parameters['USER']}@{parameters['HOST']}:{parameters['PORT']}/{parameters['NAME']}"
    with services.virtual_host(rabbitmq) as broker:
        monkeypatch.setenv("BROKER_URL", broker)
        monkeypatch.setenv("DATABASE_URL", url)
        app = rows.make_app()
        topology.declare(app)
        make_worker(processes=50)
        processes = [
            subprocess.Popen([sys.executable, "manage.py", "dispatch"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        try:
            wait_for(lambda: listening() == 2, 30, lambda: "they don't start")
            jobs = []
            for _ in range(20):
                jobs += Job.objects.bulk_create([rows.new_job(team, version=str(i % 3)) for i in range(30)])
                time.sleep(0.05)
            wait_for(all_sent(jobs), 30, lambda: f"{Job.objects.filter(sent_at=None).count()} not sent")
        finally:
            for process in processes:
                process.terminate()
        errors = [process.communicate(timeout=20)[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], errors
        sent = [item.id for bundle in published(app) for item in bundle.jobs]
        assert sorted(sent) == sorted(ids(*jobs))


def test_a_queue_that_does_not_exist_is_never_made_by_a_consumer(rabbitmq_app: Celery) -> None:
    with rows.connect(rabbitmq_app) as opened, opened.channel() as channel:
        channel.queue_delete("inference.gpu")
        with pytest.raises(NotFound):
            rows.declared(rabbitmq_app, "inference.gpu")(channel).get()
