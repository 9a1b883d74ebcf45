"""Every route with every method, role and own or foreign team, generated from the urlconf; and in the OpenAPI page."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client
from django.urls import URLPattern, get_resolver
from openapi_spec_validator import validate

from inference_portal.accounts.models import Role, Team
from inference_portal.jobs.models import Job
from inference_portal.jobs.states import State
from inference_portal.jobs.streams import streams
from tests.integration import rows
from tests.integration.dead import park
from tests.integration.http import BODY, JOB, client, hang_up, problem, send
from tests.integration.rows import make_final, make_job, make_running, make_worker, whole

pytestmark = pytest.mark.django_db
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
SAFE = ("GET", "HEAD", "OPTIONS")
CALLERS = ("anonymous", *Role)


def failed(team: Team) -> Job:
    return make_final(team, State.FAILED)


def succeeded(team: Team) -> Job:
    return make_final(team, State.SUCCEEDED)


def dead_letter(team: Team) -> Job:
    return make_final(team, State.DEAD_LETTERED)


@dataclass(frozen=True)
class Expected:
    """What a route does: the status of each method (beside HEAD and OPTIONS) for who may use it, and who that is."""

    methods: dict[str, int]
    # None: open to everybody.
    reads: Role | None = Role.VIEWER
    writes: Role | None = Role.SUBMITTER
    # Whether it is about one job, which for other teams doesn't exist; and whether it changes it, which takes a role.
    of_a_job: bool = False
    changes_it: bool = False
    job: Callable[[Team], Job] = make_job
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)
    options: int = 200
    # A page for people: no API view, but a template.
    plain: bool = False


def read(status: int = 200, **fields: Any) -> Expected:
    return Expected({"GET": status}, **fields)


def write(status: int = 202, **fields: Any) -> Expected:
    return Expected({"POST": status}, **fields)


INFER = write(body=BODY, headers={"Prefer": "respond-async"})
OPEN = read(reads=None, writes=None)
OF_A_JOB = read(of_a_job=True)
BY_HEADER = read(of_a_job=True, headers={"X-Inference-Id": "{job}"})
ACTION = write(of_a_job=True, changes_it=True, writes=Role.VIEWER)
OPERATORS: dict[str, Any] = {"reads": Role.OPERATOR, "writes": Role.OPERATOR, "job": dead_letter}
MANY = {"ids": ["{job}"]}

TABLE: dict[str, Expected] = {
    "v2/models/<model:model>/infer": INFER,
    "v2/models/<model:model>/versions/<version:version>/infer": INFER,
    "status/<model:model>": BY_HEADER,
    "status/<model:model>/<str:job_id>": OF_A_JOB,
    "result/<model:model>": read(202, of_a_job=True, headers=BY_HEADER.headers),
    "result/<model:model>/<str:job_id>": read(202, of_a_job=True),
    "v2": OPEN,
    "v2/health/live": OPEN,
    "v2/health/ready": OPEN,
    "v2/models/<model:model>": read(),
    "v2/models/<model:model>/versions/<version:version>": read(),
    "v2/models/<model:model>/ready": read(),
    "v2/models/<model:model>/versions/<version:version>/ready": read(),
    "v2/models/<model:model>/config": read(),
    "v2/models/<model:model>/versions/<version:version>/config": read(),
    "v2/models/<model:model>/stats": read(),
    "v2/models/<model:model>/versions/<version:version>/stats": read(),
    "v2/repository/index": write(200, writes=Role.VIEWER),
    "api/jobs/": Expected({"GET": 200, "POST": 202}, body=JOB),
    "api/jobs/bulk/": write(200, body={"jobs": [JOB]}),
    # The id is taken, by another request: that says nothing about whose it is.
    "api/jobs/<job_id:job_id>/": Expected({"GET": 200, "PUT": 422}, of_a_job=True, body=JOB),
    "api/jobs/<job_id:job_id>/status/": OF_A_JOB,
    "api/jobs/<job_id:job_id>/result/": read(202, of_a_job=True),
    "api/jobs/<job_id:job_id>/events/": OF_A_JOB,
    "api/jobs/<job_id:job_id>/cancel/": ACTION,
    "api/jobs/<job_id:job_id>/rerun/": write(of_a_job=True, changes_it=True, writes=Role.VIEWER, job=failed),
    "api/jobs/<job_id:job_id>/receipt/": read(of_a_job=True, job=succeeded),
    "api/dead-letters/": read(**OPERATORS),
    "api/dead-letters/replay/": write(200, body=MANY, **OPERATORS),
    "api/dead-letters/discard/": write(200, body={**MANY, "reason": "x"}, **OPERATORS),
    "api/dead-letters/<uuid:job_id>/": read(**OPERATORS),
    "api/dead-letters/<uuid:job_id>/replay/": write(**OPERATORS),
    "api/dead-letters/<uuid:job_id>/discard/": write(200, body={"reason": "x"}, **OPERATORS),
    "api/dead-letters/messages/": read(**OPERATORS),
    "api/dead-letters/messages/<int:message_id>/discard/": write(200, body={"reason": "x"}, **OPERATORS),
    "api/queues/": read(**OPERATORS),
    "api/workers/": read(**OPERATORS),
    "metrics": read(**OPERATORS),
    "api/schema/": read(),
    "api/docs/": read(options=405),
    "healthz": OPEN,
    "readyz": OPEN,
    "problems/": Expected(dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), 200), None, None, plain=True),
    "^problems/(?P<slug>[a-z-]+)/?$": read(reads=None, writes=None, options=405, plain=True),
    # Sends people to the admin.
    "": Expected(dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), 302), None, None, options=302, plain=True),
}


def routes() -> list[str]:
    """Every route of urls.py but the admin, which is Django's."""
    return [str(p.pattern) for p in get_resolver().url_patterns if isinstance(p, URLPattern)]


