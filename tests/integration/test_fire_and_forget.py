"""Prefer: respond-async-proxy: accepted, done, forgotten; what goes wrong is kept like any other job."""

import time
from typing import Any

import pytest
from django.test import Client

from inference_portal.accounts.models import Role, Team
from inference_portal.jobs.models import Job
from inference_portal.jobs.record import record_result
from inference_portal.jobs.states import FINAL, State
from tests.integration import rows
from tests.integration.http import BODY, INFER, client, post, problem
from tests.integration.rows import failure, take
from tests.integration.work import work
from workers.contract import ErrorCode

pytestmark = pytest.mark.django_db
PROXY = {"Prefer": "respond-async-proxy"}


def forget(sender: Client, **headers: Any) -> Job:
    """Have a request accepted that way."""
    answer = post(sender, INFER, BODY, **{**PROXY, **headers})
    assert (answer.status_code, answer.content) == (202, b"")
    return Job.objects.get(id=answer["X-Inference-Id"])


def fail(job: Job, code: ErrorCode) -> None:
    (claimed,) = take()
    assert claimed.ids == [str(job.id)]
    job.refresh_from_db()
    assert record_result(rows.result(failure(job, code))) == 1


def test_the_answer_is_202_with_nothing_to_fetch(submitter: Client) -> None:
    answer = post(submitter, INFER, BODY, **PROXY)
    assert (answer.status_code, answer.content) == (202, b"")
    assert "Content-Type" not in answer and "Location" not in answer
    assert answer["Preference-Applied"] == "respond-async-proxy"
    assert "Prefer" in answer["Vary"].split(", ")
    assert int(answer["Retry-After"]) >= 1
    status = submitter.get(f"/status/wine/{answer['X-Inference-Id']}")
    assert (status.status_code, status.json()["Status"], status.json()["QueuePosition"]) == (200, "Queue", 1)


@pytest.mark.parametrize(
    "prefer", ["respond-async-proxy, wait=30", "wait=30, respond-async-proxy", "respond-async-proxy, respond-async"]
)
def test_there_is_nothing_to_wait_for(submitter: Client, prefer: str) -> None:
    answer = post(submitter, INFER, BODY, Prefer=prefer)
    assert (answer.status_code, answer["Preference-Applied"]) == (202, "respond-async-proxy")


@pytest.mark.parametrize("state", sorted(frozenset(State) - FINAL))
def test_while_it_is_open_there_is_nothing_to_wait_for_either(team: Team, submitter: Client, state: State) -> None:
    make = rows.make_running if state is State.RUNNING else rows.make_job
    job = make(team, state=state, keeps_result=False)
    begun = time.monotonic()
    for path in (f"/result/wine/{job.id}", f"/result/wine/{job.id}?wait=30", f"/api/jobs/{job.id}/result/?wait=30"):
        answer = submitter.get(path)
        problem(answer, 410, "result-not-kept")
        assert answer["X-Inference-Id"] == str(job.id) and "Location" not in answer
    by_header = submitter.get("/result/wine", headers={"X-Inference-Id": str(job.id)})
    problem(by_header, 410, "result-not-kept")
    assert time.monotonic() - begun < 10
    assert submitter.get(f"/status/wine/{job.id}").json()["State"] == state


def test_after_success_neither_input_nor_result_is_kept(submitter: Client) -> None:
    job = forget(submitter)
    assert bytes(job.input)
    assert work() == 1
    row = rows.whole(job.id)
    assert (row["state"], row["input"], row["result"]) == ("succeeded", b"", None)
    for path in (f"/result/wine/{job.id}", f"/result/wine/{job.id}?wait=5", f"/api/jobs/{job.id}/result/"):
        assert problem(submitter.get(path), 410, "result-not-kept")["retryable"] is False
    shown = submitter.get(f"/status/wine/{job.id}").json()
    assert (shown["Status"], shown["State"], shown["Error"]) == ("Completed", "succeeded", None)
    receipt = submitter.get(f"/api/jobs/{job.id}/receipt/").json()
    assert receipt["input_sha256"] == job.input_sha256
    problem(post(submitter, f"/api/jobs/{job.id}/rerun/"), 409, "conflict")


def test_beside_it_a_job_keeps_its_result(submitter: Client) -> None:
    forgotten = forget(submitter)
    kept = post(submitter, INFER, BODY, Prefer="respond-async").json()["Id"]
    assert work() == 2
    assert submitter.get(f"/result/wine/{kept}").status_code == 200
    assert bytes(Job.objects.get(id=kept).input)
    problem(submitter.get(f"/result/wine/{forgotten.id}"), 410, "result-not-kept")


def test_a_failure_keeps_the_input_and_can_be_rerun(submitter: Client) -> None:
    job = forget(submitter)
    fail(job, ErrorCode.MODEL_ERROR)
    problem(submitter.get(f"/result/wine/{job.id}"), 502, "model-error")
    assert rows.whole(job.id)["input"] == bytes(job.input)
    assert post(submitter, f"/api/jobs/{job.id}/rerun/").status_code == 202
    assert work() == 1
    row = rows.whole(job.id)
    assert (row["state"], row["attempt"], row["input"], row["result"]) == ("succeeded", 2, b"", None)
    problem(submitter.get(f"/result/wine/{job.id}"), 410, "result-not-kept")


def test_a_failed_attempt_is_tried_again(submitter: Client) -> None:
    job = forget(submitter)
    fail(job, ErrorCode.LEASE_EXPIRED)
    row = rows.whole(job.id)
    assert (row["state"], row["input"]) == ("retrying", bytes(job.input))
    Job.objects.update(not_before=None)
    assert work() == 1
    assert rows.whole(job.id)["state"] == "succeeded"


def test_a_dead_letter_can_be_replayed(team: Team, submitter: Client) -> None:
    job = forget(submitter)
    while not Job.objects.dead_letters().exists():
        fail(job, ErrorCode.LEASE_EXPIRED)
        Job.objects.update(not_before=None)
    problem(submitter.get(f"/result/wine/{job.id}"), 502, "dead-lettered")
    operator = client(rows.make_team("operators"), Role.OPERATOR)
    dead = operator.get(f"/api/dead-letters/{job.id}/").json()
    assert len(dead["input"]["rows"]) == 1
    assert post(operator, f"/api/dead-letters/{job.id}/replay/").status_code == 202
    assert work() == 1
    row = rows.whole(job.id)
    assert (row["state"], row["input"], row["result"]) == ("succeeded", b"", None)


def test_a_cancelled_one_says_so(submitter: Client) -> None:
    job = forget(submitter)
    assert submitter.post(f"/api/jobs/{job.id}/cancel/").status_code == 202
    problem(submitter.get(f"/result/wine/{job.id}"), 409, "cancelled")


def test_a_result_that_comes_twice_stores_nothing_either(submitter: Client) -> None:
    job = forget(submitter)
    take()
    result = rows.result(rows.success(job))
    assert (record_result(result), record_result(result)) == (1, 0)
    assert rows.whole(job.id)["result"] is None


def test_its_repeat_joins_it_by_its_own_prefer(submitter: Client) -> None:
    name = {"Idempotency-Key": "k"}
    job = forget(submitter, **name)
    assert forget(submitter, **name).id == job.id
    assert post(submitter, INFER, BODY, Prefer="respond-async", **name).json()["Id"] == str(job.id)
    assert work() == 1
    problem(post(submitter, INFER, BODY, **name), 410, "result-not-kept")
    assert Job.objects.get().state == State.SUCCEEDED
