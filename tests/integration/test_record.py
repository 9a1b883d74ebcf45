"""Workers' messages become rows: once, whatever comes twice, late, mixed up or from a clock that is wrong."""

import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.conf import settings
from django.db import connections, transaction
from django.db.models import F
from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.jobs import changes
from inference_portal.jobs.claims import Claim, mark_sent
from inference_portal.jobs.models import Attempt, Job, ModelStatistics, Worker
from inference_portal.jobs.record import record_failure, record_heartbeat, record_result, record_started
from inference_portal.jobs.retention import purge
from inference_portal.jobs.services import job_cancel
from inference_portal.jobs.states import FINAL, State
from inference_portal.jobs.waiting import hub
from tests.integration import rows
from tests.integration.rows import failure, in_threads, make_final, make_job, make_running, make_sent, success, whole
from workers.contract import BundleResult, ErrorCode, Failure, Heartbeat, JobItem, Outcome, Run, Started

pytestmark = pytest.mark.django_db
TRANSIENT = (ErrorCode.MODEL_UNAVAILABLE, ErrorCode.OUT_OF_MEMORY)
SUSPECT = (ErrorCode.WORKER_LOST, ErrorCode.TIMED_OUT, ErrorCode.LEASE_EXPIRED)
LASTING = (ErrorCode.BAD_DATA, ErrorCode.MODEL_ERROR)


def started(*jobs: Job, at: float | None = None) -> Started:
    run = Run(worker="cpu@host/7", host="host", device="", started=at or time.time())
    return Started(str(uuid4()), run, tuple((str(job.id), job.attempt) for job in jobs))


@pytest.mark.parametrize("make", [make_sent, make_running])
def test_a_success_ends_the_job_with_all_that_the_worker_said(team: Team, make: Any) -> None:
    job = make(team)
    before = timezone.now()
    assert record_result(rows.result(success(job))) == 1
    job.refresh_from_db()
    assert job.state == State.SUCCEEDED
    assert bytes(job.result or b"") == rows.OUTPUTS.encode()
    assert (job.worker, job.host, job.device) == ("cpu@host/7", "host", "cpu")
    assert before <= job.finished_at <= timezone.now()
    assert (job.finished_at - job.started_at).total_seconds() == pytest.approx(0.5)
    assert (job.lease_until, job.error_code, job.error_message) == (None, "", "")
    assert not job.failed_attempts.exists()


@pytest.mark.parametrize("wrong", [timedelta(days=-8), timedelta(days=8)], ids=["behind", "ahead"])
def test_a_workers_clock_says_how_long_it_ran_and_not_when(team: Team, wrong: timedelta) -> None:
    begun = timezone.now()
    good, bad, lost = make_sent(team), make_sent(team), make_sent(team)
    at = time.time() + wrong.total_seconds()
    assert record_started(started(lost, at=at)) == 1
    run = Run(worker="cpu@host/7", host="host", device="cpu", started=at, finished=at + 2)
    outcomes = (success(good), failure(bad, ErrorCode.MODEL_ERROR), failure(lost, ErrorCode.MODEL_ERROR))
    assert record_result(BundleResult(str(uuid4()), run, outcomes)) == 3
    now = timezone.now()
    for job in (good, bad, lost):
        job.refresh_from_db()
        for seen in (job, *job.failed_attempts.all()):
            assert begun <= seen.finished_at <= now
            assert seen.finished_at - seen.started_at == timedelta(seconds=2)
    sums = ModelStatistics.objects.get()
    assert sums.run_us == 2_000_000
    assert begun <= sums.last_at <= now
    # Retention goes by it: neither at once nor never.
    purge()
    assert whole(good.id)["result"] is not None
    Job.objects.update(finished_at=F("finished_at") - timedelta(hours=settings.RESULT_RETENTION_HOURS))
    purge()
    assert whole(good.id)["result"] is None


def test_a_run_that_ended_before_it_began_took_no_time(team: Team) -> None:
    job = make_sent(team)
    run = Run(worker="cpu@host/7", host="host", device="cpu", started=2e9, finished=1e9)
    assert record_result(BundleResult(str(uuid4()), run, (success(job),))) == 1
    job.refresh_from_db()
    assert job.started_at == job.finished_at


