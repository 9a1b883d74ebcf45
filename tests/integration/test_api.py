"""The HTTP contract over every route: who may, what is found, what is refused and how; no input is a 500."""

import base64
import json
import re
import subprocess
import sys
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.sites import AdminSite
from django.db import connection
from django.test import Client, override_settings
from django.urls import URLPattern, get_resolver
from django.utils import timezone
from openapi_spec_validator import validate

from inference_portal.accounts.models import ApiKey, Role, Team, User
from inference_portal.jobs import services
from inference_portal.jobs.models import Attempt, Job
from inference_portal.jobs.states import FINAL, State
from tests.integration import rows
from tests.integration.rows import make_final, make_job, make_running, make_sent, make_worker, whole
from tests.stack import ROOT, free_port
from workers.contract import ErrorCode

pytestmark = pytest.mark.django_db
ROW = [14.23, 1.71, 2.43, 15.6, 127.0, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065.0]
BODY = {"instances": [ROW]}
INFER = "/v2/models/wine/infer"
ASYNC = {"Prefer": "respond-async"}


def client(team: Team, role: Role = Role.SUBMITTER, **fields: Any) -> Client:
    _, key = ApiKey.objects.create_key(name=f"{role}", team=team, role=role, **fields)
    return Client(headers={"Authorization": f"Bearer {key}"})


@pytest.fixture
def submitter(team: Team) -> Client:
    return client(team)


def post(sender: Client, path: str, body: Any, **headers: Any) -> Any:
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    return sender.post(path, data=text, content_type=headers.pop("content_type", "application/json"), headers=headers)


def problem(answer: Any, status: int, slug: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["type"], body["status"]) == (f"/problems/{slug}", status)
    assert body["title"] and body["detail"] and body["instance"]
    assert isinstance(body["retryable"], bool)
    return body


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


def session(team: Team | None, *, csrf: bool = False, **fields: Any) -> Client:
    browser = Client(enforce_csrf_checks=csrf)
    browser.force_login(User.objects.create(username=f"person-{uuid4()}", team=team, **fields))
    return browser


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


# Every route with every method and role


def routes() -> list[str]:
    """Every route of urls.py but the admin's, and those for operators, whose table is in test_dead_letters.py."""
    patterns = [p for p in get_resolver().url_patterns if isinstance(p, URLPattern)]
    assert not any(isinstance(p.callback, AdminSite) for p in patterns)
    return [str(p.pattern) for p in patterns if not str(p.pattern).startswith(OPERATORS)]


# Route -> its methods beside HEAD and OPTIONS, and the role that reading takes; None: open to everybody.
TABLE: dict[str, tuple[str, Role | None]] = {
    "v2/models/<model:model>/infer": ("POST", Role.VIEWER),
    "v2/models/<model:model>/versions/<version:version>/infer": ("POST", Role.VIEWER),
    "status/<model:model>": ("GET", Role.VIEWER),
    "status/<model:model>/<str:job_id>": ("GET", Role.VIEWER),
    "result/<model:model>": ("GET", Role.VIEWER),
    "result/<model:model>/<str:job_id>": ("GET", Role.VIEWER),
    "v2": ("GET", None),
    "v2/health/live": ("GET", None),
    "v2/health/ready": ("GET", None),
    "v2/models/<model:model>": ("GET", Role.VIEWER),
    "v2/models/<model:model>/versions/<version:version>": ("GET", Role.VIEWER),
    "v2/models/<model:model>/ready": ("GET", Role.VIEWER),
    "v2/models/<model:model>/versions/<version:version>/ready": ("GET", Role.VIEWER),
    "api/jobs/": ("GET POST", Role.VIEWER),
    "api/jobs/<uuid:job_id>/": ("GET", Role.VIEWER),
    "api/jobs/<uuid:job_id>/cancel/": ("POST", Role.VIEWER),
    "api/schema/": ("GET", Role.VIEWER),
    "api/docs/": ("GET", Role.VIEWER),
    "problems/": ("GET", None),
    "^problems/(?P<slug>[a-z-]+)/?$": ("GET", None),
    "healthz": ("GET", None),
    "readyz": ("GET", None),
    "": ("GET", None),
}
OPERATORS = "api/dead-letters/"
PLAIN = ("problems/", "^problems/(?P<slug>[a-z-]+)/?$", "")
CALLERS = ("anonymous", "viewer", "submitter", "operator", "foreign")
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")


