"""What each crash leaves behind is swept to the right end: nothing stuck, nothing done twice, no attempt wasted."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.jobs.claims import mark_sent, release_claim
from inference_portal.jobs.models import Attempt, Job
from inference_portal.jobs.record import record_result, record_started
from inference_portal.jobs.services import job_cancel
from inference_portal.jobs.states import FINAL, IN_FLIGHT, State
from inference_portal.jobs.sweep import STEP, expire, sweep
from tests.integration import rows
from tests.integration.rows import (
    CPU,
    CPU_ALONE,
    in_threads,
    make_final,
    make_job,
    make_running,
    make_sent,
    make_suspect,
    make_worker,
    take,
    whole,
)
from workers.contract import Run, Started

pytestmark = pytest.mark.django_db


def past(seconds: float = 1) -> datetime:
    return timezone.now() - timedelta(seconds=seconds)


@pytest.fixture
def worker(db: None) -> None:
    """Workers for both of the pool's lanes."""
    make_worker("cpu")
    make_worker("cpu.isolated")


def test_a_dispatcher_that_died_before_the_confirmation_costs_no_attempt(team: Team) -> None:
    job = make_sent(team, sent_at=None, lease_until=past())
    assert sweep() == 1
    job.refresh_from_db()
    assert (job.state, job.attempt, job.lease_until, job.bundle) == (State.QUEUED, 1, None, None)
    assert not Attempt.objects.exists()
    assert [c.ids for c in take({CPU: 1})] == [[str(job.id)]]


@pytest.mark.parametrize("make", [make_sent, make_running])
@pytest.mark.parametrize("failures", [0, 2])
def test_a_lost_message_or_worker_makes_a_suspect_whose_attempt_is_not_counted(
    team: Team, worker: None, make: Any, failures: int
) -> None:
    """Of a bundle it may have been any other job; so this one goes on at once, alone."""
    job = make(team, lease_until=past(), failures=failures)
    assert sweep() == 1
    job.refresh_from_db()
    assert (job.state, job.attempt, job.error_code) == (State.RETRYING, 2, "lease-expired")
    assert (job.isolated, job.failures) == (True, failures)
    assert (job.lease_until, job.bundle, job.sent_at, job.started_at) == (None,) * 4
    assert [(a.number, a.code) for a in job.failed_attempts.all()] == [(1, "lease-expired")]
    assert take({CPU: 1}) == []
    assert [(c.lane, c.ids) for c in take({CPU: 1, CPU_ALONE: 1})] == [(CPU_ALONE, [str(job.id)])]


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_a_suspect_that_is_lost_again_is_counted_and_waits(team: Team, worker: None, state: State) -> None:
    job = make_suspect(team, state=state, lease_until=past())
    assert sweep() == 1
    job.refresh_from_db()
    assert (job.state, job.attempt, job.isolated, job.failures) == (State.RETRYING, 3, True, 1)
    assert job.not_before > timezone.now()
    assert [(a.number, a.code) for a in job.failed_attempts.all()] == [(2, "lease-expired")]


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_after_the_last_attempt_that_the_policy_counts_the_job_is_dead_lettered(
    team: Team, worker: None, state: State
) -> None:
    job = make_suspect(team, state=state, attempt=4, failures=2, lease_until=past())
    assert sweep() == 1
    job.refresh_from_db()
    assert (job.state, job.attempt, job.failures, job.lease_until) == (State.DEAD_LETTERED, 4, 3, None)
    assert job.finished_at is not None
    assert sweep() == 0


@pytest.mark.parametrize("isolated", [False, True])
def test_a_queue_that_no_worker_reads_burns_no_attempt_however_long_it_takes(team: Team, isolated: bool) -> None:
    make_worker("gpu", "gpu.isolated", "cpu" if isolated else "cpu.isolated")
    make_worker("cpu", "cpu.isolated", seen_at=past(60))
    job = make_sent(team, attempt=3, failures=2, isolated=isolated, lease_until=past())
    for _ in range(5):
        Job.objects.update(lease_until=past())
        assert sweep() == 0
        job.refresh_from_db()
        assert (job.state, job.attempt) == (State.QUEUED, 3)
        assert job.lease_until > timezone.now() + timedelta(seconds=60)
    assert not Attempt.objects.exists()


