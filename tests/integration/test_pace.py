"""Retry-After on what is under way: from how long jobs of the model took lately."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.jobs import pace
from inference_portal.jobs.models import Job
from inference_portal.jobs.states import FINAL, State
from tests.integration.http import ASYNC, BODY, INFER, JOB, JOBS, post
from tests.integration.rows import make_final, make_job, new_job

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing is remembered from another test's database."""
    pace._medians.clear()
    yield
    pace._medians.clear()


def ended(team: Team, seconds: float, ago: timedelta = timedelta(seconds=10), **fields: Any) -> None:
    """Have had a job that took so long, and ended so long ago."""
    finished = timezone.now() - ago
    make_final(team, State.SUCCEEDED, finished_at=finished, queued_at=finished - timedelta(seconds=seconds), **fields)


def retry_after(sender: Client) -> int:
    return int(post(sender, INFER, BODY, **ASYNC)["Retry-After"])


def test_without_anything_measured_it_is_soon(submitter: Client) -> None:
    assert retry_after(submitter) == 1


def test_it_is_when_half_of_the_models_jobs_had_ended(team: Team, submitter: Client) -> None:
    for seconds in (2, 20, 40):
        ended(team, seconds)
    ended(team, 300, model="breast_cancer")
    assert retry_after(submitter) == 20
    assert int(post(submitter, JOBS, JOB)["Retry-After"]) == 20
    assert int(post(submitter, INFER, BODY, Prefer="respond-async-proxy")["Retry-After"]) == 20
    assert int(post(submitter, INFER, BODY, Prefer="wait=0")["Retry-After"]) == 20


def test_a_busy_model_beside_it_hides_nothing(team: Team, submitter: Client) -> None:
    for _ in range(3):
        ended(team, 20, ago=timedelta(minutes=1))
    for _ in range(2 * pace.SAMPLE):
        ended(team, 0.1, model="breast_cancer")
    assert retry_after(submitter) == 20


def test_what_was_cancelled_or_expired_or_failed_says_nothing(team: Team, submitter: Client) -> None:
    ended(team, 20)
    for state in FINAL - {State.SUCCEEDED}:
        for _ in range(3):
            make_final(team, state)
    assert retry_after(submitter) == 20


def test_it_is_read_from_an_index_and_not_from_all_that_ended(team: Team) -> None:
    for model, count in (("wine", 60), ("breast_cancer", 2_000)):
        Job.objects.bulk_create(
            new_job(team, model=model, state=State.SUCCEEDED, finished_at=timezone.now(), result=b"[]")
            for _ in range(count)
        )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE jobs_job" if connection.vendor == "postgresql" else "ANALYZE")
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
    plan = pace._lately("wine")[: pace.SAMPLE].explain()
    assert "job_pace" in plan and "sort" not in plan.lower() and "temp" not in plan.lower(), plan


def test_what_the_job_has_waited_counts(team: Team, submitter: Client) -> None:
    for _ in range(3):
        ended(team, 20)
    waited = make_job(team, queued_at=timezone.now() - timedelta(seconds=12.5))
    assert int(submitter.get(waited.result_path)["Retry-After"]) in (7, 8)
    # It takes longer than the others did: in a tenth of that again.
    slow = make_job(team, queued_at=timezone.now() - timedelta(seconds=200))
    assert int(submitter.get(slow.result_path)["Retry-After"]) in (20, 21)


@pytest.mark.parametrize(("seconds", "expected"), [(0.01, 1), (10_000, 60)])
def test_it_is_never_at_once_and_never_long(team: Team, submitter: Client, seconds: float, expected: int) -> None:
    ended(team, seconds)
    assert retry_after(submitter) == expected
    old = make_job(team, queued_at=timezone.now() - timedelta(days=1))
    assert int(submitter.get(old.result_path)["Retry-After"]) == 60


def test_what_ended_long_ago_says_nothing(team: Team, submitter: Client) -> None:
    ended(team, 40, ago=timedelta(hours=1))
    assert retry_after(submitter) == 1
