"""The HTTP contract over all routes: who is asking, what is found, what is refused and how; no input is a 500."""

import json
import subprocess
import sys
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client, override_settings
from django.utils import timezone

from inference_portal.accounts.models import ApiKey, Role, Team, User
from inference_portal.jobs import services
from inference_portal.jobs.models import Attempt, Job
from inference_portal.jobs.states import FINAL, State
from tests.integration import rows
from tests.integration.http import ASYNC, BODY, INFER, JOB, JOBS, ROW, client, post, problem, session
from tests.integration.rows import make_final, make_job, make_running, make_sent, make_worker, whole
from tests.ports import free_port
from tests.stack import ROOT
from workers.contract import ErrorCode

pytestmark = pytest.mark.django_db


# Who is asking


def test_without_a_key_or_with_a_wrong_one_nothing_is_told(team: Team) -> None:
    answer = Client().get("/api/jobs/")
    problem(answer, 401, "unauthenticated")
    assert answer["WWW-Authenticate"] == "Bearer"
    right, key = ApiKey.objects.create_key(name="k", team=team)
    for wrong in ("", "nonsense", key[:-1], key + "x", f"{right.prefix}.", ".", "a.b.c", "\xe9.\xff", "x" * 5000):
        problem(Client().get("/api/jobs/", headers={"Authorization": f"Bearer {wrong}"}), 401, "unauthenticated")
    for scheme in (f"Basic {key}", key, f"Api-Key {key}", "Bearer"):
        problem(Client().get("/api/jobs/", headers={"Authorization": scheme}), 401, "unauthenticated")
    for right_way in (f"Bearer {key}", f"bearer {key}", f"Bearer  {key} "):
        assert Client().get("/api/jobs/", headers={"Authorization": right_way}).status_code == 200


@pytest.mark.parametrize("fields", [{"revoked": True}, {"expiry_date": timezone.now() - timedelta(seconds=1)}])
def test_a_revoked_or_expired_key_does_not_work(team: Team, fields: dict[str, Any]) -> None:
    problem(client(team, **fields).get("/api/jobs/"), 401, "unauthenticated")


def test_open_paths_ask_for_no_key_and_look_at_none(db: None) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/healthz", "/readyz", "/problems/bad-data"):
            assert Client().get(path, headers=headers).status_code == 200


def test_a_person_reads_by_session_and_writes_with_the_csrf_token_only(team: Team) -> None:
    browser = session(team, csrf=True, role=Role.SUBMITTER)
    assert browser.get("/api/jobs/").status_code == 200
    problem(post(browser, INFER, BODY, **ASYNC), 403, "forbidden")
    assert not Job.objects.exists()
    token = "a" * 32
    browser.cookies["csrftoken"] = token
    assert post(browser, INFER, BODY, **ASYNC, **{"X-CSRFToken": token}).status_code == 202
    assert Job.objects.get().submitted_by.startswith("person-")


def test_a_person_without_a_team_or_who_was_shut_out_gets_nothing(team: Team) -> None:
    problem(session(None).get("/api/jobs/"), 403, "forbidden")
    problem(session(team, is_active=False).get("/api/jobs/"), 401, "unauthenticated")


def test_a_person_who_was_shut_out_after_the_login_gets_nothing(team: Team) -> None:
    browser = session(team)
    assert browser.get("/api/jobs/").status_code == 200
    User.objects.update(is_active=False)
    problem(browser.get("/api/jobs/"), 401, "unauthenticated")


def test_a_superuser_is_an_operator(team: Team) -> None:
    other = make_job(rows.make_team("other"))
    assert session(team, is_superuser=True).get(f"/api/jobs/{other.id}/").status_code == 200


def test_a_key_notes_when_it_was_last_used(submitter: Client) -> None:
    submitter.get("/api/jobs/")
    assert ApiKey.objects.get().last_used_at is not None


# One job


