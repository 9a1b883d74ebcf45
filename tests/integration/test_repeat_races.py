"""One request from many threads at once, and many people who want the same thing: exactly one job, one act."""

import json
import threading
import time
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from inference_portal.accounts.models import Team
from inference_portal.jobs.models import AuditEntry, Job
from inference_portal.jobs.states import State
from tests.integration import rows
from tests.integration.http import ASYNC, BODY, INFER, JOB, JOBS, ROW, client, post, problem, put
from tests.integration.rows import in_threads, make_final
from tests.integration.work import at_work

pytestmark = pytest.mark.django_db(transaction=True)
THREADS = 12
OTHER = {"instances": [[*ROW[:-1], 1.0]]}


def names() -> dict[str, dict[str, str]]:
    return {
        "an id": {"X-Inference-Id": str(uuid4())},
        "a key": {"Idempotency-Key": "k"},
        "both": {"X-Inference-Id": str(uuid4()), "Idempotency-Key": "k"},
    }


@pytest.mark.parametrize("kind", names())
def test_of_requests_that_come_together_one_becomes_the_job(submitter: Client, kind: str) -> None:
    name = names()[kind]
    answers = in_threads(*[lambda: post(submitter, INFER, BODY, **name, **ASYNC)] * THREADS)
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.json()["Id"] for answer in answers} == {str(Job.objects.get().id)}
    assert len({answer["X-Inference-Id"] for answer in answers}) == 1


@pytest.mark.parametrize("kind", names())
def test_of_two_requests_under_one_name_one_wins_and_the_other_is_told(submitter: Client, kind: str) -> None:
    name = names()[kind]
    bodies = [BODY, OTHER] * (THREADS // 2)
    answers = in_threads(*[lambda body=body: post(submitter, INFER, body, **name, **ASYNC) for body in bodies])
    won = {json.dumps(body) for body, answer in zip(bodies, answers, strict=True) if answer.status_code == 202}
    assert len(won) == 1
    for body, answer in zip(bodies, answers, strict=True):
        if json.dumps(body) in won:
            assert answer.json()["Id"] == str(Job.objects.get().id)
        else:
            problem(answer, 422, "idempotency-mismatch")


def test_they_all_wait_for_the_same_result(submitter: Client) -> None:
    name = {"Idempotency-Key": "k"}
    with at_work():
        answers = in_threads(*[lambda: post(submitter, INFER, BODY, Prefer="wait=20", **name)] * THREADS)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    job = Job.objects.get()
    assert {answer["X-Inference-Id"] for answer in answers} == {str(job.id)}
    assert (job.state, job.attempt) == (State.SUCCEEDED, 1)


def test_a_put_from_many_threads_is_one_job(submitter: Client) -> None:
    path = f"/api/jobs/{uuid4()}/"
    answers = in_threads(*[lambda: put(submitter, path, JOB)] * THREADS)
    assert {(answer.status_code, answer.content) for answer in answers} == {(202, answers[0].content)}
    assert Job.objects.count() == 1


def test_two_teams_that_want_one_id_learn_nothing_of_each_other(team: Team, submitter: Client) -> None:
    stranger = client(rows.make_team("other"))
    senders = [submitter, stranger] * (THREADS // 2)
    name = {"X-Inference-Id": str(uuid4())}
    answers = in_threads(*[lambda sender=sender: post(sender, INFER, BODY, **name, **ASYNC) for sender in senders])
    job = Job.objects.get()
    owner = submitter if job.team_id == team.id else stranger
    for sender, answer in zip(senders, answers, strict=True):
        if sender is owner:
            assert answer.json()["Id"] == str(job.id)
        else:
            assert str(job.team_id) not in problem(answer, 422, "idempotency-mismatch")["detail"]


def test_calls_in_bulk_with_the_same_keys_become_the_same_jobs(submitter: Client) -> None:
    jobs = [{**JOB, "idempotency_key": f"key-{i}"} for i in range(20)]

    def call(turn: int) -> Any:
        mine = jobs[turn:] + jobs[:turn]
        results = post(submitter, f"{JOBS}bulk/", {"jobs": mine}).json()["results"]
        return {
            job["idempotency_key"]: (result["status"], result["Id"]) for job, result in zip(mine, results, strict=True)
        }

    answers = in_threads(*[lambda turn=turn: call(turn) for turn in range(6)])
    assert Job.objects.count() == 20
    assert all(answer == answers[0] for answer in answers)
    assert {status for status, _ in answers[0].values()} == {202}


def test_different_requests_that_come_together_are_different_jobs(submitter: Client) -> None:
    answers = in_threads(
        *[lambda i=i: post(submitter, INFER, BODY, **ASYNC, **{"Idempotency-Key": f"k{i}"}) for i in range(THREADS)]
    )
    assert {answer.status_code for answer in answers} == {202}
    assert Job.objects.count() == len({answer.json()["Id"] for answer in answers}) == THREADS


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_of_many_reruns_one_is_done(team: Team, submitter: Client, state: State) -> None:
    job = make_final(team, state)
    answers = in_threads(*[lambda: post(submitter, f"/api/jobs/{job.id}/rerun/")] * 8)
    assert sorted(answer.status_code for answer in answers) == [202, *[409] * 7]
    job.refresh_from_db()
    assert (job.state, job.attempt) == (State.QUEUED, 2)
    assert AuditEntry.objects.filter(job_id=job.id).count() == 1


def test_a_repeat_meets_the_end_of_its_job_and_waits_for_nothing(submitter: Client) -> None:
    """The end may come between the look at the job and the place to wait: nobody sleeps through it."""
    name = {"Idempotency-Key": "k"}
    assert post(submitter, INFER, BODY, **name, **ASYNC).status_code == 202
    go = threading.Event()

    def repeat() -> Any:
        go.wait(20)
        return post(submitter, INFER, BODY, Prefer="wait=20", **name)

    def end() -> None:
        go.set()
        with at_work():
            while not Job.objects.filter(state=State.SUCCEEDED).exists():
                time.sleep(0.01)

    *answers, _ = in_threads(*[repeat] * 6, end)
    assert {answer.status_code for answer in answers} == {200}
