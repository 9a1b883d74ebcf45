"""POST /api/jobs/{id}/rerun/: the same job, its next attempt."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from django.test import Client
from django.utils import timezone

from inference_portal.accounts.models import Role, Team
from inference_portal.jobs import rerun as jobs_rerun
from inference_portal.jobs.models import Attempt, AuditEntry, Job
from inference_portal.jobs.quota import Quota
from inference_portal.jobs.record import record_result
from inference_portal.jobs.retention import purge
from inference_portal.jobs.services import job_cancel
from inference_portal.jobs.states import FINAL, Event, State, sources
from tests.integration import rows
from tests.integration.dead import MATRIX, dead, store
from tests.integration.http import client, post, problem
from tests.integration.rows import make_final, make_job, make_running, make_sent, take, whole
from tests.integration.work import work
from workers.contract import ErrorCode

pytestmark = pytest.mark.django_db
AGAIN = sorted(FINAL - {State.SUCCEEDED})


@pytest.fixture(autouse=True)
def quota(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has counted nothing yet: each test has its own database."""
    monkeypatch.setattr(jobs_rerun, "quota", Quota())


@pytest.fixture
def model_m(tmp_path: Path, settings: Any) -> Iterator[None]:
    """A model with several versions."""
    with store(settings, tmp_path / "store"):
        yield


def rerun(sender: Client, job: Job, body: Any = "") -> Any:
    return post(sender, f"/api/jobs/{job.id}/rerun/", body)


def refused(sender: Client, job: Job, status: int, slug: str, body: Any = "") -> dict[str, Any]:
    """The problem of a rerun that must have changed nothing."""
    before = whole(job.id)
    found = problem(rerun(sender, job, body), status, slug)
    assert whole(job.id) == before
    assert not AuditEntry.objects.filter(job_id=job.id).exists()
    return found


def test_an_attempt_that_was_cancelled_while_it_ran_is_kept_when_the_job_is_rerun(
    team: Team, submitter: Client
) -> None:
    job = make_running(team, attempt=2, worker="cpu@far/3", host="far", device="cuda")
    Attempt.objects.create(job=job, number=1, finished_at=timezone.now(), code="worker-lost", message="x")
    assert job_cancel(job_id=job.id)
    cancelled = Job.objects.get(id=job.id)
    seen = submitter.get(f"/api/jobs/{job.id}/").json()["attempts"]
    assert rerun(submitter, job).status_code == 202
    kept = job.failed_attempts.get(number=2)
    assert (kept.worker, kept.host, kept.device, kept.code) == ("cpu@far/3", "far", "cuda", "cancelled")
    assert (kept.started_at, kept.finished_at) == (job.started_at, cancelled.finished_at)
    assert submitter.get(f"/api/jobs/{job.id}/").json()["attempts"] == seen
    # The next one is cancelled before anybody has it: nothing to keep.
    assert job_cancel(job_id=job.id)
    assert rerun(submitter, job).status_code == 202
    assert [attempt.number for attempt in job.failed_attempts.all()] == [1, 2]


@pytest.mark.parametrize("state", AGAIN)
def test_a_job_that_ended_without_a_result_becomes_due_again(team: Team, submitter: Client, state: State) -> None:
    wine = np.array([[14.23, 1.71, 2.43, 15.6, 127.0, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065.0]], "<f4")
    past = timezone.now() - timedelta(hours=1)
    job = make_final(
        team, state, input=wine.tobytes(), failures=3, attempt=3, queued_at=past, expires_at=past, started_at=past
    )
    for number in range(1, 4):
        Attempt.objects.create(job=job, number=number, finished_at=past, code="worker-lost", message="x")
    answer = rerun(submitter, job)
    assert answer.status_code == 202
    assert answer.json() == {"Id": str(job.id), "StatusPath": job.status_path, "ResultPath": job.result_path}
    assert (answer["Location"], answer["X-Inference-Id"]) == (job.result_path, str(job.id))
    assert int(answer["Retry-After"]) >= 1
    row = whole(job.id)
    assert (row["state"], row["attempt"], row["failures"], row["error_code"]) == ("queued", 4, 0, "")
    assert (row["expires_at"], row["finished_at"], row["started_at"], row["worker"]) == (None, None, None, "")
    assert row["queued_at"] > past and row["accepted_at"] == job.accepted_at
    assert row["input_sha256"] == job.input_sha256
    assert submitter.get(job.status_path).json()["State"] == "queued"
    entry = AuditEntry.objects.get()
    assert (entry.who, entry.action, entry.job_id, entry.changes) == ("key submitter", "rerun", job.id, {})
    assert work() == 1
    detail = submitter.get(f"/api/jobs/{job.id}/").json()
    assert (detail["state"], [a["number"] for a in detail["attempts"]]) == ("succeeded", [1, 2, 3, 4])
    assert submitter.get(job.result_path).status_code == 200


def test_the_table_of_states_names_the_same_ones() -> None:
    assert sorted(sources(Event.RERUN)) == AGAIN


@pytest.mark.parametrize("state", sorted(frozenset(State) - set(AGAIN)))
def test_a_job_that_is_open_or_has_succeeded_is_a_conflict(team: Team, submitter: Client, state: State) -> None:
    if state is State.SUCCEEDED:
        job = make_final(team, state)
    else:
        job = make_running(team) if state is State.RUNNING else make_sent(team, state=state)
    assert str(state) in refused(submitter, job, 409, "conflict")["detail"]