def test_a_jobs_page_shows_its_attempts(team: Team, submitter: Client) -> None:
    job = make_running(team, attempt=2)
    Attempt.objects.create(job=job, number=1, finished_at=timezone.now(), code="lease-expired", message="lost")
    detail = submitter.get(f"/api/jobs/{job.id}/").json()
    assert [(a["number"], a["code"], a["finished_at"] is None) for a in detail["attempts"]] == [
        (1, "lease-expired", False),
        (2, "", True),
    ]
    assert detail["state"] == "running"
    assert "input" not in detail and "result" not in detail


@pytest.mark.parametrize("state", sorted(frozenset(State) - FINAL))
def test_an_open_job_is_cancelled_once(team: Team, submitter: Client, state: State) -> None:
    job = make_running(team) if state is State.RUNNING else make_sent(team, state=state)
    answer = submitter.post(f"/api/jobs/{job.id}/cancel/")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    problem(submitter.post(f"/api/jobs/{job.id}/cancel/"), 409, "conflict")
    assert whole(job.id)["lease_until"] is None


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_job_that_has_ended_is_not_cancelled(team: Team, submitter: Client, state: State) -> None:
    job = make_final(team, state)
    before = whole(job.id)
    problem(submitter.post(f"/api/jobs/{job.id}/cancel/"), 409, "conflict")
    assert whole(job.id) == before


ENDS: list[tuple[State, dict[str, Any], int, str]] = [
    (State.FAILED, {"error_code": ErrorCode.BAD_DATA, "error_message": "row 0"}, 422, "bad-data"),
    (State.FAILED, {"error_code": ErrorCode.MODEL_ERROR, "error_message": "boom"}, 502, "model-error"),
    (State.FAILED, {"error_code": "of-a-later-version", "error_message": "boom"}, 502, "model-error"),
    *((State.DEAD_LETTERED, {"error_code": c, "error_message": "x"}, 502, "dead-lettered") for c in ErrorCode),
    (State.CANCELLED, {}, 409, "cancelled"),
    (State.EXPIRED, {"error_code": ErrorCode.EXPIRED, "error_message": "too late"}, 410, "expired"),
]


@pytest.mark.parametrize(("state", "fields", "status", "slug"), ENDS)
def test_the_result_of_a_job_that_ended_badly_is_its_problem(
    team: Team, submitter: Client, state: State, fields: dict[str, Any], status: int, slug: str
) -> None:
    job = make_final(team, state, **fields)
    for query in ("", "?wait=0", "?wait=30"):
        answer = submitter.get(f"/result/wine/{job.id}{query}")
        body = problem(answer, status, slug)
        assert body["retryable"] is False
        assert fields.get("error_message", "") in body["detail"]
    shown = submitter.get(f"/status/wine/{job.id}").json()
    assert (shown["Status"], shown["State"]) == ("Completed", state)
    assert shown["Error"]["code"] == fields.get("error_code", "cancelled")


def test_a_result_is_given_in_the_format_of_its_request(team: Team, submitter: Client) -> None:
    plain = make_final(team, State.SUCCEEDED)
    answer = submitter.get(f"/result/wine/{plain.id}")
    assert answer.json() == {"predictions": [[0.5, 0.25, 0.25]]}
    assert answer["X-Inference-Id"] == str(plain.id)
    v2 = make_final(team, State.SUCCEEDED, reply={"format": "v2", "id": "mine", "outputs": ["probability"]})
    body = submitter.get(f"/result/wine/{v2.id}").json()
    assert (body["id"], body["model_name"], body["model_version"]) == ("mine", "wine", "1")
    assert body["outputs"] == json.loads(rows.OUTPUTS)
    assert submitter.get(f"/status/wine/{v2.id}").json()["Error"] is None