def test_what_is_not_over_is_left_alone(team: Team, worker: None) -> None:
    jobs = [make_sent(team), make_running(team), make_job(team), make_job(team, state=State.RETRYING, attempt=2)]
    jobs += [make_sent(team, sent_at=None)]
    jobs += [make_final(team, state) for state in FINAL]
    before = [whole(job.id) for job in jobs]
    assert sweep() == 0
    assert [whole(job.id) for job in jobs] == before


def test_a_running_job_whose_dispatcher_died_before_it_could_note_the_sending_is_not_stuck(
    team: Team, worker: None
) -> None:
    """Publish, kill the dispatcher, `started` arrives, kill the worker: only the lease is left."""
    job = make_job(team)
    (claimed,) = take({CPU: 1})
    run = Run("cpu@host/1", "host", "", timezone.now().timestamp())
    assert record_started(Started(str(claimed.bundle), run, ((str(job.id), 1),))) == 1
    release_claim(claimed)  # by the dispatcher whose publish failed, though it was stored
    assert whole(job.id)["lease_until"] is not None
    Job.objects.update(lease_until=past())
    assert sweep() == 1
    assert not Job.objects.filter(state=State.RUNNING, lease_until=None).exists()
    assert Job.objects.filter(state__in=[State.QUEUED, State.RETRYING], lease_until=None).get() == job


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("state", sorted(IN_FLIGHT))
@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("served", [True, False])
def test_no_leftover_is_ever_stuck(team: Team, state: State, sent: bool, everything: bool, served: bool) -> None:
    """Whatever combination a crash leaves: afterwards the job is due, ended, or has a lease that is looked at again."""
    if served:
        make_worker()
    sent_at = timezone.now() if sent or state is State.RUNNING else None
    job = make_sent(team, state=state, sent_at=sent_at, lease_until=past())
    sweep(everything=everything)
    job.refresh_from_db()
    waits = job.state in (State.QUEUED, State.RETRYING) and job.lease_until is None
    assert waits or job.state in FINAL or job.lease_until is not None


def test_everything_brings_back_what_a_killed_system_had_under_way(team: Team) -> None:
    queued, unsent, running = make_sent(team), make_sent(team, sent_at=None), make_running(team)
    suspect = make_suspect(team, state=State.RUNNING)
    last = make_suspect(team, state=State.RUNNING, attempt=4, failures=2)
    done = make_final(team, State.SUCCEEDED)
    assert sweep(everything=True) == 5
    found = {job.id: (job.state, job.attempt, job.isolated, job.failures) for job in Job.objects.all()}
    assert found == {
        queued.id: ("queued", 1, False, 0),
        unsent.id: ("queued", 1, False, 0),
        running.id: ("retrying", 2, True, 0),
        suspect.id: ("retrying", 3, True, 1),
        last.id: ("dead_lettered", 4, True, 3),
        done.id: ("succeeded", 1, False, 0),
    }
    assert not Job.objects.filter(lease_until__isnull=False).exists()
    assert sweep(everything=True) == 0


def test_everything_is_everything_at_once(team: Team) -> None:
    now = timezone.now()
    count = STEP + 20
    leased = {"lease_until": now + timedelta(minutes=1), "sent_at": now}
    Job.objects.bulk_create([rows.new_job(team, **leased) for _ in range(count)])
    assert sweep(everything=True) == count


def test_a_long_backlog_of_leases_is_swept_in_steps_the_oldest_first(team: Team) -> None:
    over = [rows.new_job(team, lease_until=past(i + 1)) for i in range(STEP + 20)]
    Job.objects.bulk_create(over)
    assert sweep() == STEP
    assert set(Job.objects.filter(lease_until__isnull=False)) == set(over[:20])
    assert sweep() == 20
    assert sweep() == 0


def test_a_result_of_the_attempt_that_was_given_up_changes_nothing(team: Team, worker: None) -> None:
    job = make_running(team, lease_until=past())
    assert sweep() == 1
    before = whole(job.id)
    assert record_result(rows.result(rows.success(job, attempt=1))) == 0
    assert whole(job.id) == before
    (claimed,) = take()
    assert [(item.id, item.attempt) for item in claimed.jobs] == [(str(job.id), 2)]