def test_a_start_is_noted_when_it_is_heard_of(team: Team) -> None:
    job, before = make_sent(team), timezone.now()
    assert record_started(started(job, at=1.0)) == 1
    assert before <= whole(job.id)["started_at"] <= timezone.now()


def test_what_was_recorded_is_found_by_its_exact_times(team: Team) -> None:
    job = make_sent(team)
    record_result(rows.result(success(job)))
    job.refresh_from_db()
    assert Job.objects.filter(started_at=job.started_at, finished_at=job.finished_at).exists()
    assert Job.objects.filter(finished_at__lte=job.finished_at).exists()


def test_a_success_after_a_retry_takes_the_old_error_away(team: Team) -> None:
    job = make_sent(team, attempt=2, error_code=ErrorCode.OUT_OF_MEMORY, error_message="before")
    assert record_result(rows.result(success(job))) == 1
    job.refresh_from_db()
    assert (job.error_code, job.error_message) == ("", "")


@pytest.mark.parametrize("code", [None, *ErrorCode])
def test_the_same_result_twice_changes_nothing_the_second_time(team: Team, code: ErrorCode | None) -> None:
    job = make_sent(team) if code is ErrorCode.EXPIRED else make_running(team)
    result = rows.result(success(job) if code is None else failure(job, code))
    assert record_result(result) == 1
    before = whole(job.id)
    assert record_result(result) == 0
    assert whole(job.id) == before


@pytest.mark.parametrize("code", [None, *ErrorCode])
@pytest.mark.parametrize("state", FINAL)
def test_a_result_for_a_job_that_has_ended_changes_nothing(team: Team, state: State, code: ErrorCode | None) -> None:
    job = make_final(team, state)
    before = whole(job.id)
    assert record_result(rows.result(success(job) if code is None else failure(job, code))) == 0
    assert record_started(started(job)) == 0
    assert whole(job.id) == before


@pytest.mark.parametrize("attempt", [1, 3])
@pytest.mark.parametrize("code", [None, *ErrorCode])
def test_a_result_of_another_attempt_changes_nothing(team: Team, attempt: int, code: ErrorCode | None) -> None:
    job = make_running(team, attempt=2)
    before = whole(job.id)
    outcome = success(job, attempt) if code is None else failure(job, code, attempt)
    assert record_result(rows.result(outcome)) == 0
    assert whole(job.id) == before


def test_a_result_after_a_cancel_changes_nothing(team: Team) -> None:
    job = make_running(team)
    assert job_cancel(job_id=job.id)
    before = whole(job.id)
    assert record_result(rows.result(success(job))) == 0
    assert whole(job.id) == before
    assert not job_cancel(job_id=job.id)


@pytest.mark.parametrize("code", [None, *ErrorCode])
def test_a_result_for_an_unknown_job_leaves_the_others_of_its_bundle_alone(team: Team, code: ErrorCode | None) -> None:
    job, unknown = make_sent(team), rows.new_job(team)
    outcome = success(unknown) if code is None else failure(unknown, code)
    assert record_result(rows.result(outcome, success(job))) == 1
    assert Job.objects.get().state == State.SUCCEEDED


def test_the_outcomes_of_one_bundle_go_their_own_ways(team: Team) -> None:
    good, bad, later, old = make_sent(team), make_sent(team), make_running(team), make_sent(team, attempt=2)
    gone = make_final(team, State.CANCELLED)
    result = rows.result(
        success(good),
        failure(bad, ErrorCode.BAD_DATA),
        failure(later, ErrorCode.OUT_OF_MEMORY),
        success(old, attempt=1),
        success(gone),
    )
    assert record_result(result) == 3
    states = [whole(job.id)["state"] for job in (good, bad, later, old, gone)]
    assert states == ["succeeded", "failed", "retrying", "queued", "cancelled"]
    assert record_result(result) == 0


