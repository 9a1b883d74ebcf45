"""Every route with every method, role and own or foreign team, generated from the urlconf; and in the OpenAPI page."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client
from django.urls import URLPattern, get_resolver
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from inference_portal.accounts.models import Role, Team
from inference_portal.api import schemas
from inference_portal.batches.models import Batch
from inference_portal.batches.states import State as BatchState
from inference_portal.batches.streams import batch_streams
from inference_portal.jobs.models import Job
from inference_portal.jobs.states import State
from inference_portal.jobs.streams import streams
from tests.integration import rows
from tests.integration.dead import park
from tests.integration.deliveries import make_delivery, make_endpoint
from tests.integration.http import BODY, JOB, client, hang_up, problem, send, session
from tests.integration.made_batches import ERRORS, make_batch, make_done
from tests.integration.rows import make_final, make_job, make_running, make_worker, stored, whole
from tests.integration.schedules import make_schedule

pytestmark = pytest.mark.django_db
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
SAFE = ("GET", "HEAD", "OPTIONS")
# Who asks, and by what; without the token of its form a session changes nothing (tests/integration/test_login.py).
CALLERS = [("anonymous", ""), *itertools.product(Role, ("key", "session"))]
TOKEN = "a" * 32


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
    # Whether it is about one job (or batch, or schedule), which for other teams doesn't exist; and whether it changes
    # it, which takes a role.
    of_a_job: bool = False
    changes_it: bool = False
    job: Callable[[Team], Job] = make_job
    batch: Callable[[Team], Batch] = make_batch
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)
    options: int = 200


def running(team: Team) -> Batch:
    return make_batch(team, BatchState.RUNNING)


def done(team: Team) -> Batch:
    return make_done(team, errors=ERRORS)


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
RELEASES: dict[str, Any] = {"reads": Role.OPERATOR, "writes": Role.OPERATOR}
MANY = {"ids": ["{job}"]}
BATCH = {"model": "wine", "input": {"uri": "store://uploads/{team}/x/wines.csv"}}
SCHEDULE = {"name": "{job}", "every_seconds": 60, "batch": BATCH}

TABLE: dict[str, Expected] = {
    "v2/models/<segment:model>/infer": INFER,
    "v2/models/<segment:model>/versions/<segment:version>/infer": INFER,
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
    # A form without a file.
    "api/uploads/": write(422, body="x", headers={"Content-Type": "multipart/form-data; boundary=y"}),
    # The file is looked for by the first step.
    "api/batches/": Expected({"GET": 200, "POST": 202}, body=BATCH),
    "api/batches/<job_id:batch_id>/": Expected(
        {"GET": 200, "PATCH": 200},
        writes=Role.VIEWER,
        of_a_job=True,
        changes_it=True,
        body={"retry_policy": "all"},
    ),
    "api/batches/<job_id:batch_id>/chunks/": OF_A_JOB,
    "api/batches/<job_id:batch_id>/events/": OF_A_JOB,
    "api/batches/<job_id:batch_id>/output/": read(of_a_job=True, batch=done),
    "api/batches/<job_id:batch_id>/errors/": read(of_a_job=True, batch=done),
    "api/batches/<job_id:batch_id>/cancel/": replace(ACTION, batch=running),
    "api/batches/<job_id:batch_id>/rerun/": replace(ACTION, batch=done, body={"retry_policy": "all"}),
    "api/schedules/": Expected({"GET": 200, "POST": 201}, body=SCHEDULE),
    "api/schedules/<job_id:schedule_id>/": Expected(
        {"GET": 200, "PUT": 200, "PATCH": 200, "DELETE": 204},
        writes=Role.VIEWER,
        of_a_job=True,
        changes_it=True,
        body=SCHEDULE,
    ),
    "api/schedules/<job_id:schedule_id>/runs/": replace(OF_A_JOB, writes=Role.VIEWER),
    "api/schedules/<job_id:schedule_id>/run-now/": ACTION,
    "api/deliveries/": read(),
    "api/deliveries/<job_id:delivery_id>/": replace(OF_A_JOB, writes=Role.VIEWER),
    "api/deliveries/<job_id:delivery_id>/redeliver/": ACTION,
    "api/webhooks/": Expected({"GET": 200, "POST": 201}, body={"url": "https://receiver.example/"}),
    "api/webhooks/secret/": read(reads=Role.SUBMITTER),
    "api/webhooks/<job_id:webhook_id>/": Expected(
        {"GET": 200, "PATCH": 200, "DELETE": 204},
        writes=Role.VIEWER,
        of_a_job=True,
        changes_it=True,
        body={"enabled": False},
    ),
    "api/webhooks/<job_id:webhook_id>/test/": ACTION,
    "api/webhooks/<job_id:webhook_id>/rotate/": replace(ACTION, methods={"POST": 200}),
    "api/dead-letters/": read(**OPERATORS),
    "api/dead-letters/replay/": write(200, body=MANY, **OPERATORS),
    "api/dead-letters/discard/": write(200, body={**MANY, "reason": "x"}, **OPERATORS),
    "api/dead-letters/<job_id:job_id>/": read(**OPERATORS),
    "api/dead-letters/<job_id:job_id>/replay/": write(**OPERATORS),
    "api/dead-letters/<job_id:job_id>/discard/": write(200, body={"reason": "x"}, **OPERATORS),
    "api/dead-letters/messages/": read(**OPERATORS),
    "api/dead-letters/messages/<int:message_id>/discard/": write(200, body={"reason": "x"}, **OPERATORS),
    "api/models/": read(),
    "api/models/<model:model>/": read(),
    "api/models/<model:model>/versions/": read(),
    "api/models/<model:model>/versions/<version:version>/": read(),
    # The only version takes all traffic, and no release was made that could be taken back.
    "api/models/<model:model>/versions/<version:version>/release/": write(409, body={"weight": 50}, **RELEASES),
    "api/models/<model:model>/rollback/": write(409, **RELEASES),
    "api/queues/": read(**OPERATORS),
    "api/workers/": read(**OPERATORS),
    "metrics": read(**OPERATORS),
    "api/schema/": read(),
    "api/docs/": read(options=405),
    "healthz": OPEN,
    "readyz": OPEN,
    "problems/": OPEN,
    "problems/<problem:slug>": OPEN,
    # Sends people to the admin.
    "": Expected(dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), 302), None, None, options=302),
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
    # A PUT is not about the job that is there, but about the schedule.
    if route.of_a_job and (method != "PUT" or route.changes_it):
        if not own and role is not Role.OPERATOR:
            return 404
        changes = route.changes_it and method not in SAFE
        if changes and role is not None and not role.allows(Role.SUBMITTER):
            return 403
    return status


def filled(text: str, job: Job, message: int, batch: Batch) -> str:
    for name, value in {
        "<job_id:batch_id>": str(batch.id),
        "<job_id:schedule_id>": str(batch.schedule_id),
        "<job_id:delivery_id>": str(batch.schedule_id),
        "<job_id:webhook_id>": str(batch.schedule_id),
        "{team}": str(batch.team_id),
        "<model:model>": "wine",
        "<version:version>": "1",
        "<segment:model>": "wine",
        "<segment:version>": "1",
        "<str:job_id>": str(job.id),
        "<job_id:job_id>": str(job.id),
        "{job}": str(job.id),
        "<int:message_id>": str(message),
        "<problem:slug>": "bad-data",
    }.items():
        text = text.replace(name, value)
    assert not re.search("[<>^]", text), "a parameter that nobody has filled in"
    return text


def caller(team: Team, who: str, by: str) -> tuple[Client, dict[str, str]]:
    """Return a client of the team, and the headers that it has to send."""
    if by == "session":
        browser = session(team, csrf=True, role=Role(who))
        browser.cookies["csrftoken"] = TOKEN
        return browser, {"X-CSRFToken": TOKEN}
    return (client(team, Role(who)) if by == "key" else Client()), {}


def objects(route: str, does: Expected, owner: Team) -> tuple[Job, int, Batch]:
    """Return what the route may be about, a team's own; a schedule's id and the like stand in the batch."""
    job, message, batch = does.job(owner), park().pk, does.batch(owner)
    if "schedule_id" in route:
        batch.schedule_id = make_schedule(owner, name=str(batch.id)).id
    if "delivery_id" in route:
        batch.schedule_id = make_delivery(owner).id
    if "webhook_id" in route:
        batch.schedule_id = make_endpoint(owner).id
    return job, message, batch


@pytest.mark.parametrize(("who", "by"), CALLERS)
@pytest.mark.parametrize("route", routes())
def test_every_route_answers_every_method_and_caller_as_the_table_says(
    team: Team, route: str, who: str, by: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert route in TABLE, "nobody has said what this route does"
    does = TABLE[route]
    make_worker()
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    other = rows.make_team("other")
    sender, always = caller(team, who, by)
    for own in (True, False):
        owner = team if own else other
        about = None
        for method in METHODS:
            # Again only after what may have changed them: of most requests it is seen that they haven't.
            if about is None:
                about = objects(route, does, owner)
                before = stored(about[0], about[2])
            job, _, batch = about
            headers = always | {name: filled(value, *about) for name, value in does.headers.items()}
            kind = {"content_type": headers.pop("Content-Type")} if "Content-Type" in headers else {}
            body = filled(json.dumps(does.body), *about) if does.body else ""
            if route in ("api/batches/", "api/schedules/"):
                # Another team's data are none; whose the batch is, is up to who asks.
                body = body.replace(f"uploads/{other.pk}/", f"uploads/{team.pk}/")
            answer = send(sender, method, "/" + filled(route, *about), body, **headers, **kind)
            status, where = answer.status_code, f"{method} {route} as {who} by {by}, own={own}"
            assert status == expected(does, method, who, own=own), (where, answer.streaming or answer.content)
            if status >= 400 and method != "HEAD":
                assert answer["Content-Type"] == "application/problem+json", where
            if status >= 400 or method in SAFE:
                assert stored(job, batch) == before, f"{where} has changed the job or the batch"
            else:
                about = None
            if status == 405:
                assert set(answer["Allow"].split(", ")) >= does.methods.keys(), where
            if method == "HEAD":
                assert b"".join(answer) == b"", where
            if answer.streaming:
                hang_up(answer)
    assert not streams._followers and not batch_streams._followers, "a place was not given back"


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
    document = json.loads(client(team).get("/api/schema/").content)
    validate(document)
    # All but the way from the address alone to the pages for people.
    wanted = {
        "/" + re.sub(r"<[a-z_]+:([a-z_]+)>", r"{\1}", route): set(does.methods)
        for route, does in TABLE.items()
        if route
    }
    assert {path: {verb.upper() for verb in verbs} for path, verbs in document["paths"].items()} == wanted
    names = [operation["operationId"] for verbs in document["paths"].values() for operation in verbs.values()]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] for verbs in document["paths"].values() for operation in verbs.values())


def test_no_route_is_described_with_a_parameter_twice_of_which_the_document_would_drop_one() -> None:
    told = {
        f"{module.name}.{name}": value["parameters"]
        for module in iter_modules(schemas.__path__)
        for name, value in vars(import_module(f"{schemas.__name__}.{module.name}")).items()
        if isinstance(value, dict) and "parameters" in value
    }
    assert {"inference.RESULT_BY_HEADER", "dead_letters.REPLAY", "operators.QUEUES"} <= told.keys()
    for name, parameters in told.items():
        counted = Counter((each.location, each.name, code) for each in parameters for code in each.response or [None])
        assert counted.total() == len(counted), (name, counted.most_common(1))


def test_a_header_that_stands_in_for_the_path_is_required(team: Team) -> None:
    paths = json.loads(client(team).get("/api/schema/").content)["paths"]
    for path in ("/status/{model}", "/result/{model}"):
        required = {each["name"] for each in paths[path]["get"]["parameters"] if each.get("required")}
        assert required == {"model", "X-Inference-Id"}


# Bodies that no text shows.
BINARY = {"application/octet-stream", "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream", "application/x-npy"}  # fmt: skip  # noqa: E501


def test_every_operation_has_examples_of_its_bodies_and_they_are_by_their_schemas(team: Team) -> None:
    document = json.loads(client(team).get("/api/schema/").content)
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            bodies = [operation["requestBody"]] if "requestBody" in operation else []
            answers = [answer for code, answer in operation["responses"].items() if code.startswith("2")]
            assert answers, (path, verb)
            told = [part for part in (*bodies, *answers) if part.get("content")]
            assert len(told) > len(bodies) or "204" in operation["responses"], (path, verb, "no answer has a body")
            for part in told:
                for kind, content in part["content"].items():
                    examples = [example["value"] for example in content.get("examples", {}).values()]
                    assert examples or kind in BINARY, (path, verb, kind, "an example is missing")
                    # References are found in the document's own place for them.
                    schema = content["schema"] | {"components": document["components"]}
                    for example in examples:
                        Draft202012Validator(schema).validate(example)