def test_a_result_of_a_job_whose_lease_was_renewed_is_taken(team: Team) -> None:
    job = make_sent(team, lease_until=past())
    assert sweep() == 0
    assert record_result(rows.result(rows.success(job))) == 1
    assert whole(job.id)["state"] == State.SUCCEEDED


def test_a_result_of_a_message_whose_confirmation_was_lost_is_taken_before_it_goes_out_again(team: Team) -> None:
    job = make_sent(team, sent_at=None, lease_until=past())
    assert sweep() == 1
    assert record_result(rows.result(rows.success(job))) == 1
    before = whole(job.id)
    assert take({CPU: 1}) == []
    assert record_result(rows.result(rows.success(job))) == 0
    assert whole(job.id) == before


@pytest.mark.parametrize("lost", [{"sent_at": None}, {}], ids=["unsent", "sent"])
def test_what_came_too_late_after_all_expires_instead_of_going_on(
    team: Team, worker: None, lost: dict[str, Any]
) -> None:
    job = make_sent(team, lease_until=past(), expires_at=past(), **lost)
    assert (sweep(), expire()) == (1, 1)
    assert whole(job.id)["state"] == State.EXPIRED


@pytest.mark.parametrize("state", [State.QUEUED, State.RETRYING])
def test_what_waits_until_its_time_to_live_is_over_ends_at_once(team: Team, state: State) -> None:
    job = make_job(team, state=state, expires_at=past(0.01), not_before=timezone.now() + timedelta(hours=1))
    assert expire() == 1
    job.refresh_from_db()
    assert (job.state, job.error_code, job.attempt) == (State.EXPIRED, "expired", 1)
    assert job.finished_at is not None
    assert "time to live" in job.error_message
    assert (take(), expire()) == ([], 0)


def test_what_ran_in_time_succeeds_however_late_the_recorder_is(team: Team, worker: None) -> None:
    sent = make_sent(team, expires_at=past(3600))
    assert (sweep(), expire()) == (0, 0)
    assert record_result(rows.result(rows.success(sent))) == 1
    assert whole(sent.id)["state"] == State.SUCCEEDED


def test_what_waits_in_a_queue_that_no_worker_reads_expires_with_its_lease(team: Team) -> None:
    sent = make_sent(team, expires_at=past())
    assert (sweep(), expire()) == (0, 0)
    Job.objects.update(lease_until=past())
    assert (sweep(), expire()) == (0, 1)
    sent.refresh_from_db()
    assert (sent.state, sent.lease_until, sent.attempt) == (State.EXPIRED, None, 1)
    before = whole(sent.id)
    assert record_result(rows.result(rows.success(sent))) == 0
    assert whole(sent.id) == before


def test_what_runs_beyond_its_time_to_live_where_no_worker_is_heard_keeps_its_lease(team: Team) -> None:
    job = make_running(team, lease_until=past(), expires_at=past())
    assert (sweep(), expire()) == (0, 0)
    assert whole(job.id)["lease_until"] > timezone.now()


def test_what_runs_or_has_ended_or_has_time_left_does_not_expire(team: Team) -> None:
    jobs = [make_running(team, expires_at=past(3600)), make_job(team, expires_at=timezone.now() + timedelta(minutes=1))]
    jobs += [make_final(team, state, expires_at=past(3600)) for state in FINAL]
    jobs += [make_job(team), make_sent(team)]
    before = [whole(job.id) for job in jobs]
    assert expire() == 0
    assert [whole(job.id) for job in jobs] == before


def test_a_long_backlog_of_late_jobs_expires_in_steps(team: Team) -> None:
    Job.objects.bulk_create([rows.new_job(team, expires_at=past()) for _ in range(STEP + 20)])
    assert [expire(), expire(), expire()] == [STEP, 20, 0]