@pytest.mark.parametrize("code", TRANSIENT)
def test_a_transient_failure_waits_and_becomes_the_next_attempt(team: Team, code: ErrorCode) -> None:
    job = make_running(team)
    now = timezone.now()
    assert record_result(rows.result(failure(job, code, traceback="Traceback …"))) == 1
    job.refresh_from_db()
    assert (job.state, job.attempt, job.error_code) == (State.RETRYING, 2, code)
    assert (job.failures, job.isolated) == (1, False)
    assert (job.lease_until, job.bundle, job.sent_at, job.started_at, job.finished_at) == (None,) * 5
    longest = 12 if code is ErrorCode.MODEL_UNAVAILABLE else 2
    assert now + timedelta(seconds=0.4) < job.not_before < now + timedelta(seconds=longest)
    attempt = Attempt.objects.get()
    assert (attempt.number, attempt.code, attempt.message, attempt.traceback) == (1, code, "why", "Traceback …")
    assert (attempt.worker, attempt.host, attempt.device) == ("cpu@host/7", "host", "cpu")
    assert attempt.started_at is not None
    # Of the next attempt nobody knows yet where it will run.
    assert (job.worker, job.host, job.device) == ("", "", "")


def test_the_backoff_grows_and_the_last_attempt_is_dead_lettered(team: Team) -> None:
    job = make_running(team)
    delays = []
    for number in (1, 2, 3):
        job = make_sent_again(job)
        assert job.attempt == number
        now = timezone.now()
        assert record_result(rows.result(failure(job, ErrorCode.OUT_OF_MEMORY))) == 1
        job.refresh_from_db()
        delays.append((job.not_before - now).total_seconds())
    assert (job.state, job.attempt, job.error_code) == (State.DEAD_LETTERED, 3, ErrorCode.OUT_OF_MEMORY)
    assert job.finished_at is not None
    assert 0.5 <= delays[0] <= 1.1
    assert 1.0 <= delays[1] <= 2.1
    assert [a.number for a in job.failed_attempts.all()] == [1, 2, 3]


@pytest.mark.parametrize("make", [make_sent, make_running])
@pytest.mark.parametrize("code", SUSPECT)
def test_a_suspect_goes_on_at_once_alone_and_is_not_counted(team: Team, make: Any, code: ErrorCode) -> None:
    job = make(team, failures=2)
    assert record_result(rows.result(failure(job, code))) == 1
    job.refresh_from_db()
    assert (job.state, job.attempt, job.isolated, job.failures) == (State.RETRYING, 2, True, 2)
    assert (job.error_code, job.lease_until, job.bundle) == (code, None, None)
    assert [(claimed.lane, claimed.ids) for claimed in rows.take()] == [(rows.CPU_ALONE, [str(job.id)])]


def test_of_a_bundle_that_was_delivered_again_every_job_is_tried_alone_and_keeps_the_reason(team: Team) -> None:
    jobs = [make_sent(team) for _ in range(3)]
    reason = "the broker delivered it again: the first worker died or was cut off"
    result = rows.result(*(failure(job, ErrorCode.WORKER_LOST, message=reason) for job in jobs))
    assert record_result(result) == 3
    for job in jobs:
        (attempt,) = job.failed_attempts.all()
        assert (attempt.number, attempt.code, attempt.message) == (1, "worker-lost", reason)
        assert (attempt.worker, attempt.host) == ("cpu@host/7", "host")
    assert [len(claimed.jobs) for claimed in rows.take()] == [1, 1, 1]
    assert record_result(result) == 0
    assert Attempt.objects.count() == 3


@pytest.mark.parametrize("code", SUSPECT)
def test_what_happens_to_a_suspect_alone_counts_until_the_policy_gives_it_up(team: Team, code: ErrorCode) -> None:
    job = rows.make_suspect(team)
    found = []
    for failures in (0, 1, 2):
        job = make_sent_again(job)
        assert (job.attempt, job.failures, job.isolated) == (failures + 2, failures, True)
        assert record_result(rows.result(failure(job, code))) == 1
        job.refresh_from_db()
        found.append((job.state, job.failures))
    assert found == [(State.RETRYING, 1), (State.RETRYING, 2), (State.DEAD_LETTERED, 3)]
    assert (job.attempt, job.error_code) == (4, code)
    assert [a.number for a in job.failed_attempts.all()] == [2, 3, 4]


@pytest.mark.parametrize("code", TRANSIENT)
def test_a_suspect_with_another_trouble_stays_alone_and_is_counted(team: Team, code: ErrorCode) -> None:
    job = rows.make_suspect(team, failures=1)
    assert record_result(rows.result(failure(job, code))) == 1
    job.refresh_from_db()
    assert (job.state, job.isolated, job.failures) == (State.RETRYING, True, 2)
    assert job.not_before > timezone.now()