def test_the_table_of_routes_is_complete() -> None:
    assert sorted(routes()) == sorted(TABLE)


def filled(route: str, job: Job) -> str:
    path = route.replace("<model:model>", "wine").replace("<version:version>", "1").replace("^problems", "problems")
    path = path.replace("(?P<slug>[a-z-]+)/?$", "bad-data")
    return "/" + path.replace("<str:job_id>", str(job.id)).replace("<uuid:job_id>", str(job.id))


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize("route", TABLE)
def test_every_route_answers_every_method_and_caller_as_the_table_says(team: Team, route: str, who: str) -> None:
    make_worker()
    methods, role = TABLE[route]
    for method in METHODS:
        job = make_job(team)
        if who == "anonymous":
            sender = Client()
        elif who == "foreign":
            sender = client(rows.make_team("foreign"))
        else:
            sender = client(team, Role(who))
        body = {"model": "wine", "rows": [ROW]} if route == "api/jobs/" else BODY
        headers = {"Prefer": "respond-async"}
        if route in ("status/<model:model>", "result/<model:model>"):
            headers["X-Inference-Id"] = str(job.id)
        answer = sender.generic(method, filled(route, job), json.dumps(body), "application/json", headers=headers)
        got = answer.status_code
        where = f"{method} {route} as {who}: {got}"
        if route in PLAIN:
            # Plain Django views; the first page sends people to the admin.
            assert got in ((302,) if route == "" else (200, 405)), where
            continue
        reads = method in ("GET", "HEAD", "OPTIONS")
        allowed = {*methods.split()} | ({"HEAD"} if "GET" in methods else set())
        allowed |= set() if route == "api/docs/" else {"OPTIONS"}
        theirs = "job_id" in route or route in ("status/<model:model>", "result/<model:model>")
        if role is not None and who == "anonymous":
            assert got == 401, where
        elif role is not None and who == "viewer" and not reads and method in allowed:
            assert got == 403, where
        elif role is not None and who == "viewer" and not reads:
            assert got in (403, 405), where
        elif method not in allowed:
            assert got == 405, where
            assert set(answer["Allow"].split(", ")) >= set(methods.split()), where
        elif who == "foreign" and theirs and method != "OPTIONS":
            assert got == 404, where
        else:
            assert got in (200, 202), where
        if got >= 400 and method != "HEAD":
            assert answer["Content-Type"] == "application/problem+json", where
        if method == "HEAD":
            assert answer.content == b"", where


def test_a_foreign_job_does_not_exist_for_a_viewer_either(team: Team) -> None:
    job = make_job(rows.make_team("other"))
    problem(client(team, Role.VIEWER).post(f"/api/jobs/{job.id}/cancel/"), 404, "not-found")


def test_a_job_of_another_team_does_not_exist_on_any_route_and_is_not_changed(team: Team) -> None:
    other = rows.make_team("other")
    job = make_running(other)
    before = whole(job.id)
    stranger = client(team, Role.SUBMITTER)
    unknown = uuid4()
    for path in (
        "/status/wine/{}", "/result/wine/{}", "/result/wine/{}?wait=5", "/api/jobs/{}/", "/api/jobs/{}/cancel/",
    ):  # fmt: skip
        answers = [stranger.generic("POST" if "cancel" in path else "GET", path.format(i)) for i in (job.id, unknown)]
        texts = [
            problem(answer, 404, "not-found")["detail"].replace(str(i), "ID")
            for answer, i in zip(answers, (job.id, unknown), strict=True)
        ]
        assert texts[0] == texts[1], "tells a foreign job from one that doesn't exist"
    assert stranger.get("/api/jobs/").json()["results"] == []
    assert whole(job.id) == before
    operator = client(team, Role.OPERATOR)
    assert operator.get(f"/api/jobs/{job.id}/").json()["team"] == "other"
    assert len(operator.get("/api/jobs/").json()["results"]) == 1
    assert operator.post(f"/api/jobs/{job.id}/cancel/").status_code == 202


