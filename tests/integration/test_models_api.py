"""/api/models/: models and versions, releases by operators, and what clients get meanwhile."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from inference_portal.accounts.models import Role, Team
from inference_portal.catalog import releases, traffic
from inference_portal.jobs.models import Job
from inference_portal.jobs.states import State
from inference_portal.store import model_store
from tests.integration.http import ASYNC, client, post, problem
from tests.integration.rows import make_final, make_worker
from tests.integration.versions import add, spoil, versions

pytestmark = pytest.mark.django_db
M = "/api/models/m/"
INFER = "/v2/models/m/infer"
BODY = {"instances": [[0.1, 0.2, 0.3]]}


@pytest.fixture
def m(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> Iterator[Path]:
    with versions(monkeypatch, settings, tmp_path, "1", "2", "3") as folder:
        yield folder


@pytest.fixture
def operator(team: Team) -> Client:
    return client(team, Role.OPERATOR)


def release(operator: Client, version: str, body: Any = "", model: str = "m") -> Any:
    return post(operator, f"/api/models/{model}/versions/{version}/release/", body)


def version_of(answer: Any) -> str:
    assert answer.status_code == 202, answer.content
    return Job.objects.get(id=answer["X-Inference-Id"]).version


def test_models_and_versions_are_told_to_whoever_may_read(m: Path, team: Team, operator: Client) -> None:
    make_worker()
    viewer = client(team, Role.VIEWER)
    assert [each["name"] for each in viewer.get("/api/models/").json()["results"]] == ["m", "wine"]
    model = viewer.get(M).json()
    assert model == {
        "name": "m", "description": "", "versions": ["1", "2", "3"], "traffic": [{"version": "1", "weight": 100}],
        "problems": [], "events": [],
    }  # fmt: skip
    assert release(operator, "2", {"weight": 10, "reason": "new harvest"}).status_code == 200
    told = viewer.get(f"{M}versions/").json()["results"]
    assert [(each["version"], each["state"], each["weight"], each["ready"]) for each in told] == [
        ("1", "serving", 90, False), ("2", "serving", 10, False), ("3", "new", 0, False),
    ]  # fmt: skip
    one = viewer.get(f"{M}versions/2/").json()
    assert one["manifest"]["columns"][1] == {
        "name": "b", "type": "float", "range": None, "categories": [], "missing": True, "default": None,
    }  # fmt: skip
    assert [column["name"] for column in one["signature"]["inputs"]] == ["a", "b", "c"]
    assert one["sha256"] == model_store().get("m", "2").manifest.sha256
    assert (one["golden_check"]["rows"], one["golden_check"]["who"]) == (4, "key operator")
    assert viewer.get(f"{M}versions/3/").json()["golden_check"] is None
    assert viewer.get("/api/models/wine/versions/1/").json()["ready"] is True
    (event,) = viewer.get(M).json()["events"]
    assert (event["action"], event["version"], event["reason"]) == ("release", "2", "new harvest")
    for path in ("/api/models/n/", "/api/models/n/versions/", f"{M}versions/9/"):
        problem(viewer.get(path), 404, "not-found")


def test_a_release_answers_with_what_it_has_changed_and_a_rollback_too(m: Path, operator: Client) -> None:
    event = release(operator, "2", {"weight": 25}).json()
    assert [(part["version"], part["weight"]) for part in event["after"]] == [("1", 75), ("2", 25)]
    assert event["golden"] == {"job": str(Job.objects.get().id), "rows": 4}
    # No body means all of it.
    assert [part["weight"] for part in release(operator, "3").json()["after"]] == [100]
    back = post(operator, f"{M}rollback/", {"reason": "too slow"}).json()
    assert (back["action"], back["version"], back["reason"], back["golden"]) == ("rollback", "3", "too slow", None)
    assert [part["weight"] for part in back["after"]] == [75, 25]
    assert post(operator, f"{M}rollback/").status_code == 200
    problem(post(operator, f"{M}rollback/"), 409, "release-conflict")


def test_a_wrong_version_is_a_problem_with_its_differences(m: Path, operator: Client) -> None:
    spoil(m / "2")
    body = problem(release(operator, "2"), 409, "golden-mismatch")
    assert body["detail"].startswith("golden samples differ: row 1, probability: expected 0.")
    first, second = body["differences"]
    assert (first["row"], first["output"], second["row"]) == (1, "probability", 3)
    assert first["expected"] - first["got"] == pytest.approx(0.25, abs=1e-5)
    add(m.parent, "3", golden=...)
    problem(release(operator, "3"), 409, "golden-missing")
    assert operator.get(M).json()["traffic"] == [{"version": "1", "weight": 100}]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"weight": 0}, "/weight"), ({"weight": 101}, "/weight"), ({"weight": 1.5}, "/weight"),
        ({"weight": True}, "/weight"), ({"weight": "10"}, "/weight"), ({"reason": 1}, "/reason"),
        ({"reason": "x" * 1_001}, "/reason"), ({"reason": "\0"}, "/reason"), ({"why": "x"}, "/why"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(m: Path, operator: Client, body: Any, pointer: str) -> None:
    found = problem(post(operator, f"{M}versions/2/release/", body), 422, "invalid-input")
    assert [fault["pointer"] for fault in found["errors"]] == [pointer]


def test_every_door_sends_requests_by_weight_and_one_key_always_to_one_version(
    m: Path, team: Team, operator: Client
) -> None:
    release(operator, "2", {"weight": 50})
    submitter = client(team)
    rows = {"model": "m", "rows": BODY["instances"]}
    doors = {
        "infer": lambda: post(submitter, INFER, BODY, **ASYNC),
        "jobs": lambda: post(submitter, "/api/jobs/", rows),
        "put": lambda: submitter.put(f"/api/jobs/{uuid4()}/", rows, content_type="application/json"),
    }
    for name, ask in doors.items():
        assert Counter(version_of(ask()) for _ in range(40)).keys() == {"1", "2"}, name
    bulk = post(submitter, "/api/jobs/bulk/", {"jobs": [rows] * 40}).json()["results"]
    assert Counter(Job.objects.get(id=each["Id"]).version for each in bulk).keys() == {"1", "2"}
    keys = [f"line-{i}" for i in range(20)]
    by_key = {}
    for key in keys:
        headers = {**ASYNC, "X-Inference-Ordering-Key": key}
        versions = {version_of(post(submitter, INFER, BODY, **headers)) for _ in range(3)}
        versions.add(version_of(post(submitter, "/api/jobs/", {**rows, "ordering_key": key})))
        (by_key[key],) = versions
    assert set(by_key.values()) == {"1", "2"}
    # By the client's own id, too: known before anything is stored.
    own = uuid4()
    answer = post(submitter, INFER, BODY, **ASYNC, **{"X-Inference-Id": str(own)})
    assert version_of(answer) == traffic.choose("m", key=str(own)).manifest.version
    # Who names a version gets it.
    for version in ("1", "2", "3"):
        assert version_of(post(submitter, f"/v2/models/m/versions/{version}/infer", BODY, **ASYNC)) == version
        assert version_of(post(submitter, "/api/jobs/", {**rows, "version": version})) == version


def test_a_retired_version_can_not_be_named_anywhere_and_its_jobs_can_still_be_rerun(
    m: Path, team: Team, operator: Client
) -> None:
    release(operator, "2")
    sha256 = model_store().get("m", "1").manifest.sha256
    failed = make_final(team, State.FAILED, model="m", version="1", sha256=sha256, input=b"\0" * 12)
    other = make_final(team, State.FAILED, model="m", version="2", sha256=sha256, input=b"\0" * 12)
    dead = make_final(team, State.DEAD_LETTERED, model="m", version="2", sha256=sha256, input=b"\0" * 12)
    releases.retire(model="m", version="1", who="ada")
    for path in ("", "/ready", "/config", "/stats"):
        problem(operator.get(f"/v2/models/m/versions/1{path}"), 404, "not-found")
    problem(post(operator, "/v2/models/m/versions/1/infer", BODY), 404, "not-found")
    rows = {"model": "m", "version": "1", "rows": BODY["instances"]}
    body = problem(post(operator, "/api/jobs/", rows), 404, "not-found")
    assert "version '1' of model 'm' is retired" in body["detail"]
    problem(post(operator, f"/api/jobs/{other.id}/rerun/", {"version": "1"}), 422, "invalid-input")
    problem(post(operator, f"/api/dead-letters/{dead.id}/replay/", {"version": "1"}), 422, "invalid-input")
    (one,) = post(operator, "/api/dead-letters/replay/", {"ids": [str(dead.id)], "version": "1"}).json()["results"]
    assert one["status"] == 422
    assert operator.get("/v2/models/m").json()["versions"] == ["2", "3"]
    index = {each["version"]: each for each in post(operator, "/v2/repository/index").json() if each["name"] == "m"}
    assert (index["1"]["state"], index["1"]["reason"]) == ("UNAVAILABLE", "retired")
    # It is what the job was accepted for.
    assert post(operator, f"/api/jobs/{failed.id}/rerun/").status_code == 202
    assert [each["state"] for each in operator.get(f"{M}versions/").json()["results"]] == ["retired", "serving", "new"]


def test_a_model_none_of_whose_traffic_can_be_served_is_unknown(m: Path, operator: Client) -> None:
    release(operator, "2")
    add(m.parent, "2", columns=[{"name": "x"}, {"name": "y"}, {"name": "z"}])
    body = problem(post(operator, INFER, BODY), 404, "not-found")
    assert "its model file isn't the one that was released" in body["detail"]
    model = operator.get(M).json()
    assert (model["traffic"], len(model["problems"])) == ([], 1)
    assert post(operator, "/v2/models/m/versions/1/infer", BODY, **ASYNC).status_code == 202