@pytest.mark.parametrize("state", sorted(frozenset(State) - FINAL))
def test_an_open_jobs_result_is_a_202_that_says_when_to_ask_again(team: Team, submitter: Client, state: State) -> None:
    job = make_running(team) if state is State.RUNNING else make_job(team, state=state)
    answer = submitter.get(f"/result/wine/{job.id}")
    assert answer.status_code == 202
    assert answer.json() == {"Id": str(job.id), "StatusPath": f"/status/wine/{job.id}", "ResultPath": f"/result/wine/{job.id}"}  # fmt: skip  # noqa: E501
    assert int(answer["Retry-After"]) >= 1
    assert answer["Location"] == f"/result/wine/{job.id}"


def test_the_status_speaks_the_older_dialect_with_all_its_fields(team: Team, submitter: Client) -> None:
    now = timezone.now()
    first = make_job(team, queued_at=now - timedelta(seconds=9))
    second = make_job(team, queued_at=now - timedelta(seconds=8))
    sent = make_sent(team)
    running = make_running(team, queued_at=now - timedelta(seconds=5), started_at=now)
    done = make_final(team, State.SUCCEEDED, queued_at=now - timedelta(seconds=5), started_at=now - timedelta(seconds=3), finished_at=now)  # fmt: skip  # noqa: E501
    early = make_final(team, State.SUCCEEDED, queued_at=now, started_at=now - timedelta(seconds=3))
    shown = {job.id: submitter.get(f"/status/wine/{job.id}").json() for job in Job.objects.all()}
    for body in shown.values():
        assert list(body) == [
            "Id", "Status", "State", "Error", "Attempts", "QueuePosition", "QueuedAt", "StartedAt", "FinishedAt",
            "QueueSeconds", "RunSeconds",
        ]  # fmt: skip
    assert [shown[j.id]["Status"] for j in (first, running, done)] == ["Queue", "Inference", "Completed"]
    positions = [shown[j.id]["QueuePosition"] for j in (first, second, sent, running, done)]
    assert positions == [2, 3, 1, None, None]
    assert shown[first.id]["QueuedAt"] == first.queued_at.isoformat().replace("+00:00", "Z")[:23] + "Z"
    assert shown[running.id]["QueueSeconds"] == pytest.approx(5, abs=0.01)
    assert shown[done.id]["RunSeconds"] == pytest.approx(3, abs=0.01)
    assert shown[early.id]["QueueSeconds"] == 0


def test_the_id_may_come_in_the_header_and_must_not_contradict_the_path(team: Team, submitter: Client) -> None:
    job = make_final(team, State.SUCCEEDED)
    good = [str(job.id), str(job.id).upper(), job.id.hex, f"{{{job.id}}}"]
    for route in ("status", "result"):
        for text in good:
            assert submitter.get(f"/{route}/wine", headers={"X-Inference-Id": text}).status_code == 200
            assert submitter.get(f"/{route}/wine/{job.id}", headers={"X-Inference-Id": text}).status_code == 200
        other = {"X-Inference-Id": str(uuid4())}
        problem(submitter.get(f"/{route}/wine/{job.id}", headers=other), 400, "malformed")
        problem(submitter.get(f"/{route}/wine", headers=other), 404, "not-found")
        problem(submitter.get(f"/{route}/wine"), 400, "malformed")
        problem(submitter.get(f"/{route}/breast_cancer/{job.id}"), 404, "not-found")


@pytest.mark.parametrize("text", ["nonsense", "", "\xff", "1" * 5000])
def test_a_header_that_is_no_id_is_named_and_not_the_path(team: Team, submitter: Client, text: str) -> None:
    job = make_final(team, State.SUCCEEDED)
    for route in ("status", "result"):
        answer = submitter.get(f"/{route}/wine/{job.id}", headers={"X-Inference-Id": text})
        assert "X-Inference-Id" in problem(answer, 400, "malformed")["detail"]
        assert submitter.get(f"/{route}/wine", headers={"X-Inference-Id": text}).status_code in (400, 404)