@pytest.mark.django_db(transaction=True)
def test_an_expiry_and_a_result_at_once_agree_about_every_job(team: Team) -> None:
    old = past()
    jobs = [rows.new_job(team, lease_until=old, sent_at=old, expires_at=old) for _ in range(100)]
    Job.objects.bulk_create(jobs)
    result = rows.result(*map(rows.success, reversed(jobs)))
    expired, recorded = in_threads(expire, lambda: record_result(result))
    assert expired + recorded == 100
    assert Job.objects.filter(state=State.SUCCEEDED).count() == recorded
    assert Job.objects.filter(state=State.EXPIRED).count() == expired


def test_a_job_that_was_cancelled_meanwhile_stays_cancelled(team: Team, worker: None) -> None:
    job = make_running(team, lease_until=past())
    job_cancel(job_id=job.id)
    before = whole(job.id)
    assert sweep() == 0
    assert whole(job.id) == before


@pytest.mark.django_db(transaction=True)
def test_sweeps_at_once_change_each_job_once(team: Team) -> None:
    make_worker()
    now = timezone.now()
    jobs = [rows.new_job(team, lease_until=past(), sent_at=now if i % 2 else None) for i in range(120)]
    Job.objects.bulk_create(jobs)
    changed = in_threads(*[sweep] * 4)
    assert sum(changed) == 120
    assert Attempt.objects.count() == 60
    assert sorted(Job.objects.values_list("attempt", flat=True)) == [1] * 60 + [2] * 60


@pytest.mark.django_db(transaction=True)
def test_a_sweep_and_late_results_at_once_agree_about_every_job(team: Team) -> None:
    make_worker()
    now = timezone.now()
    jobs = [rows.new_job(team, lease_until=past(), sent_at=now) for _ in range(100)]
    Job.objects.bulk_create(jobs)
    result = rows.result(*map(rows.success, reversed(jobs)))
    swept, recorded = in_threads(sweep, lambda: record_result(result))
    assert swept + recorded == 100
    assert Job.objects.filter(state=State.SUCCEEDED, attempt=1).count() == recorded
    assert Job.objects.filter(state=State.RETRYING, attempt=2).count() == swept == Attempt.objects.count()


@pytest.mark.django_db(transaction=True)
def test_claims_notes_results_cancels_and_sweeps_at_once_leave_every_job_in_one_piece(team: Team) -> None:
    """Everybody at once on the same rows for a second; swept afterwards, each job goes on or has ended."""
    make_worker("cpu", "cpu.isolated")
    jobs = Job.objects.bulk_create([rows.new_job(team) for _ in range(120)])
    end = timezone.now() + timedelta(seconds=1)

    def until_the_end(action: Any) -> Any:
        def work() -> None:
            turn = 0
            while timezone.now() < end:
                action(turn)
                turn += 1

        return work

    def dispatches(turn: int) -> None:
        for claimed in take({CPU: 1, CPU_ALONE: 9}):
            (release_claim if turn % 3 == 0 else mark_sent)(claimed)

    def records(turn: int) -> None:
        part = jobs[turn % 7 :: 7]
        attempts = dict(Job.objects.filter(id__in=[job.id for job in part]).values_list("id", "attempt"))
        code = rows.ErrorCode.OUT_OF_MEMORY
        record_result(rows.result(*(rows.failure(job, code, attempts[job.id]) for job in part if turn % 2)))
        record_result(rows.result(*(rows.success(job, attempts[job.id]) for job in part[::9])))

    def cancels(turn: int) -> None:
        job_cancel(job_id=jobs[turn % len(jobs)].id) if turn % 5 == 0 else None

    def sweeps(turn: int) -> None:
        Job.objects.filter(id=jobs[turn % len(jobs)].id, lease_until__isnull=False).update(lease_until=past())
        sweep()

    in_threads(*map(until_the_end, (dispatches, dispatches, records, cancels, sweeps)))
    sweep(everything=True)
    for job in Job.objects.all():
        assert job.state in FINAL or (job.state in (State.QUEUED, State.RETRYING) and job.lease_until is None)
        numbers = [attempt.number for attempt in job.failed_attempts.all()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert job.attempt == len(numbers) + (job.state != State.DEAD_LETTERED)
    assert connection.vendor == "postgresql" or Job.objects.filter(state__in=FINAL).exists()