def test_a_suspect_that_is_innocent_succeeds(team: Team) -> None:
    job = rows.make_suspect(team, error_code=ErrorCode.WORKER_LOST, error_message="lost")
    assert record_result(rows.result(success(job))) == 1
    job.refresh_from_db()
    assert (job.state, job.error_code, job.failures) == (State.SUCCEEDED, "", 0)


def test_a_job_that_no_worker_could_start_in_time_expires(team: Team) -> None:
    late, good = make_sent(team, expires_at=timezone.now()), make_sent(team)
    result = rows.result(success(good), failure(late, ErrorCode.EXPIRED, message="no worker could start it"))
    assert record_result(result) == 2
    late.refresh_from_db()
    assert (late.state, late.error_code, late.failures) == (State.EXPIRED, "expired", 0)
    assert (late.error_message, late.lease_until) == ("no worker could start it", None)
    assert late.finished_at is not None


def test_what_one_worker_runs_does_not_expire_because_another_got_the_message_too_late(team: Team) -> None:
    """A confirm was lost and the bundle published twice; the first worker has announced that it runs it."""
    job = make_running(team, expires_at=timezone.now())
    before = whole(job.id)
    assert record_result(rows.result(failure(job, ErrorCode.EXPIRED))) == 0
    assert whole(job.id) == before
    assert record_result(rows.result(success(job))) == 1


def make_sent_again(job: Job) -> Job:
    now = timezone.now()
    Job.objects.filter(id=job.id).update(
        state=State.QUEUED, bundle=uuid4(), lease_until=now + timedelta(minutes=1), sent_at=now
    )
    job.refresh_from_db()
    return job


@pytest.mark.parametrize("code", LASTING)
def test_wrong_data_or_a_wrong_model_fails_at_once(team: Team, code: ErrorCode) -> None:
    job = make_running(team)
    assert record_result(rows.result(failure(job, code))) == 1
    job.refresh_from_db()
    assert (job.state, job.attempt, job.error_code, job.error_message) == (State.FAILED, 1, code, "why")
    assert (job.worker, job.lease_until) == ("cpu@host/7", None)
    assert [(a.number, a.code) for a in job.failed_attempts.all()] == [(1, code)]


def test_text_that_the_database_cannot_store_does_not_cost_the_bundle(team: Team) -> None:
    good, bad = make_sent(team), make_sent(team)
    ugly = "at \0 and \ud800"
    result = rows.result(success(good), failure(bad, ErrorCode.MODEL_ERROR, message=ugly, traceback=ugly))
    assert record_result(result) == 2
    bad.refresh_from_db()
    assert bad.state == State.FAILED
    assert bad.error_message.startswith("at ")


def test_an_announced_start_shows_the_job_running_and_gives_it_its_time(team: Team) -> None:
    first, second = make_sent(team, lease_until=timezone.now()), make_sent(team, attempt=2)
    other = make_sent(team)
    assert record_started(started(first, second)) == 2
    for job in (first, second):
        job.refresh_from_db()
        assert (job.state, job.worker, job.host) == (State.RUNNING, "cpu@host/7", "host")
        assert job.started_at is not None
        assert job.lease_until > timezone.now() + timedelta(seconds=60)
    assert whole(other.id)["state"] == State.QUEUED
    before = whole(first.id)
    assert record_started(started(first, second, at=1.0)) == 0
    assert whole(first.id) == before


def test_a_start_that_comes_after_the_result_or_for_an_old_attempt_changes_nothing(team: Team) -> None:
    done, old = make_sent(team), make_sent(team, attempt=2)
    record_result(rows.result(success(done)))
    late = started(done)
    too_old = Started(late.bundle, late.run, ((str(old.id), 1),))
    before = whole(done.id), whole(old.id)
    assert record_started(late) + record_started(too_old) == 0
    assert (whole(done.id), whole(old.id)) == before