@pytest.mark.parametrize("wait", ["", "x", "-1", "1.5", "1e3", "%C2%B2", "%D9%A3", "%00", "1%0A", " 1"])
def test_a_wait_that_is_no_number_is_refused(team: Team, submitter: Client, wait: str) -> None:
    job = make_job(team)
    for route in ("status", "result"):
        problem(submitter.get(f"/{route}/wine/{job.id}?wait={wait}"), 400, "malformed")


def test_a_wait_however_long_is_cut_to_the_longest(team: Team, submitter: Client, settings: Any) -> None:
    settings.MAX_WAIT_SECONDS = 0
    job = make_job(team)
    for route, status in (("status", 200), ("result", 202)):
        assert submitter.get(f"/{route}/wine/{job.id}?wait={'9' * 400}").status_code == status


# Submitting


def test_an_accepted_job_is_stored_as_it_was_sent(team: Team, submitter: Client) -> None:
    answer = post(submitter, INFER, {"inputs": [{"name": "t", "shape": [1, 13], "datatype": "FP32", "data": ROW}], "id": "a"}, **ASYNC)  # fmt: skip  # noqa: E501
    assert answer.status_code == 202
    assert answer["Preference-Applied"] == "respond-async"
    assert "Prefer" in answer["Vary"]
    job = Job.objects.get(id=answer.json()["Id"])
    assert (job.state, job.attempt, job.rows, job.team, job.pool) == ("queued", 1, 1, team, "cpu")
    assert job.reply == {"format": "v2", "id": "a", "outputs": None, "binary": []}
    by_jobs = post(submitter, "/api/jobs/", JOB)
    assert by_jobs.status_code == 202
    assert by_jobs["X-Inference-Id"] == by_jobs.json()["Id"]
    assert bytes(Job.objects.get(id=by_jobs.json()["Id"]).input) == bytes(job.input)


def test_a_wait_without_a_worker_ends_in_504_or_202_and_the_job_stays(submitter: Client) -> None:
    answer = post(submitter, INFER, BODY, Prefer="wait=0")
    problem(answer, 504, "wait-expired")
    assert answer["Location"].startswith("/result/wine/")
    assert answer["X-Inference-Id"] in answer["Location"]
    assert post(submitter, INFER, BODY, Prefer="respond-async, wait=0").status_code == 202
    assert Job.objects.filter(state=State.QUEUED).count() == 2


@pytest.mark.parametrize("header", ["X-Inference-Id", "Idempotency-Key"])
def test_a_name_of_one_request_is_not_passed_over_where_there_are_many(submitter: Client, header: str) -> None:
    for value in ("0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c11", ""):
        answer = post(submitter, "/api/jobs/bulk/", {"jobs": [JOB]}, **{header: value})
        assert header in problem(answer, 422, "not-available")["detail"]
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    "header",
    ["X-Inference-Priority", "X-Inference-Ttl", "X-Inference-Ordering-Key", "X-Inference-Webhook", "X-Inference-Sink"],
)
def test_a_header_that_is_a_field_of_this_path_is_not_passed_over(submitter: Client, header: str) -> None:
    for path, sent in ((JOBS, JOB), ("/api/jobs/bulk/", {"jobs": [JOB]})):
        assert header in problem(post(submitter, path, sent, **{header: "high"}), 422, "not-available")["detail"]
    assert not Job.objects.exists()