# The list


def test_the_list_is_the_newest_first_and_its_pages_neither_repeat_nor_miss(team: Team, submitter: Client) -> None:
    now = timezone.now()
    # Ties too: jobs may be accepted in the same microsecond.
    jobs = [make_job(team, accepted_at=now - timedelta(seconds=i // 2)) for i in range(25)]
    seen: list[str] = []
    path = "/api/jobs/?page_size=3"
    while path:
        page = submitter.get(path).json()
        assert page.keys() == {"next", "previous", "results"}
        seen += [job["id"] for job in page["results"]]
        path = page["next"]
        make_job(team)  # one more comes in meanwhile
    assert sorted(seen) == sorted(str(job.id) for job in jobs)
    times = [Job.objects.get(id=i).accepted_at for i in seen]
    assert times == sorted(times, reverse=True)


def test_a_cursor_goes_back_again(team: Team, submitter: Client) -> None:
    for i in range(6):
        make_job(team, accepted_at=timezone.now() - timedelta(seconds=i))
    first = submitter.get("/api/jobs/?page_size=2").json()
    second = submitter.get(first["next"]).json()
    assert submitter.get(second["previous"]).json()["results"] == first["results"]


def test_the_list_filters_by_state_model_version_and_time(team: Team, submitter: Client) -> None:
    now = timezone.now()
    old = make_final(team, State.SUCCEEDED, accepted_at=now - timedelta(days=2))
    new = make_job(team, version="2", accepted_at=now - timedelta(hours=1))
    cancer = make_job(team, model="breast_cancer", accepted_at=now)

    def found(**parameters: Any) -> list[str]:
        answer = submitter.get("/api/jobs/", parameters)
        assert answer.status_code == 200, answer.content
        return [job["id"] for job in answer.json()["results"]]

    day = (now - timedelta(days=1)).isoformat()
    assert found(state="succeeded") == [str(old.id)]
    assert found(model="breast_cancer") == [str(cancer.id)]
    assert found(model="wine", version="2") == [str(new.id)]
    assert found(created_after=day) == [str(cancer.id), str(new.id)]
    assert found(created_before=day) == [str(old.id)]
    assert found(created_after=new.accepted_at.isoformat(), created_before=now.isoformat()) == [str(new.id)]
    assert found(state="failed") == []


@pytest.mark.parametrize(
    "query",
    [
        "state=lost", "state=%00", "created_after=yesterday", "created_before=2026-13-01", "model=%00", "version=%00",
    ],
)  # fmt: skip
def test_a_filter_value_that_makes_no_sense_is_named(submitter: Client, query: str) -> None:
    body = problem(submitter.get(f"/api/jobs/?{query}"), 422, "invalid-input")
    assert body["errors"][0]["pointer"] == "/" + query.partition("=")[0]


def cursor(text: str) -> str:
    return base64.b64encode(text.encode()).decode().replace("=", "%3D")


@pytest.mark.parametrize(
    "query",
    [
        "cursor=nonsense", "cursor=%00", "cursor=", f"cursor={cursor('p=nonsense')}", f"cursor={cursor('p=%00')}",
        "created_after=0001-01-01T00:00:00%2B14:00", "created_before=9999-12-31T23:59:59-14:00",
        f"cursor={cursor('o=-5')}", f"cursor={cursor('o=99999999999999999999')}", f"cursor={cursor('p=2026-99-99')}",
        f"cursor={cursor('p=9999-12-31T23:59:59-14:00')}", "page_size=0", "page_size=-1", "page_size=x",
        "page_size=99999999999999999999", "page_size=%00", "wait=5", "state=", "model=", "created_after=",
    ],
)  # fmt: skip
def test_an_odd_page_is_refused_or_passed_over_but_no_error_of_ours(team: Team, submitter: Client, query: str) -> None:
    make_job(team)
    answer = submitter.get(f"/api/jobs/?{query}")
    assert answer.status_code in (200, 400, 404, 422), answer.content


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


@pytest.mark.parametrize("wait", ["", "x", "-1", "1.5", "1e3", "9" * 31, "%C2%B2", "%D9%A3", "%00", "1%0A", " 1"])
def test_a_wait_that_is_no_number_is_refused(team: Team, submitter: Client, wait: str) -> None:
    job = make_job(team)
    for route in ("status", "result"):
        problem(submitter.get(f"/{route}/wine/{job.id}?wait={wait}"), 400, "malformed")


# Submitting


def test_an_accepted_job_is_stored_as_it_was_sent(team: Team, submitter: Client) -> None:
    answer = post(submitter, INFER, {"inputs": [{"name": "t", "shape": [1, 13], "datatype": "FP32", "data": ROW}], "id": "a"}, **ASYNC)  # fmt: skip  # noqa: E501
    assert answer.status_code == 202
    assert answer["Preference-Applied"] == "respond-async"
    assert "Prefer" in answer["Vary"]
    job = Job.objects.get(id=answer.json()["Id"])
    assert (job.state, job.attempt, job.rows, job.team, job.pool) == ("queued", 1, 1, team, "cpu")
    assert job.reply == {"format": "v2", "id": "a", "outputs": None}
    by_jobs = post(submitter, "/api/jobs/", {"model": "wine", "rows": [ROW]})
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


UNBUILT = [
    "X-Inference-Id", "Idempotency-Key", "X-Inference-Webhook", "X-Inference-Sink", "Inference-Header-Content-Length",
]  # fmt: skip


@pytest.mark.parametrize("header", UNBUILT)
def test_a_header_that_is_not_built_is_said_so_and_nothing_is_queued(submitter: Client, header: str) -> None:
    assert header in problem(post(submitter, INFER, BODY, **{header: "1"}), 422, "not-available")["detail"]
    assert not Job.objects.exists()


@pytest.mark.parametrize("prefer", ["respond-async-proxy", "respond-async-container"])
def test_a_preference_that_is_not_built_is_said_so(submitter: Client, prefer: str) -> None:
    problem(post(submitter, INFER, BODY, Prefer=prefer), 422, "not-available")


@pytest.mark.parametrize("field", ["input_uri", "webhook", "sink", "idempotency_key", "labels"])
def test_a_field_that_is_not_built_is_said_so(submitter: Client, field: str) -> None:
    body = problem(post(submitter, "/api/jobs/", {"model": "wine", "rows": [ROW], field: "1"}), 422, "not-available")
    assert body["errors"][0]["pointer"] == f"/{field}"
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


@pytest.mark.parametrize("kind", ["text/csv", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"])
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
        body = json.dumps({"model": "wine", "rows": [ROW]})
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


def test_missing_workers_degrade_and_do_not_end_readiness(db: None) -> None:
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()["database"]) == (200, "ok")
    assert "degraded" in answer.json()["workers"]


def test_the_openapi_document_is_valid_and_describes_exactly_the_routes_that_exist(submitter: Client) -> None:
    document = json.loads(submitter.get("/api/schema/?format=json").content)
    validate(document)
    documents = ("api/schema/", "api/docs/")
    described_routes = [route for route in TABLE if route not in PLAIN and route not in documents]
    expected = {"/" + re.sub(r"<[a-z]+:([a-z_]+)>", r"{\1}", route): TABLE[route][0] for route in described_routes}
    described = {path: " ".join(sorted(m.upper() for m in verbs)) for path, verbs in document["paths"].items()}
    assert {path: verbs for path, verbs in described.items() if not path.startswith(f"/{OPERATORS}")} == expected
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            assert operation["summary"], (path, verb)
            assert any(code.startswith("2") for code in operation["responses"]), (path, verb)


AWAY = """
import json, sys
import django
django.setup()
from django.test import Client
key = {"Authorization": "Bearer abcdefgh.x"}
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
    *problems, readyz, healthz, live = json.loads(done.stdout)
    for status, kind, body, retry_after in problems:
        assert (status, kind) == (503, "application/problem+json"), body
        assert json.loads(body)["retryable"] is True
        assert int(retry_after) >= 1
    assert (readyz[0], json.loads(readyz[2])["database"]) == (503, "away")
    assert (healthz[0], live[0]) == (200, 200)