def test_the_table_names_no_route_that_is_gone() -> None:
    assert TABLE.keys() == set(routes())


def expected(route: Expected, method: str, who: str, *, own: bool) -> int:
    """Return the status that the table says."""
    role = None if who == "anonymous" else Role(who)
    needed = route.reads if method in SAFE else route.writes
    if role is None and route.reads is not None:
        return 401
    if role is not None and needed is not None and not role.allows(needed):
        return 403
    if method == "OPTIONS":
        return route.options
    status = route.methods.get("GET" if method == "HEAD" else method)
    if status is None:
        return 405
    # A PUT is not about the job that is there.
    if route.of_a_job and method != "PUT":
        if not own and role is not Role.OPERATOR:
            return 404
        if route.changes_it and role is not None and not role.allows(Role.SUBMITTER):
            return 403
    return status


def filled(text: str, job: Job, message: int) -> str:
    for name, value in {
        "<model:model>": "wine",
        "<version:version>": "1",
        "<str:job_id>": str(job.id),
        "<uuid:job_id>": str(job.id),
        "<job_id:job_id>": str(job.id),
        "{job}": str(job.id),
        "<int:message_id>": str(message),
        "^problems/(?P<slug>[a-z-]+)/?$": "problems/bad-data",
    }.items():
        text = text.replace(name, value)
    assert not re.search("[<>^]", text), "a parameter that nobody has filled in"
    return text


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize("route", routes())
def test_every_route_answers_every_method_and_caller_as_the_table_says(team: Team, route: str, who: str) -> None:
    assert route in TABLE, "nobody has said what this route does"
    does = TABLE[route]
    make_worker()
    other = rows.make_team("other")
    sender = Client() if who == "anonymous" else client(team, Role(who))
    for own in (True, False):
        for method in METHODS:
            job, message = does.job(team if own else other), park().pk
            before = whole(job.id)
            headers = {name: filled(value, job, message) for name, value in does.headers.items()}
            body = filled(json.dumps(does.body), job, message) if does.body else ""
            answer = send(sender, method, "/" + filled(route, job, message), body, **headers)
            status, where = answer.status_code, f"{method} {route} as {who}, own={own}"
            assert status == expected(does, method, who, own=own), (where, answer.streaming or answer.content)
            if status >= 400 and method != "HEAD":
                assert answer["Content-Type"] == "application/problem+json", where
            if status >= 400 or method in SAFE:
                assert whole(job.id) == before, f"{where} has changed the job"
            if status == 405 and not does.plain:
                assert set(answer["Allow"].split(", ")) >= does.methods.keys(), where
            if method == "HEAD":
                assert b"".join(answer) == b"", where
            if answer.streaming:
                hang_up(answer)
    assert not streams._followers, "a place was not given back"


ABOUT_A_JOB = {
    "/status/wine/{}": "GET",
    "/result/wine/{}": "GET",
    "/result/wine/{}?wait=5": "GET",
    "/api/jobs/{}/": "GET",
    "/api/jobs/{}/status/": "GET",
    "/api/jobs/{}/result/?wait=5": "GET",
    "/api/jobs/{}/events/": "GET",
    "/api/jobs/{}/receipt/": "GET",
    "/api/jobs/{}/cancel/": "POST",
    "/api/jobs/{}/rerun/": "POST",
}


def test_a_job_of_another_team_is_told_apart_from_an_unknown_one_on_no_route(team: Team) -> None:
    stranger = client(team)
    for job in (make_running(rows.make_team("other")), failed(rows.make_team("other"))):
        before = whole(job.id)
        for path, method in ABOUT_A_JOB.items():
            texts = [
                problem(send(stranger, method, path.format(i)), 404, "not-found")["detail"].replace(str(i), "ID")
                for i in (job.id, UUID(int=job.id.int ^ 1))
            ]
            assert texts[0] == texts[1], path
        assert whole(job.id) == before
    assert stranger.get("/api/jobs/").json()["results"] == []
    operator = client(team, Role.OPERATOR)
    assert operator.get(f"/api/jobs/{job.id}/").json()["team"] == "other"
    assert len(operator.get("/api/jobs/").json()["results"]) == 2


def test_a_foreign_job_does_not_exist_for_a_viewer_either(team: Team) -> None:
    viewer = client(team, Role.VIEWER)
    for action in ("cancel", "rerun"):
        job = failed(rows.make_team("other"))
        problem(viewer.post(f"/api/jobs/{job.id}/{action}/"), 404, "not-found")
        problem(viewer.post(f"/api/jobs/{uuid4()}/{action}/"), 404, "not-found")


def test_the_openapi_document_is_valid_and_describes_exactly_the_routes_that_exist(team: Team) -> None:
    document = json.loads(client(team).get("/api/schema/?format=json").content)
    validate(document)
    documents = ("api/schema/", "api/docs/")
    wanted = {
        "/" + re.sub(r"<[a-z_]+:([a-z_]+)>", r"{\1}", route): set(does.methods)
        for route, does in TABLE.items()
        if not does.plain and route not in documents
    }
    assert {path: {verb.upper() for verb in verbs} for path, verbs in document["paths"].items()} == wanted
    names = [operation["operationId"] for verbs in document["paths"].values() for operation in verbs.values()]
    assert len(set(names)) == len(names)
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            assert operation["summary"], (path, verb)
            assert any(code.startswith("2") for code in operation["responses"]), (path, verb)
            text = json.dumps(operation)
            wants_a_body = verb in ("post", "put") and "requestBody" in operation
            assert text.count('"example') >= 1 + wants_a_body, (path, verb, "an example is missing")