def test_a_relay_to_a_container_that_the_model_has_not_is_refused(submitter: Client) -> None:
    for prefer in (
        "respond-async-container",
        "respond-async-container, respond-async",
        "wait=5, respond-async-container",
    ):
        body = problem(post(submitter, INFER, BODY, Prefer=prefer), 422, "not-a-container")
        assert "'wine'" in body["detail"]
    problem(post(submitter, "/v2/models/none/infer", BODY, Prefer=prefer), 404, "not-found")
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"model": "wine", "rows": [ROW], "colour": 1}, 422, "/colour"),
        ({"model": "wine", "rows": [ROW], "inputs": []}, 422, ""),
        ({"model": "wine"}, 422, ""),
        ({"rows": [ROW]}, 422, "/model"),
        ({"model": 5, "rows": [ROW]}, 422, "/model"),
        ({"model": ["wine"], "rows": [ROW]}, 422, "/model"),
        ({"model": "wine", "version": 1, "rows": [ROW]}, 422, "/version"),
        ({"model": "wine", "version": None, "rows": []}, 422, "/rows"),
        ({"model": "wine", "rows": [ROW[:-1]]}, 422, "/rows/0"),
        ({"model": "wine", "rows": [[*ROW[:-1], "x"]]}, 422, "/rows/0/12"),
        ({"model": "wine", "rows": {}}, 400, None),
        ({"model": "wine", "rows": None}, 400, None),
        ({"model": "none", "rows": [ROW]}, 404, None),
        ({"model": "\0", "rows": [ROW]}, 404, None),
        ({"model": "wine", "version": "\ud800", "rows": [ROW]}, 404, None),
        ([], 400, None),
        ("", 400, None),
        ("null", 400, None),
        (b"\xff\xfe", 400, None),
        ("[" * 100_000, 400, None),
        ('{"model": "wine", "rows": [[' + "1" * 6000 + "]]}", 400, None),
    ],
)
def test_a_wrong_body_names_its_place_and_queues_nothing(
    submitter: Client, body: Any, status: int, pointer: str | None
) -> None:
    answer = post(submitter, "/api/jobs/", body)
    assert answer.status_code == status, answer.content
    if pointer is not None:
        assert answer.json()["errors"][0]["pointer"] == pointer
    assert not Job.objects.exists()