def test_whatever_is_left_of_an_attempt_changes_nothing_once_the_next_one_is_sent(team: Team) -> None:
    job = make_running(team)
    lost = failure(job, ErrorCode.WORKER_LOST)
    start, done, wrong = started(job), success(job), failure(job, ErrorCode.BAD_DATA)
    assert record_result(rows.result(lost)) == 1
    (claimed,) = rows.take()
    mark_sent(claimed)
    before = whole(job.id)
    assert record_started(start) == 0
    assert [record_result(rows.result(late)) for late in (done, wrong, lost)] == [0, 0, 0]
    assert whole(job.id) == before
    assert record_result(rows.result(success(job, attempt=2))) == 1


def test_a_start_proves_that_the_message_was_sent(team: Team) -> None:
    """Also when the dispatcher died before it could note that: the job must not be left running without a lease."""
    job = make_sent(team, sent_at=None)
    assert record_started(started(job)) == 1
    assert whole(job.id)["sent_at"] is not None


def heartbeat(sent: float, device: str = "cpu") -> Heartbeat:
    return Heartbeat("cpu@host", "host", ("cpu",), device, 2, ("wine:1",), sent)


@pytest.mark.parametrize("skew", [-3600, 0, 3600])
def test_a_worker_lives_from_its_last_heartbeat_whatever_its_clock_says(skew: int) -> None:
    record_heartbeat(heartbeat(time.time() + skew, "one"))
    assert abs(Worker.objects.get().seen_at - timezone.now()) < timedelta(seconds=5)
    record_heartbeat(heartbeat(time.time() + skew + 5, "two"))
    assert Worker.objects.alive().get().device == "two"


def test_workers_that_were_not_heard_for_a_day_are_forgotten() -> None:
    rows.make_worker(seen_at=timezone.now() - timedelta(hours=25))
    recent = rows.make_worker(seen_at=timezone.now() - timedelta(hours=23))
    record_heartbeat(heartbeat(time.time()))
    assert set(Worker.objects.values_list("name", flat=True)) == {recent.name, "cpu@host"}


def test_a_heartbeat_tells_lanes_and_problems_whatever_these_hold() -> None:
    ugly = "wine:1: at \0 and \ud800"
    beat = Heartbeat("cpu@host", "host", ("cpu", "cpu.isolated"), "cpu", 2, (), time.time(), ("iris:1: no file", ugly))
    record_heartbeat(Heartbeat.from_message(beat.to_message()))
    worker = Worker.objects.get()
    assert worker.pools == ["cpu", "cpu.isolated"]
    assert (len(worker.problems), worker.problems[0]) == (2, "iris:1: no file")
    record_heartbeat(heartbeat(time.time()))
    assert Worker.objects.get().problems == []


@pytest.mark.django_db(transaction=True)
def test_heartbeats_of_one_worker_at_once_leave_one_row() -> None:
    now = time.time()
    in_threads(*(lambda i=i: record_heartbeat(heartbeat(now - i, f"{i}")) for i in range(8)))  # type: ignore[misc]
    assert Worker.objects.get().name == "cpu@host"


@pytest.mark.django_db(transaction=True)
def test_the_same_result_at_once_from_many_recorders_counts_once(team: Team) -> None:
    jobs = [make_sent(team) for _ in range(20)]
    outcomes = [success(job) if i % 2 else failure(job, ErrorCode.OUT_OF_MEMORY) for i, job in enumerate(jobs)]
    result = rows.result(*outcomes)
    backwards = rows.result(*reversed(outcomes))
    changed = in_threads(*[lambda: record_result(result), lambda: record_result(backwards)] * 2)
    assert sum(changed) == 20
    assert Attempt.objects.count() == 10
    assert set(Job.objects.filter(state=State.RETRYING).values_list("attempt", flat=True)) == {2}


@pytest.mark.django_db(transaction=True)
def test_a_result_that_overtakes_the_dispatchers_own_note_does_not_deadlock(team: Team) -> None:
    """Both change many rows at once; each must be let through, whatever order it takes them in."""
    for _ in range(5):
        jobs = [make_sent(team, sent_at=None) for _ in range(200)]
        bundle = uuid4()
        Job.objects.filter(id__in=[job.id for job in jobs]).update(bundle=bundle)
        items = tuple(JobItem(str(job.id), 1, 1) for job in jobs)
        claimed = Claim(bundle, rows.CPU, "wine", "1", jobs[0].sha256, items)
        results = [rows.result(*map(success, order)) for order in (jobs, jobs[::-1])]
        in_threads(  # raises what the database raises for a deadlock
            lambda claimed=claimed: mark_sent(claimed),  # type: ignore[misc]
            *(lambda result=result: record_result(result) for result in results),  # type: ignore[misc]
        )
        assert Job.objects.filter(bundle=bundle).exclude(state=State.SUCCEEDED).count() == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("code", [None, ErrorCode.BAD_DATA, "cancel"])
