"""The headers of …/infer: every answer names its id and varies by Prefer; what was honoured is said."""

import json
from typing import Any
from uuid import UUID

import pytest
from django.test import Client, override_settings

from inference_portal.accounts.models import Role, Team
from inference_portal.api import infer
from inference_portal.jobs import services
from inference_portal.jobs.models import Job
from inference_portal.jobs.quota import Quota
from inference_portal.jobs.waiting import WaitHub
from tests.integration import rows
from tests.integration.http import ASYNC, BODY, INFER, ROW, client, post, problem, send
from tests.integration.work import at_work

pytestmark = pytest.mark.django_db
OWN = "0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c11"


@pytest.fixture(autouse=True)
def quota(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has counted nothing yet: each test has its own database."""
    monkeypatch.setattr(services, "quota", Quota())


# Name of an answer -> what is sent, and the status that comes.
REFUSALS: dict[str, tuple[dict[str, Any], int]] = {
    "malformed": ({"body": "{"}, 400),
    "header": ({"X-Inference-Priority": "now"}, 400),
    "unknown model": ({"path": "/v2/models/none/infer"}, 404),
    "method": ({"method": "PUT"}, 405),
    "accept": ({"Accept": "text/html"}, 406),
    "rows": ({"body": {"instances": [ROW] * 3}}, 413),
    "bytes": ({"body": " " * 5000}, 413),
    "type": ({"content_type": "text/html"}, 415),
    "invalid": ({"body": {"instances": [["x"]]}}, 422),
    "container": ({"Prefer": "respond-async-container"}, 422),
    "webhook": ({"X-Inference-Webhook": "https://127.0.0.1"}, 400),
    "sink": ({"X-Inference-Sink": "lake"}, 422),
    "quota": ({"quota": 0, **ASYNC}, 429),
    "full": ({"open": 0, **ASYNC}, 503),
    "places": ({"places": 0, "Prefer": "wait=5"}, 503),
    "nobody": ({"who": "nobody"}, 401),
    "viewer": ({"who": Role.VIEWER}, 403),
}


def check_headers(answer: Any) -> None:
    UUID(answer["X-Inference-Id"])
    assert "Prefer" in [name.strip() for name in answer["Vary"].split(",")]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_names_an_id_under_which_there_is_nothing(
    team: Team, submitter: Client, monkeypatch: pytest.MonkeyPatch, kind: str, named: bool
) -> None:
    request, status = REFUSALS[kind]
    asked = {name: value for name, value in request.items() if name[0].isupper() or name == "content_type"}
    if named:
        asked["X-Inference-Id"] = OWN
    who = request.get("who", Role.SUBMITTER)
    sender = Client() if who == "nobody" else client(team, who)
    Team.objects.filter(id=team.id).update(quota=request.get("quota"))
    monkeypatch.setattr(infer, "hub", WaitHub(request.get("places", 10)))
    with override_settings(MAX_REQUEST_ROWS=2, MAX_REQUEST_BYTES=4000, MAX_OPEN_JOBS=request.get("open", 100)):
        answer = send(sender, request.get("method", "POST"), request.get("path", INFER), request.get("body", BODY), **asked)  # fmt: skip  # noqa: E501
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    check_headers(answer)
    assert "Preference-Applied" not in answer
    assert (answer["X-Inference-Id"] == OWN) is named
    assert ("Retry-After" in answer) is (status in (429, 503))
    assert not Job.objects.exists()
    problem(submitter.get(f"/status/wine/{answer['X-Inference-Id']}"), 404, "not-found")


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize(
    "name",
    [
        "Wine", "wine.1", "w%C3%AFne", "%00", "%ff", "%0A", "wine%0A", "..", "%2e%2e", "~", " ", "%20", "", "x" * 5000,
        "*", "{model}", "%25", "wine;x=1",
    ],
)  # fmt: skip
def test_names_that_nothing_can_have_are_answered_by_the_endpoint_too(
    submitter: Client, method: str, name: str
) -> None:
    versions = ["0", "01", "1.0", "-1", "\u0661", "9" * 30, name]
    paths = [f"/v2/models/{name}/infer", *(f"/v2/models/wine/versions/{version}/infer" for version in versions)]
    for path in (*paths, f"/v2/models/{name}/versions/{name}/infer"):
        answer = send(submitter, method, path, BODY, **{"X-Inference-Id": OWN})
        problem(answer, *((404, "not-found") if method == "POST" else (405, "method-not-allowed")))
        check_headers(answer)
        assert answer["X-Inference-Id"] == OWN
    assert not Job.objects.exists()


def test_two_refusals_have_two_ids(submitter: Client) -> None:
    ids = {post(submitter, INFER, "{")["X-Inference-Id"] for _ in range(5)}
    assert len(ids) == 5


def test_an_id_that_is_none_is_not_echoed(submitter: Client) -> None:
    answer = post(submitter, INFER, BODY, **{"X-Inference-Id": "mine"})
    problem(answer, 400, "malformed")
    UUID(answer["X-Inference-Id"])


PREFERENCES = [
    ("respond-async", 202, "respond-async"),
    ("Respond-Async", 202, "respond-async"),
    ("respond-async;x=1; y", 202, "respond-async"),
    ('return=minimal, foo="a, respond-async-proxy", respond-async', 202, "respond-async"),
    ("respond-async, wait=0", 202, "respond-async, wait=0"),
    ("wait=0, respond-async", 202, "respond-async, wait=0"),
    ('respond-async, wait="0"', 202, "respond-async, wait=0"),
    ("respond-async, respond-async-proxy", 202, "respond-async"),
    ("respond-async-proxy, respond-async", 202, "respond-async-proxy"),
    ("wait=0", 504, "wait=0"),
    ("WAIT = 0", 504, "wait=0"),
    ("wait=0, wait=20", 504, "wait=0"),
    ("wait=99999", 504, "wait=0.3"),
    ("respond-async, wait=99999", 202, "respond-async, wait=0.3"),
]


@pytest.mark.parametrize(("prefer", "status", "applied"), PREFERENCES)
def test_what_was_honoured_is_said(submitter: Client, prefer: str, status: int, applied: str) -> None:
    with override_settings(MAX_WAIT_SECONDS=0.3):
        answer = post(submitter, INFER, BODY, Prefer=prefer)
    assert answer.status_code == status, answer.content
    check_headers(answer)
    assert answer["Preference-Applied"] == applied
    job = Job.objects.get()
    assert answer["X-Inference-Id"] == str(job.id)
    assert int(answer["Retry-After"]) >= 1
    if status == 504:
        assert problem(answer, 504, "wait-expired")["retryable"] is False
    if applied != "respond-async-proxy":
        assert answer["Location"] == job.result_path


def test_a_wait_for_which_there_was_no_place_was_not_honoured(
    submitter: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infer, "hub", WaitHub(0))
    for prefer in ("respond-async, wait=5", "wait=5, respond-async"):
        answer = post(submitter, INFER, BODY, Prefer=prefer)
        assert (answer.status_code, answer["Preference-Applied"]) == (202, "respond-async")


@pytest.mark.parametrize("prefer", ["", "return=minimal", "wait", "wait=x", "wait=-1", "respond-asynchronously", '"'])
def test_nothing_of_ours_is_sync_and_nothing_was_honoured(submitter: Client, prefer: str) -> None:
    with override_settings(SYNC_WAIT_SECONDS=0.2):
        answer = post(submitter, INFER, BODY, Prefer=prefer)
    problem(answer, 504, "wait-expired")
    check_headers(answer)
    assert "Preference-Applied" not in answer
    assert answer["Location"] == Job.objects.get().result_path


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("prefer", "applied"),
    [("", None), ("wait=20", "wait=20"), ("respond-async, wait=20", "respond-async, wait=20")],
)
def test_a_job_that_ends_in_time_is_its_result(submitter: Client, prefer: str, applied: str | None) -> None:
    with at_work():
        answer = post(submitter, INFER, BODY, Prefer=prefer, **{"X-Inference-Id": OWN})
    assert answer.status_code == 200
    check_headers(answer)
    assert answer["X-Inference-Id"] == OWN
    assert answer.get("Preference-Applied") == applied
    assert "Location" not in answer and "Retry-After" not in answer
    assert json.loads(answer.content) == submitter.get(f"/result/wine/{OWN}").json()


@pytest.mark.django_db(transaction=True)
def test_a_job_that_fails_in_time_is_its_problem(submitter: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model whose file nobody can load: the worker says so, and the connection hears it."""
    from workers import tasks
    from workers.contract import ErrorCode, Failure, Outcome

    def fails(bundle: Any) -> Any:
        return tasks.Engine(), [
            Outcome(job.id, job.attempt, failure=Failure(ErrorCode.MODEL_ERROR, "boom")) for job in bundle.jobs
        ]

    monkeypatch.setattr(tasks, "run_bundle", fails)
    with at_work():
        answer = post(submitter, INFER, BODY, Prefer="wait=20")
    assert problem(answer, 502, "model-error")["detail"] == "boom"
    check_headers(answer)
    assert answer["Preference-Applied"] == "wait=20"
    again = submitter.get(f"/result/wine/{answer['X-Inference-Id']}")
    assert again.json()["type"] == answer.json()["type"]


def test_an_own_id_is_the_jobs(team: Team, submitter: Client) -> None:
    answer = post(submitter, INFER, BODY, **ASYNC, **{"X-Inference-Id": OWN.upper()})
    assert (answer["X-Inference-Id"], answer.json()["Id"], answer["Location"]) == (OWN, OWN, f"/result/wine/{OWN}")
    stranger = post(client(rows.make_team("other")), INFER, BODY, **ASYNC, **{"X-Inference-Id": OWN})
    problem(stranger, 422, "idempotency-mismatch")
    check_headers(stranger)