def test_more_than_one_request_may_hold_is_413(submitter: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(MAX_REQUEST_BYTES=1000, DATA_UPLOAD_MAX_MEMORY_SIZE=1000):
        for path in (INFER, "/api/jobs/"):
            problem(post(submitter, path, b" " * 1001), 413, "too-large")
        assert post(submitter, INFER, BODY, **ASYNC).status_code == 202
    with override_settings(MAX_REQUEST_ROWS=1):
        problem(post(submitter, INFER, {"instances": [ROW, ROW]}), 413, "too-large")
        assert post(submitter, INFER, BODY, **ASYNC).status_code == 202
    monkeypatch.setattr(services, "MAX_INPUT_BYTES", 4 * 13)
    assert post(submitter, INFER, BODY, **ASYNC).status_code == 202
    assert "26 values" in problem(post(submitter, INFER, {"instances": [ROW, ROW]}), 413, "too-large")["detail"]
    assert Job.objects.count() == 3


@pytest.mark.parametrize("length", ["abc", "-5", "", "99999999999999999999"])
def test_a_length_that_lies_is_no_error_of_ours(submitter: Client, length: str) -> None:
    answer = submitter.generic("POST", INFER, b"", "application/json", CONTENT_LENGTH=length)
    assert answer.status_code in (400, 413), answer.content


@pytest.mark.parametrize("kind", ["text/html", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"])
def test_a_type_that_is_not_read_is_415_for_keys_and_for_browsers(team: Team, submitter: Client, kind: str) -> None:
    for sender in (submitter, session(team, role=Role.SUBMITTER)):
        for path in (INFER, "/api/jobs/"):
            problem(post(sender, path, b"a=b", content_type=kind), 415, "unsupported-media-type")
    problem(post(submitter, INFER, BODY, **{"Content-Encoding": "br"}), 415, "unsupported-media-type")


def test_a_browsers_form_with_more_fields_than_django_reads_is_no_error_of_ours(team: Team) -> None:
    browser = session(team, csrf=True, role=Role.SUBMITTER)
    browser.cookies["csrftoken"] = "a" * 32
    form = "&".join(f"f{i}=1" for i in range(1500))
    answer = post(browser, INFER, form, content_type="application/x-www-form-urlencoded")
    assert 400 <= answer.status_code < 500, answer.content


@pytest.mark.parametrize(
    "kind", ["application/json", "application/octet-stream", "", "Application/JSON; charset=utf-8"]
)
def test_json_is_read_under_the_types_that_v2_clients_send(submitter: Client, kind: str) -> None:
    assert post(submitter, INFER, BODY, content_type=kind, **ASYNC).status_code == 202


def test_an_answer_that_cannot_be_accepted_is_406_and_nothing_is_queued(submitter: Client) -> None:
    problem(post(submitter, INFER, BODY, Accept="text/html"), 406, "not-acceptable")
    assert not Job.objects.exists()
    for accept in ("*/*", "application/json", "application/*;q=0.5, text/html"):
        assert post(submitter, INFER, BODY, Accept=accept, **ASYNC).status_code == 202


ID = "0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c11"


@pytest.mark.parametrize(
    "path",
    [
        "//", "///", "/v2/", "/v2//", "/v2/models//infer", "/v2/models/wine/infer/", "/v2/models/%00/infer",
        "/v2/models/%ff/infer", "/v2/models/wine/versions/%00/infer", "/v2/models/wine/versions/-1",
        "/v2/models/%2e%2e", "/v2/models/wine/versions/" + "9" * 5000,
        "/v2/models/" + "x" * 5000, "/v2/models/w%C3%AFne/infer", "/status", "/status/", f"/status/%00/{ID}",
        f"/status/w%C3%AFne/{ID}", f"/status/%ff/{ID}", "/status/wine/%00", "/status/wine/" + "1" * 5000,
        f"/result/%00/{ID}", f"/result/{'x' * 3000}/{ID}", "/result/wine/..", "/api/jobs", "/api/jobs/x/",
        "/api/jobs/%00/", f"/api/jobs/{ID}", f"/api/jobs/{ID.upper()}/", "/api/jobs//cancel/", "/api/", "/problems/%00",
        "/problems/nothing", "/problems/" + "a" * 3000, "/%", "/%zz", "/\xe9", "/robots.txt", "/.env", "/static/../x",
    ],
)  # fmt: skip
def test_a_weird_path_is_refused_and_no_error_of_ours(team: Team, submitter: Client, path: str) -> None:
    headers: list[dict[str, str]] = [{}, {"X-Inference-Id": ID}]
    for method in ("GET", "POST"):
        for more in headers:
            answer = submitter.generic(method, path, json.dumps(BODY), "application/json", headers=more)
            assert 300 <= answer.status_code < 500, (method, path, answer.content)


@pytest.mark.parametrize("name", ["X-Inference-Id", "Prefer", "Accept", "Content-Type", "Host", "Content-Encoding"])
@pytest.mark.parametrize("value", ["\xff\xfe", "x" * 9000, ",", ";", '"', "=", "a/b;q=x", "*/*;", " "])
def test_a_weird_header_is_no_error_of_ours(team: Team, submitter: Client, name: str, value: str) -> None:
    job = make_final(team, State.SUCCEEDED)
    kind = value if name == "Content-Type" else "application/json"
    headers = {} if name == "Content-Type" else {name: value}
    for method, path in (("GET", f"/result/wine/{job.id}"), ("GET", "/api/jobs/"), ("POST", "/api/jobs/")):
        body = json.dumps(JOB)
        answer = submitter.generic(method, path, body, kind, headers=headers)
        assert answer.status_code < 500, (method, path, answer.content)


# Models, health, documents


def test_a_models_readiness_is_a_worker_that_was_heard_lately(team: Team, submitter: Client) -> None:
    problem(submitter.get("/v2/models/wine/ready"), 503, "not-ready")
    make_worker(seen_at=timezone.now() - timedelta(minutes=1))
    answer = submitter.get("/v2/models/wine/ready")
    problem(answer, 503, "not-ready")
    assert int(answer["Retry-After"]) >= 1
    make_worker()
    assert submitter.get("/v2/models/wine/versions/1/ready").status_code == 200
    problem(submitter.get("/v2/models/wine/versions/9/ready"), 404, "not-found")
    problem(submitter.get("/v2/models/none"), 404, "not-found")


def test_a_format_in_the_query_takes_no_route_away(team: Team, submitter: Client) -> None:
    job = make_final(team, State.SUCCEEDED)
    for path in ("/v2/models/wine", "/v2", "/healthz", f"/status/wine/{job.id}", f"/api/jobs/{job.id}/"):
        for name in ("csv", "json", "api"):
            assert submitter.get(f"{path}?format={name}").status_code == 200, path
    # The list passes over no parameter.
    problem(submitter.get("/api/jobs/?format=csv"), 422, "invalid-input")


def test_the_document_is_json_or_yaml_by_accept(submitter: Client) -> None:
    for accept in ("", "*/*", "application/json", "application/vnd.oai.openapi+json"):
        document = submitter.get("/api/schema/", headers={"Accept": accept} if accept else {})
        assert json.loads(document.content)["openapi"] == "3.1.1"
    document = submitter.get("/api/schema/", headers={"Accept": "application/yaml"})
    assert document.content.startswith(b"openapi: 3.1.1\n")


def test_missing_workers_degrade_and_do_not_end_readiness(db: None) -> None:
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()["database"]) == (200, "ok")
    assert "degraded" in answer.json()["workers"]


AWAY = """
import json, sys
import django
django.setup()
from django.test import Client
key = {"Authorization": "Bearer abcdefgh." + "x" * 32}
cookie = Client(raise_request_exception=False)
cookie.cookies["sessionid"] = "a" * 32
plain = Client(raise_request_exception=False)
body = json.dumps({"instances": [[1.0] * 13]})
answers = [
    plain.get("/api/jobs/", headers=key),
    plain.get("/status/wine/0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c11", headers=key),
    plain.post("/v2/models/wine/infer", data=body, content_type="application/json", headers=key),
    plain.get("/v2/health/ready"),
    cookie.get("/api/jobs/"),
    plain.get("/readyz"),
    plain.get("/healthz"),
    plain.get("/v2/health/live"),
]
print(json.dumps([[a.status_code, a["Content-Type"], a.content.decode(), a.get("Retry-After")] for a in answers]))
"""


def test_without_its_database_the_portal_says_so_and_stays_alive(tmp_path: Any, db: None) -> None:
    away = "sqlite:////nowhere/at/all.sqlite3"
    if connection.vendor == "postgresql":
        away = f"postgres://postgres@127.0.0.1:{free_port()}/nothing"
    environment = {"DATABASE_URL": away, "DJANGO_SETTINGS_MODULE": "inference_portal.settings", "ALLOWED_HOSTS": "testserver", "RUN_DIR": str(tmp_path), "DJANGO_SECRET_KEY": "x" * 60, "DATABASE_POOL_SIZE": "0"}  # fmt: skip  # noqa: E501
    done = subprocess.run([sys.executable, "-c", AWAY], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *problems, healthz, live = json.loads(done.stdout)
    for status, kind, body, retry_after in problems:
        assert (status, kind) == (503, "application/problem+json"), body
        assert json.loads(body)["retryable"] is True
        assert int(retry_after) >= 1
    readyz = json.loads(problems[-1][2])
    assert (readyz["type"], readyz["instance"], readyz["database"]) == ("/problems/unavailable", "/readyz", "away")
    assert readyz["model_store"] == "ok" and "degraded" in readyz["workers"]
    assert (healthz[0], live[0]) == (200, 200)