def test_whoever_waits_for_a_job_is_woken_by_its_end(team: Team, code: Any) -> None:
    job = make_sent(team)
    with hub.place(job.id) as waiter:
        time.sleep(0.1)
        begun = time.monotonic()
        if code == "cancel":
            assert job_cancel(job_id=job.id)
        else:
            assert record_result(rows.result(failure(job, code) if code else success(job))) == 1
        ended = waiter.wait(5)
    assert ended is not None
    assert ended.is_final
    assert time.monotonic() - begun < 1


@pytest.mark.django_db(transaction=True)
def test_a_bundle_of_more_awaited_jobs_than_one_notification_holds_wakes_them_all(team: Team) -> None:
    jobs = Job.objects.bulk_create([rows.new_job(team) for _ in range(450)])
    source = changes.listen(changes.FINAL)
    try:
        source.wait(0.01)  # the first answer is about the time before
        outcomes: list[Outcome] = [success(job) for job in jobs[:440]]
        outcomes += [failure(job, ErrorCode.MODEL_ERROR) for job in jobs[440:]]
        in_threads(lambda: record_result(rows.result(*outcomes)))
        told: set[str] = set()
        end = time.monotonic() + 5
        while time.monotonic() < end and told != {str(job.id) for job in jobs}:
            payloads = source.wait(1)
            if payloads is None:  # SQLite: something has changed
                told = {str(i) for i in Job.objects.filter(state__in=FINAL).values_list("id", flat=True)}
            else:
                assert all(len(payload) < 8000 for payload in payloads)
                told |= {part for payload in payloads for part in payload.split(",")}
        assert told == {str(job.id) for job in jobs}
    finally:
        source.close()


@pytest.mark.django_db(transaction=True)
def test_a_result_that_is_rolled_back_wakes_nobody_and_can_come_again(team: Team) -> None:
    job = make_sent(team)

    class Crash(Exception):
        pass

    with pytest.raises(Crash), transaction.atomic():
        assert record_result(rows.result(success(job))) == 1
        raise Crash
    assert whole(job.id)["state"] == State.QUEUED
    assert record_result(rows.result(success(job))) == 1


@pytest.mark.django_db(transaction=True)
def test_the_recorders_task_outlives_a_lost_database_connection(team: Team, postgresql: None) -> None:
    from inference_portal.jobs import tasks

    job = make_sent(team)
    own = connections["default"]
    with own.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    parameters = {k: v for k, v in own.get_connection_params().items() if k in ("host", "port", "user", "dbname")}
    with psycopg.connect(**parameters, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [pid])
    tasks.result(rows.result(success(job)).to_message())
    assert whole(job.id)["state"] == State.SUCCEEDED


@pytest.mark.parametrize("count", [1, 256])
def test_a_full_bundle_is_recorded_in_a_few_statements(
    team: Team, count: int, django_assert_max_num_queries: Any
) -> None:
    # The first one of a version makes the row of its sums.
    record_result(rows.result(success(make_sent(team))))
    jobs = Job.objects.bulk_create([rows.new_job(team) for _ in range(count)])
    result = rows.result(*map(success, jobs))
    with django_assert_max_num_queries(9):
        assert record_result(result) == count


def test_a_job_keeps_the_place_where_it_was_lost(team: Team) -> None:
    """Who looks at a dead letter wants to know which worker had it."""
    job = make_running(team, attempt=3, failures=2, isolated=True, host="far away")
    assert record_failure(job.id, 3, Failure(ErrorCode.LEASE_EXPIRED, "lost"), run=None)
    attempt = Attempt.objects.get()
    assert (attempt.worker, attempt.host, attempt.started_at) == ("cpu@host/1", "far away", job.started_at)
    job.refresh_from_db()
    assert (job.state, job.worker, job.host) == (State.DEAD_LETTERED, "cpu@host/1", "far away")
    assert (make_job(team).worker, make_job(team).host) == ("", "")
