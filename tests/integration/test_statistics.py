"""What …/stats counts: each end of a job once, whoever sees it: a worker, the broker, the sweep."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.jobs.burial import bury
from inference_portal.jobs.claims import Claim
from inference_portal.jobs.models import Job
from inference_portal.jobs.record import record_result
from inference_portal.jobs.services import job_cancel
from inference_portal.jobs.sweep import expire, sweep
from tests.integration import rows
from tests.integration.http import post
from tests.integration.machine import dead_bundle
from tests.integration.rows import CPU_ALONE, failure, in_threads, make_job, make_sent, make_suspect, make_worker, take
from tests.integration.test_v2_server import counts, stats
from workers.contract import ErrorCode, JobItem

pytestmark = pytest.mark.django_db


def died(*jobs: Job) -> tuple[dict[str, Any], bytes]:
    """Headers and body of the jobs' message, which the broker gave up."""
    items = tuple(JobItem(str(job.id), job.attempt, job.rows) for job in jobs)
    return dead_bundle(Claim(uuid4(), CPU_ALONE, jobs[0].model, "1", jobs[0].sha256, items))


def test_what_no_worker_tells_counts_too_once_it_is_over(team: Team, submitter: Client) -> None:
    make_worker("cpu", "cpu.isolated")
    past = timezone.now() - timedelta(minutes=1)
    last = {"attempt": 4, "failures": 2, "queued_at": timezone.now() - timedelta(seconds=7)}
    # Lost, and tried again.
    make_sent(team, lease_until=past)
    assert (sweep(), counts(stats(submitter))) == (1, (0, 0, 0, 0))
    # Lost for the last time.
    make_suspect(team, lease_until=past, **last)
    assert (sweep(), counts(stats(submitter))) == (1, (0, 0, 0, 1))
    found = stats(submitter)
    assert found["inference_stats"]["fail"]["ns"] == pytest.approx(7e9, rel=0.5)
    assert found["last_inference"] > 0
    # Given up by the broker, for the last time.
    dead = died(make_suspect(team, **last))
    for _ in range(2):
        bury(*dead)
        assert counts(stats(submitter)) == (0, 0, 0, 2)
    assert sweep() == 0 and counts(stats(submitter)) == (0, 0, 0, 2)


def test_a_job_that_expires_counts_alike_whoever_sees_it(team: Team, submitter: Client) -> None:
    late = {"expires_at": timezone.now() - timedelta(minutes=1)}
    assert record_result(rows.result(failure(make_sent(team, **late), ErrorCode.EXPIRED))) == 1
    assert counts(stats(submitter)) == (0, 0, 0, 1)
    make_job(team, **late)
    assert (expire(), expire()) == (1, 0)
    assert counts(stats(submitter)) == (0, 0, 0, 2)


def test_a_cancelled_job_is_neither_a_success_nor_a_failure(team: Team, submitter: Client) -> None:
    assert job_cancel(job_id=make_sent(team).id)
    assert counts(stats(submitter)) == (0, 0, 0, 0)


def test_a_job_that_fails_again_after_a_rerun_has_failed_twice(team: Team, submitter: Client) -> None:
    job = make_sent(team)
    for times in (1, 2):
        assert record_result(rows.result(failure(job, ErrorCode.MODEL_ERROR))) == 1
        assert counts(stats(submitter)) == (0, 0, 0, times)
        assert post(submitter, f"/api/jobs/{job.id}/rerun/").status_code == 202
        take()
        job.refresh_from_db()


@pytest.mark.django_db(transaction=True)
def test_all_who_end_jobs_of_two_models_at_once_count_each_of_them_once(team: Team, submitter: Client) -> None:
    """Each waits for the others at the sums only, as its last act: in the middle it would be a deadlock."""
    make_worker("cpu", "cpu.isolated")
    past = timezone.now() - timedelta(minutes=1)

    def stored(**fields: Any) -> list[Job]:
        models = ("wine", "breast_cancer")
        return Job.objects.bulk_create([rows.new_job(team, model=models[i % 2], **fields) for i in range(60)])

    sent = {"sent_at": timezone.now(), "lease_until": past + timedelta(minutes=9), "isolated": True, "failures": 2}
    stored(**sent | {"lease_until": past})
    stored(expires_at=past)
    dead, reported = stored(**sent), stored(**sent)
    parts = [reported[i::3] for i in range(3)]
    in_threads(
        sweep,
        expire,
        *(lambda jobs=dead[i::2]: bury(*died(*jobs)) for i in range(2)),  # type: ignore[misc]
        *(
            lambda jobs=part: record_result(rows.result(*(failure(j, ErrorCode.MODEL_ERROR) for j in jobs)))
            for part in parts
        ),  # type: ignore[misc]  # noqa: E501
    )
    for model in ("wine", "breast_cancer"):
        (found,) = submitter.get(f"/v2/models/{model}/stats").json()["model_stats"]
        assert counts(found) == (0, 0, 0, 120)
