"""POST /api/jobs/bulk/: each job for itself, and an answer for each in its place."""

import json
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from django.db import OperationalError
from django.test import Client, override_settings

from inference_portal.accounts.models import Role, Team
from inference_portal.jobs import services
from inference_portal.jobs.models import Job
from inference_portal.jobs.quota import Quota
from tests.integration import rows
from tests.integration.http import JOB, JOBS, ROW, check_problem, client, post, problem, put
from tests.integration.rows import make_job

# Of jobs that are refused by the database each has a transaction of its own.
pytestmark = pytest.mark.django_db(transaction=True)
BULK = "/api/jobs/bulk/"


@pytest.fixture(autouse=True)
def quota(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has counted nothing yet: each test has its own database."""
    monkeypatch.setattr(services, "quota", Quota())


def numbered(number: float, **fields: Any) -> dict[str, Any]:
    """Return a job that is known by its first value."""
    return {"model": "wine", "rows": [[number, *ROW[1:]]], **fields}


def bulk(sender: Client, *jobs: Any) -> list[dict[str, Any]]:
    answer = post(sender, BULK, {"jobs": jobs})
    assert answer.status_code == 200, answer.content
    assert answer.json().keys() == {"results"}
    results: list[dict[str, Any]] = answer.json()["results"]
    assert len(results) == len(jobs)
    return results


def check_accepted(result: dict[str, Any]) -> Job:
    job = Job.objects.get(id=result["Id"])
    paths = {"Id": str(job.id), "StatusPath": job.status_path, "ResultPath": job.result_path}
    assert result == {"status": 202, **paths}
    return job


def check_refused(result: dict[str, Any], status: int, slug: str) -> dict[str, Any]:
    check_problem(result, status, slug)
    return result


def first_value(job: Job) -> float:
    return float(np.frombuffer(bytes(job.input), "<f4")[0])


@pytest.mark.parametrize("count", [1, 1000])
def test_as_many_as_may_be_are_accepted_each_in_its_place(team: Team, submitter: Client, count: int) -> None:
    results = bulk(submitter, *(numbered(i / 2, labels=["many"]) for i in range(count)))
    assert {result["status"] for result in results} == {202}
    jobs = Job.objects.in_bulk([UUID(result["Id"]) for result in results])
    assert Job.objects.count() == len(jobs) == count
    assert [first_value(jobs[UUID(result["Id"])]) for result in results] == [i / 2 for i in range(count)]
    assert check_accepted(results[0]).label_list == ["many"]
    assert {job.team_id for job in jobs.values()} == {team.id}


@pytest.mark.parametrize("count", [0, 1001])
def test_none_or_too_many_are_refused_as_a_whole(submitter: Client, count: int) -> None:
    body = problem(post(submitter, BULK, {"jobs": [JOB] * count}), 422, "invalid-input")
    assert body["errors"][0]["pointer"] == "/jobs" and "1 to 1,000" in body["detail"]
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({}, 422, "/jobs"), ({"jobs": {}}, 422, "/jobs"), ({"jobs": None}, 422, "/jobs"), ({"jobs": "x"}, 422, "/jobs"),
        ({"jobs": [JOB], "model": "wine"}, 422, "/model"), ([JOB], 400, None), ("", 422, "/jobs"), ("[", 400, None),
        (b"\xff", 400, None),
    ],
)  # fmt: skip
def test_a_body_that_is_no_list_of_jobs_is_refused_as_a_whole(
    submitter: Client, body: Any, status: int, pointer: str | None
) -> None:
    answer = post(submitter, BULK, body)
    found = problem(answer, status, "malformed" if status == 400 else "invalid-input")
    assert pointer is None or found["errors"][0]["pointer"] == pointer
    assert not Job.objects.exists()


WRONG: list[tuple[Any, int, str, str | None]] = [
    ({**JOB, "rows": [["x", *ROW[1:]]]}, 422, "invalid-input", "/rows/0/0"),
    ({**JOB, "colour": 1}, 422, "invalid-input", "/colour"),
    ({"model": "wine"}, 422, "invalid-input", ""),
    ({**JOB, "model": "none"}, 404, "not-found", None),
    ({**JOB, "version": "9"}, 404, "not-found", None),
    ({**JOB, "priority": "now"}, 422, "invalid-input", "/priority"),
    ({**JOB, "webhook": "https://127.0.0.1"}, 422, "invalid-input", "/webhook"),
    ({**JOB, "sink": "lake"}, 422, "invalid-input", "/sink"),
    ({**JOB, "labels": [""]}, 422, "invalid-input", "/labels/0"),
    ({**JOB, "idempotency_key": ""}, 422, "invalid-input", "/idempotency_key"),
    ({**JOB, "rows": [ROW] * 3}, 413, "too-large", None),
    ({**JOB, "rows": {}}, 400, "malformed", None),
    (None, 422, "invalid-input", ""),
    (5, 422, "invalid-input", ""),
    ([JOB], 422, "invalid-input", ""),
    ("job", 422, "invalid-input", ""),
]


def test_what_is_wrong_with_one_does_not_stop_the_others(submitter: Client) -> None:
    jobs: list[Any] = []
    for number, (wrong, *_) in enumerate(WRONG):
        jobs += [numbered(number), wrong]
    with override_settings(MAX_REQUEST_ROWS=2):
        results = bulk(submitter, *jobs, numbered(99))
    assert [first_value(check_accepted(result)) for result in results[::2]] == [*range(len(WRONG)), 99]
    for result, (_, status, slug, pointer) in zip(results[1::2], WRONG, strict=True):
        refused = check_refused(result, status, slug)
        assert refused["instance"] == BULK
        assert ([error["pointer"] for error in refused.get("errors", [])] or [None])[0] == pointer
    assert Job.objects.count() == len(WRONG) + 1


HALF = "\ud800"


def half(wrong: Any) -> Any:
    """Return a job with half a surrogate pair in some place: JSON can write it, UTF-8 can't."""
    return {"model": "wine", "rows": [ROW]} | wrong


@pytest.mark.parametrize(
    ("wrong", "status", "slug"),
    [
        ({HALF: 1}, 422, "invalid-input"), ({"model": HALF}, 404, "not-found"), ({"version": HALF}, 404, "not-found"),
        ({"rows": [{HALF: 1}]}, 422, "invalid-input"), ({"rows": [[HALF, *ROW[1:]]]}, 422, "invalid-input"),
        ({"labels": [HALF]}, 422, "invalid-input"), ({"ordering_key": HALF}, 422, "invalid-input"),
        ({"idempotency_key": HALF}, 422, "invalid-input"), ({"priority": HALF}, 422, "invalid-input"),
    ],
)  # fmt: skip
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(
    submitter: Client, wrong: Any, status: int, slug: str
) -> None:
    results = bulk(submitter, numbered(1), half(wrong), numbered(2))
    assert [result["status"] for result in results] == [202, status, 202]
    check_refused(results[1], status, slug)
    problem(post(submitter, "/api/jobs/", half(wrong)), status, slug)
    assert Job.objects.count() == 2


def test_half_a_surrogate_pair_among_ids_of_dead_letters_is_no_id(team: Team) -> None:
    operator = client(team, Role.OPERATOR)
    for path, more in (("replay", {}), ("discard", {"reason": "x"})):
        answer = post(operator, f"/api/dead-letters/{path}/", {"ids": [HALF], **more})
        assert answer.status_code == 200
        check_refused(answer.json()["results"][0], 404, "not-found")
    problem(
        post(operator, "/api/dead-letters/replay/", {"ids": [HALF], "version": HALF, HALF: 1}), 422, "invalid-input"
    )


def nested(depth: int, field: str) -> str:
    """Return a job whose body is nested so deep."""
    if field == "rows":
        return '{"model":"wine","rows":' + "[" * (depth - 1) + "]" * (depth - 1) + "}"
    tensor = '{"name":"x","shape":[1,13],"datatype":"FP32","data":'
    return '{"model":"wine","inputs":[' + tensor + "[" * (depth - 3) + "]" * (depth - 3) + "}]}"


@pytest.mark.parametrize("field", ["rows", "inputs"])
@pytest.mark.parametrize("depth", [200, 253, 254, 255, 256, 500, 900, 990, 1000, 1020, 1023, 1024, 1025, 3000])
def test_a_body_however_deep_is_refused(submitter: Client, depth: int, field: str) -> None:
    body = nested(depth, field)
    for answer in (post(submitter, "/api/jobs/", body), put(submitter, f"/api/jobs/{uuid4()}/", body)):
        problem(answer, *((422, "invalid-input") if answer.status_code == 422 else (400, "malformed")))
    answer = post(submitter, BULK, f'{{"jobs":[{json.dumps(numbered(1))},{body},{json.dumps(numbered(2))}]}}')
    # Up to some depth it is the job that is refused, beyond it nobody can read the body: then nothing is stored.
    assert depth > 900 or answer.status_code == 200
    if answer.status_code == 200:
        assert [result["status"] for result in answer.json()["results"]][::2] == [202, 202]
        assert answer.json()["results"][1]["status"] in (400, 422)
    else:
        problem(answer, 400, "malformed")
        assert not Job.objects.exists()


def test_one_name_twice_in_one_call_is_one_job(submitter: Client) -> None:
    once, other = numbered(1, idempotency_key="k"), numbered(2, idempotency_key="k")
    results = bulk(submitter, numbered(5), once, once, other, dict(reversed(once.items())), numbered(5))
    (job, *_) = [check_accepted(results[i]) for i in (1, 2, 4)]
    assert {results[i]["Id"] for i in (1, 2, 4)} == {str(job.id)}
    assert first_value(job) == 1
    check_refused(results[3], 422, "idempotency-mismatch")
    assert results[0]["Id"] != results[5]["Id"]
    assert Job.objects.count() == 3


def test_a_call_that_is_repeated_joins_its_jobs(submitter: Client) -> None:
    jobs = [numbered(i, idempotency_key=f"key-{i}") for i in range(20)]
    first = bulk(submitter, *jobs)
    assert bulk(submitter, *jobs) == first
    assert bulk(submitter, *reversed(jobs)) == first[::-1]
    single = post(submitter, JOBS, jobs[7])
    assert single.json()["Id"] == first[7]["Id"]
    assert Job.objects.count() == 20
    mixed = bulk(submitter, numbered(50, idempotency_key="key-0"), jobs[1], numbered(51, idempotency_key="new"))
    check_refused(mixed[0], 422, "idempotency-mismatch")
    assert check_accepted(mixed[1]).id == UUID(first[1]["Id"])
    assert Job.objects.count() == 21


def test_a_quota_with_room_for_some_takes_the_first_ones(team: Team, submitter: Client) -> None:
    Team.objects.filter(id=team.id).update(quota=5)
    make_job(team)
    results = bulk(submitter, *(numbered(i) for i in range(4)), {}, *(numbered(i) for i in range(4, 8)))
    assert [result["status"] for result in results] == [202, 202, 202, 202, 422, 429, 429, 429, 429]
    for result in results[5:]:
        refused = check_refused(result, 429, "quota-exceeded")
        assert refused["retryable"] is True and refused["retry_after"] >= 1
    assert "retry_after" not in results[4]
    assert sorted(first_value(job) for job in map(check_accepted, results[:4])) == [0, 1, 2, 3]
    assert Job.objects.count() == 5
    assert [result["status"] for result in bulk(submitter, JOB, JOB)] == [429, 429]


def test_a_full_quota_refuses_no_repeats(team: Team, submitter: Client) -> None:
    Team.objects.filter(id=team.id).update(quota=2)
    jobs = [numbered(i, idempotency_key=f"key-{i}") for i in range(3)]
    first = bulk(submitter, *jobs)
    assert [result["status"] for result in first] == [202, 202, 429]
    assert bulk(submitter, *jobs)[:2] == first[:2]
    Team.objects.filter(id=team.id).update(quota=3)
    third = bulk(submitter, *jobs)
    # What was refused has used up no key.
    assert third[:2] == first[:2] and third[2]["status"] == 202


def test_room_for_all_teams_together_counts_too(team: Team, submitter: Client) -> None:
    make_job(rows.make_team("other"))
    with override_settings(MAX_OPEN_JOBS=3):
        results = bulk(submitter, *(numbered(i) for i in range(4)))
    assert [result["status"] for result in results] == [202, 202, 503, 503]
    assert check_refused(results[2], 503, "system-full")["retry_after"] >= 1


def test_a_viewer_submits_nothing(team: Team) -> None:
    problem(post(client(team, Role.VIEWER), BULK, {"jobs": [JOB]}), 403, "forbidden")
    assert not Job.objects.exists()


def test_a_call_that_is_too_large_is_refused_as_a_whole(submitter: Client) -> None:
    with override_settings(MAX_REQUEST_BYTES=1000):
        problem(post(submitter, BULK, {"jobs": [JOB] * 20}), 413, "too-large")
    assert not Job.objects.exists()


def test_a_database_that_goes_away_is_looked_at_once_and_not_for_each_job(
    submitter: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(jobs: list[Job]) -> None:
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr("inference_portal.jobs.intake._commit", away)
    for result in bulk(submitter, *[JOB] * 50):
        check_refused(result, 503, "unavailable")
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == ["the database is away"]