def test_a_discarded_dead_letter_stays_discarded(team: Team, submitter: Client) -> None:
    job = make_final(team, State.DEAD_LETTERED, discarded_at=timezone.now())
    refused(submitter, job, 409, "conflict")


def test_a_rerun_job_is_tried_and_can_fail_and_be_rerun_again(team: Team, submitter: Client) -> None:
    job = make_final(team, State.FAILED)
    for attempt in (2, 3, 4):
        assert rerun(submitter, job).status_code == 202
        refresh = Job.objects.get(id=job.id)
        assert refresh.attempt == attempt
        take()
        assert record_result(rows.result(rows.failure(refresh, ErrorCode.BAD_DATA))) == 1
    assert AuditEntry.objects.filter(job_id=job.id, action="rerun").count() == 3


# What the body may say


def test_another_version_gets_the_columns_by_their_names(team: Team, submitter: Client, model_m: None) -> None:
    job = dead(team)
    assert rerun(submitter, job, {"version": "2"}).status_code == 202
    row = whole(job.id)
    assert (row["version"], row["pool"], row["rows"]) == ("2", "gpu", 2)
    assert row["input"] == np.ascontiguousarray(MATRIX[:, [2, 0]]).tobytes()
    entry = AuditEntry.objects.get()
    assert entry.changes["version"] == ["1", "2"]
    assert submitter.get(f"/api/jobs/{job.id}/").json()["version"] == "2"


def test_a_version_that_the_input_does_not_fit_is_refused(team: Team, submitter: Client, model_m: None) -> None:
    job = dead(team)
    found = refused(submitter, job, 422, "invalid-input", {"version": "3"})
    assert "column 'd'" in found["errors"][0]["detail"]
    # It lacks the output that was asked for.
    assert refused(submitter, job, 422, "invalid-input", {"version": "4"})["errors"][0]["pointer"] == "/version"


@pytest.mark.parametrize("version", ["9", "", "x", "../1"])
def test_a_version_that_is_not_served_is_refused(team: Team, submitter: Client, version: str) -> None:
    job = make_final(team, State.FAILED)
    found = refused(submitter, job, 422, "invalid-input", {"version": version})
    assert found["errors"][0]["pointer"] == "/version" and "served: 1" in found["detail"]


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"version": 1}, 422, "/version"), ({"rows": [[1]]}, 422, "/rows"), ({"x": 1}, 422, "/x"), ("[", 400, None),
        ([], 400, None), (b"\xff", 400, None),
    ],
)  # fmt: skip
def test_a_body_that_says_something_else_is_refused(
    team: Team, submitter: Client, body: Any, status: int, pointer: str | None
) -> None:
    found = refused(submitter, make_final(team, State.FAILED), status, "malformed" if status == 400 else "invalid-input", body)  # fmt: skip  # noqa: E501
    assert pointer is None or found["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("body", ["", {}, {"version": None}])
def test_a_body_may_say_nothing(team: Team, submitter: Client, body: Any) -> None:
    assert rerun(submitter, make_final(team, State.FAILED), body).status_code == 202


# Who, and when not


def test_it_takes_a_submitter_of_the_team_or_an_operator(team: Team) -> None:
    job = make_final(team, State.FAILED)
    other = rows.make_team("other")
    refused(client(team, Role.VIEWER), job, 403, "forbidden")
    refused(client(other), job, 404, "not-found")
    refused(client(other, Role.VIEWER), job, 404, "not-found")
    problem(post(client(team), f"/api/jobs/{uuid4()}/rerun/"), 404, "not-found")
    assert rerun(client(other, Role.OPERATOR), job).status_code == 202
    assert AuditEntry.objects.get().who == "key operator"
    assert Job.objects.get().team == team


def test_what_retention_has_removed_cannot_be_run_again(team: Team, submitter: Client) -> None:
    job = make_final(team, State.FAILED, finished_at=timezone.now() - timedelta(days=30))
    assert purge() == 1
    assert "was removed" in refused(submitter, job, 422, "invalid-input")["detail"]


def test_a_full_quota_refuses_it(team: Team, submitter: Client) -> None:
    job = make_final(team, State.FAILED)
    Team.objects.filter(id=team.id).update(quota=1)
    open_one = make_job(team)
    answer = rerun(submitter, job)
    problem(answer, 429, "quota-exceeded")
    assert int(answer["Retry-After"]) >= 1
    assert whole(job.id)["state"] == "failed"
    # It is no use to ask for what is a conflict anyway.
    problem(rerun(submitter, open_one), 409, "conflict")


def test_the_quota_is_the_jobs_team_s_and_not_the_operator_s(team: Team) -> None:
    job = make_final(team, State.FAILED)
    operators = rows.make_team("operators")
    Team.objects.filter(id=operators.id).update(quota=0)
    assert rerun(client(operators, Role.OPERATOR), job).status_code == 202


def test_a_rerun_has_lost_its_place(team: Team, submitter: Client) -> None:
    past = timezone.now() - timedelta(minutes=5)
    first = make_final(team, State.FAILED, ordering_key="k", queued_at=past)
    second = make_job(team, ordering_key="k", queued_at=past + timedelta(minutes=1))
    third = make_job(team, ordering_key="k", queued_at=past + timedelta(minutes=2))
    assert rerun(submitter, first).status_code == 202
    assert submitter.get(first.status_path).json()["QueuePosition"] == 3
    order = []
    for _ in range(3):
        (claimed,) = take()
        (job_id,) = claimed.ids
        order.append(job_id)
        job = Job.objects.get(id=job_id)
        assert record_result(rows.result(rows.success(job))) == 1
    assert order == [str(job.id) for job in (second, third, first)]
