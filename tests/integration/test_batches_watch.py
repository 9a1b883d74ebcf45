"""Estimates, early warnings, and what the dispatcher does by itself."""

import threading
import time
from datetime import timedelta

import pytest
from celery import Celery
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.batches.advance import advance, resume
from inference_portal.batches.chores import CHORES
from inference_portal.batches.models import Batch
from inference_portal.batches.services import batch_cancel, batch_rerun
from inference_portal.batches.watch import WAITS_FOR_WORKERS, watch
from inference_portal.jobs.dispatch import Chore, Dispatcher
from inference_portal.jobs.models import Job
from inference_portal.jobs.record import record_result
from tests.integration import rows
from tests.integration.batches import Worker, as_result, caller, finish, make_batch, told, until
from tests.stack import wait_for
from workers.publisher import Publisher

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def begun(team: Team, seconds: float, **fields: object) -> Batch:
    """A batch of four chunks of ten rows, whose first one has come after so many seconds."""
    batch, worker = make_batch(team, **fields), Worker(rows=40)
    until(batch, lambda batch: batch.state == "running", worker)
    job = Job.objects.get(id=batch.chunks.get(number=0).job_id)
    record_result(as_result(worker.outcome(job), started=time.time() - seconds))
    advance()
    batch.refresh_from_db()
    return batch


def test_without_workers_a_run_says_that_it_waits_for_them(team: Team) -> None:
    batch = make_batch(team)
    rows.make_worker("cpu")
    assert (watch(), watch()) == (1, 0)
    batch.refresh_from_db()
    assert (batch.note, batch.at_risk, told(batch)) == (WAITS_FOR_WORKERS, False, ["waits-for-workers"])
    rows.make_worker("batch")
    assert (watch(), watch()) == (1, 0)
    batch.refresh_from_db()
    assert batch.note == ""
    assert finish(batch, Worker()).state == "succeeded"


def test_a_run_that_nobody_can_begin_is_at_risk(team: Team) -> None:
    batch = make_batch(team, deadline=timezone.now() + HOUR)
    watch()
    batch.refresh_from_db()
    assert batch.at_risk and told(batch) == ["waits-for-workers", "at-risk"]
    rows.make_worker("batch")
    watch()
    batch.refresh_from_db()
    assert not batch.at_risk and told(batch)[-1] == "on-time"


def test_the_estimate_follows_the_pace_and_warns_early(team: Team) -> None:
    rows.make_worker("batch")
    batch = begun(team, 100.0, deadline=timezone.now() + timedelta(seconds=200))
    watch()
    batch.refresh_from_db()
    assert batch.eta is not None
    # Ten rows took 100 s, thirty are left.
    assert abs(batch.eta - timezone.now() - timedelta(seconds=300)) < timedelta(seconds=10)
    assert batch.at_risk and told(batch) == ["started", "at-risk"]
    assert "its deadline is" in batch.events.get(kind="at-risk").text
    Batch.objects.update(deadline=timezone.now() + HOUR)
    watch()
    watch()
    batch.refresh_from_db()
    assert not batch.at_risk and told(batch) == ["started", "at-risk", "on-time"]
    finish(batch, Worker(rows=40))
    assert (batch.state, batch.eta, batch.at_risk) == ("succeeded", None, False)


def test_before_its_first_rows_a_run_is_estimated_by_the_one_before(team: Team) -> None:
    rows.make_worker("batch")
    first = finish(make_batch(team), Worker(rows=40))
    # Forty rows in 400 s.
    Batch.objects.filter(id=first.id).update(started_at=first.finished_at - timedelta(seconds=400))
    batch = make_batch(team, deadline=timezone.now() + timedelta(seconds=200))
    watch()
    batch.refresh_from_db()
    assert (batch.at_risk, batch.eta) == (False, None)
    until(batch, lambda batch: batch.state == "running", Worker(rows=40))
    watch()
    batch.refresh_from_db()
    assert batch.at_risk and batch.pace is None
    assert abs(batch.eta - timezone.now() - timedelta(seconds=400)) < timedelta(seconds=10)
    assert "By the last run's pace" in batch.events.get(kind="at-risk").text


def test_a_rerun_has_a_pace_of_its_own(team: Team) -> None:
    rows.make_worker("batch")
    batch = begun(team, 1000.0)
    batch_cancel(batch_id=batch.id, caller=caller(team))
    batch_rerun(batch_id=batch.id, caller=caller(team), retry_policy="partial")
    watch()
    batch.refresh_from_db()
    assert batch.eta is None
    advance()
    job = Job.objects.get(id=batch.chunks.get(number=1).job_id)
    record_result(as_result(Worker(rows=40).outcome(job), started=time.time() - 10))
    advance()
    watch()
    batch.refresh_from_db()
    assert batch.eta is not None and batch.eta - timezone.now() < timedelta(seconds=25)


def test_without_open_batches_it_asks_twice_and_writes_nothing(team: Team) -> None:
    finish(make_batch(team), Worker())
    with CaptureQueriesContext(connection) as queries:
        assert watch() == 0
    assert [query["sql"].split()[0] for query in queries] == ["SELECT", "SELECT"]


def test_a_run_that_ends_meanwhile_is_left_alone(team: Team) -> None:
    batch = make_batch(team)
    Batch.objects.update(note="x")
    watch()
    batch.refresh_from_db()
    assert batch.note == WAITS_FOR_WORKERS


def test_each_chore_can_be_done_with_nothing_there(db: None) -> None:
    assert [chore.act() for chore in CHORES] == [0] * len(CHORES)


@pytest.mark.django_db(transaction=True)
def test_the_dispatcher_does_its_chores_beside_its_work(team: Team, embedded_app: Celery) -> None:
    batch, done = make_batch(team), []
    stop = threading.Event()

    def broken() -> None:
        done.append("broken")
        raise ValueError("always")

    chores = (Chore(broken, 0.05), Chore(resume, 60.0, soon=0.02), Chore(lambda: done.append("rare"), 60.0))

    def run() -> None:
        try:
            Dispatcher(Publisher(embedded_app), chores).run(stop)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        sent = Job.objects.filter(batch_id=batch.id, sent_at__isnull=False)
        wait_for(lambda: sent.filter(step="plan").exists(), 20, lambda: "no plan was sent")
        record_result(as_result(Worker().outcome(sent.get())))
        wait_for(lambda: sent.filter(step="chunk").exists(), 20, lambda: "no chunk was sent")
    finally:
        stop.set()
        thread.join(40)
    assert done.count("rare") == 1 and done.count("broken") > 1
