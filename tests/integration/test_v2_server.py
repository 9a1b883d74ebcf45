"""The rest of V2: metadata, configuration, statistics, readiness, the list of models."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from inference_portal.accounts.models import Role, Team
from inference_portal.jobs.models import Job, ModelStatistics, Worker
from inference_portal.jobs.record import record_result
from inference_portal.jobs.states import State
from inference_portal.store import model_store
from tests.integration import rows
from tests.integration.dead import store
from tests.integration.http import ASYNC, BODY, INFER, client, post, problem
from tests.integration.rows import failure, in_threads, make_sent, make_worker, success, take
from tests.integration.work import work
from workers.contract import ErrorCode

pytestmark = pytest.mark.django_db
WINE = "/v2/models/wine"
STATS = f"{WINE}/stats"
INDEX = "/v2/repository/index"


@pytest.fixture
def model_m(tmp_path: Path, settings: Any) -> Iterator[None]:
    """A model with versions in several pools."""
    with store(settings, tmp_path / "store"):
        yield


# Metadata and configuration


def test_the_server_names_its_extensions(db: None) -> None:
    body = Client().get("/v2").json()
    assert body == {
        "name": "inference-portal",
        "version": body["version"],
        "extensions": ["binary_tensor_data", "model_configuration", "statistics"],
    }
    assert Client().get("/v2/health/live").json() == {"live": True}
    assert Client().get("/v2/health/ready").json() == {"ready": True}


def test_without_a_model_the_server_is_not_ready(db: None, settings: Any, tmp_path: Path) -> None:
    settings.MODEL_STORE = tmp_path
    model_store.cache_clear()
    try:
        answer = Client().get("/v2/health/ready")
        body = problem(answer, 503, "not-ready")
        assert body["error"] == body["detail"] and int(answer["Retry-After"]) >= 1
        answer = Client().get("/readyz")
        body = problem(answer, 503, "not-ready")
        assert (body["database"], body["model_store"]) == ("ok", "no model can be served")
        assert int(answer["Retry-After"]) >= 1 and "error" not in body
    finally:
        model_store.cache_clear()


def test_metadata_and_configuration_are_the_manifests(submitter: Client) -> None:
    manifest = model_store().get("wine", "1").manifest
    names = [column.name for column in manifest.columns]
    for path in (WINE, f"{WINE}/versions/1"):
        metadata = submitter.get(path).json()
        assert (metadata["name"], metadata["versions"], metadata["platform"]) == ("wine", ["1"], "xgboost")
        assert metadata["inputs"] == [{"name": name, "datatype": "FP32", "shape": [-1]} for name in names]
        assert metadata["outputs"][0] == {"name": "probability", "datatype": "FP32", "shape": [-1, 3]}
        config = submitter.get(f"{path}/config").json()
        assert (config["name"], config["platform"], config["backend"]) == ("wine", "xgboost", "xgboost")
        assert (config["max_batch_size"], config["version_policy"]) == (0, {"specific": {"versions": [1]}})
        assert config["input"] == [{"name": name, "data_type": "TYPE_FP32", "dims": [-1]} for name in names]
        assert [o["name"] for o in config["output"]] == [o["name"] for o in metadata["outputs"]]
        assert config["output"][0] == {"name": "probability", "data_type": "TYPE_FP32", "dims": [-1, 3]}


def test_of_several_versions_the_named_one_or_the_one_in_use_is_told(submitter: Client, model_m: None) -> None:
    assert submitter.get("/v2/models/m").json()["versions"] == ["1", "2", "3", "4", "5"]
    assert submitter.get("/v2/models/m/versions/2").json()["versions"] == ["2"]
    # Nobody has released anything.
    first = submitter.get("/v2/models/m/config").json()
    assert first == submitter.get("/v2/models/m/versions/1/config").json()
    assert [i["name"] for i in submitter.get("/v2/models/m/versions/2/config").json()["input"]] == ["c", "a"]
    assert len(submitter.get("/v2/models/m/stats").json()["model_stats"]) == 5
    (only,) = submitter.get("/v2/models/m/versions/3/stats").json()["model_stats"]
    assert only["version"] == "3"


@pytest.mark.parametrize("what", ["", "/ready", "/config", "/stats"])
@pytest.mark.parametrize("path", ["/v2/models/none", "/v2/models/none/versions/1", "/v2/models/wine/versions/9"])
def test_what_is_not_there_is_a_problem_with_an_error_text(submitter: Client, path: str, what: str) -> None:
    body = problem(submitter.get(path + what), 404, "not-found")
    assert body["error"] == body["detail"]


def test_every_problem_under_v2_has_an_error_text_and_no_other_has(submitter: Client) -> None:
    for answer in (
        post(submitter, INFER, "{"),
        post(submitter, INFER, {"instances": [["x"]]}),
        Client().get(WINE),
        submitter.delete(WINE),
        submitter.get("/v2/nothing"),
        submitter.get(f"{WINE}/ready"),
    ):
        body = answer.json()
        assert body["error"] == body["detail"] and body["error"], body
    for answer in (submitter.get("/api/jobs/x/"), post(submitter, "/api/jobs/", {}), submitter.get("/status/wine/x")):
        assert "error" not in answer.json()


# Ready


def test_a_model_is_ready_when_a_worker_that_serves_it_was_heard_lately(submitter: Client, settings: Any) -> None:
    for path in (f"{WINE}/ready", f"{WINE}/versions/1/ready"):
        answer = submitter.get(path)
        assert "wine:1" in problem(answer, 503, "not-ready")["detail"]
        assert int(answer["Retry-After"]) >= 1
    worker = make_worker()
    assert submitter.get(f"{WINE}/ready").json() == {"name": "wine", "ready": True}
    Worker.objects.filter(name=worker.name).update(serves=["breast_cancer:1", "wine:2"])
    problem(submitter.get(f"{WINE}/ready"), 503, "not-ready")
    make_worker(seen_at=timezone.now() - timedelta(minutes=10))
    problem(submitter.get(f"{WINE}/ready"), 503, "not-ready")


def test_a_pool_that_may_scale_from_zero_is_ready_without_a_worker(
    submitter: Client, settings: Any, model_m: None
) -> None:
    settings.SCALE_FROM_ZERO = ["gpu"]
    assert submitter.get("/v2/models/m/versions/2/ready").status_code == 200
    problem(submitter.get("/v2/models/m/versions/1/ready"), 503, "not-ready")
    problem(submitter.get(f"{WINE}/ready"), 503, "not-ready")
    ready = post(submitter, INDEX, {"ready": True}).json()
    assert [(each["name"], each["version"]) for each in ready] == [("m", "2")]
    settings.SCALE_FROM_ZERO = ["cpu", "gpu"]
    assert submitter.get(f"{WINE}/ready").status_code == 200


# The list of models


def test_the_index_lists_every_version_and_whether_it_is_ready(submitter: Client, model_m: None) -> None:
    make_worker()
    index = post(submitter, INDEX).json()
    assert [(each["name"], each["version"]) for each in index] == [*(("m", str(v)) for v in range(1, 6)), ("wine", "1")]
    assert index[-1] == {"name": "wine", "version": "1", "state": "READY", "reason": ""}
    assert {each["state"] for each in index[:-1]} == {"UNAVAILABLE"} and all(each["reason"] for each in index[:-1])
    for body in ({}, {"ready": False}):
        assert post(submitter, INDEX, body).json() == index
    assert post(submitter, INDEX, {"ready": True}).json() == index[-1:]


def test_the_index_is_of_one_moment(
    submitter: Client, settings: Any, model_m: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = model_store()
    look = served.snapshot

    def then_it_goes() -> Any:
        found = look()
        shutil.rmtree(settings.MODEL_STORE / "m" / "2", ignore_errors=True)
        served._looked = float("-inf")
        return found

    monkeypatch.setattr(served, "snapshot", then_it_goes)
    assert ("m", "2") in [(each["name"], each["version"]) for each in post(submitter, INDEX).json()]
    assert ("m", "2") not in [(each["name"], each["version"]) for each in post(submitter, INDEX).json()]


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream", ""])
def test_the_index_takes_the_types_that_clients_send(team: Team, kind: str) -> None:
    assert post(client(team, Role.VIEWER), INDEX, "", content_type=kind).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        ({"ready": "yes"}, 422, "invalid-input"), ({"ready": 1}, 422, "invalid-input"), ("[", 400, "malformed"),
        ([], 400, "malformed"), (b"\xff", 400, "malformed"),
    ],
)  # fmt: skip
def test_an_index_that_asks_something_else_is_refused(submitter: Client, body: Any, status: int, slug: str) -> None:
    found = problem(post(submitter, INDEX, body), status, slug)
    assert found["error"] == found["detail"]


def test_a_model_without_its_folder_leaves_the_index(submitter: Client, settings: Any, model_m: None) -> None:
    shutil.rmtree(settings.MODEL_STORE / "m" / "2")
    model_store.cache_clear()
    assert ("m", "2") not in [(each["name"], each["version"]) for each in post(submitter, INDEX).json()]


# Statistics


def stats(sender: Client) -> dict[str, Any]:
    body = sender.get(STATS).json()
    assert body.keys() == {"model_stats"}
    (found,) = body["model_stats"]
    assert found.keys() == {
        "name", "version", "last_inference", "inference_count", "execution_count", "inference_stats", "batch_stats",
    }  # fmt: skip
    assert (found["name"], found["version"]) == ("wine", "1")
    return dict(found)


def counts(found: dict[str, Any]) -> tuple[int, ...]:
    kinds = found["inference_stats"]
    return found["inference_count"], found["execution_count"], kinds["success"]["count"], kinds["fail"]["count"]


def test_a_model_that_has_done_nothing_has_zeros(submitter: Client) -> None:
    found = stats(submitter)
    assert counts(found) == (0, 0, 0, 0)
    assert found["last_inference"] == 0
    assert all(part == {"count": 0, "ns": 0} for part in found["inference_stats"].values())
    assert found["inference_stats"].keys() == {
        "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
    }  # fmt: skip


def test_counts_and_times_grow_with_what_was_done(submitter: Client) -> None:
    def submit(rows_each: int) -> None:
        body = {"instances": BODY["instances"] * rows_each}
        assert post(submitter, INFER, body, **ASYNC).status_code == 202

    begun = timezone.now().timestamp()
    submit(1)
    submit(3)
    # Both in one call.
    assert work() == 2
    first = stats(submitter)
    assert counts(first) == (4, 1, 2, 0)
    assert begun * 1_000 - 1 <= first["last_inference"] <= timezone.now().timestamp() * 1_000
    kinds = first["inference_stats"]
    done = Job.objects.filter(state=State.SUCCEEDED)
    total = sum((job.finished_at - job.queued_at).total_seconds() for job in done if job.finished_at) * 1e9
    run = sum((j.finished_at - j.started_at).total_seconds() for j in done if j.finished_at and j.started_at) * 1e9
    assert kinds["success"]["ns"] == pytest.approx(total, abs=5_000)
    assert kinds["compute_infer"] == {"count": 2, "ns": pytest.approx(run, abs=5_000)}
    assert kinds["queue"]["count"] == 2
    assert kinds["queue"]["ns"] + kinds["compute_infer"]["ns"] == pytest.approx(total, abs=10_000)
    submit(1)
    assert work() == 1
    second = stats(submitter)
    assert counts(second) == (5, 2, 3, 0)
    assert second["inference_stats"]["success"]["ns"] > kinds["success"]["ns"]
    assert second["last_inference"] >= first["last_inference"]


def test_a_failure_counts_once_it_is_over_and_not_each_attempt(team: Team, submitter: Client) -> None:
    job = make_sent(team, queued_at=timezone.now() - timedelta(seconds=7))
    assert record_result(rows.result(failure(job, ErrorCode.LEASE_EXPIRED))) == 1
    assert counts(stats(submitter)) == (0, 0, 0, 0)
    Job.objects.update(not_before=None)
    take()
    job.refresh_from_db()
    assert record_result(rows.result(failure(job, ErrorCode.BAD_DATA))) == 1
    found = stats(submitter)
    assert counts(found) == (0, 0, 0, 1)
    assert found["inference_stats"]["fail"]["ns"] == pytest.approx(7e9, rel=0.5)
    assert found["last_inference"] > 0


def test_a_result_that_comes_twice_or_too_late_counts_once(team: Team, submitter: Client) -> None:
    job, cancelled = make_sent(team, rows=2), make_sent(team)
    result = rows.result(success(job), failure(cancelled, ErrorCode.MODEL_ERROR))
    assert record_result(result) == 2
    before = stats(submitter)
    assert counts(before) == (2, 1, 1, 1)
    for _ in range(2):
        assert record_result(result) == 0
    assert record_result(rows.result(failure(job, ErrorCode.MODEL_ERROR), success(cancelled))) == 0
    assert stats(submitter) == before


def test_jobs_that_were_tried_one_by_one_are_as_many_executions(team: Team, submitter: Client) -> None:
    jobs = [make_sent(team) for _ in range(4)]
    record_result(rows.result(*map(success, jobs[:3]), failure(jobs[3], ErrorCode.MODEL_ERROR)))
    assert counts(stats(submitter)) == (3, 3, 3, 1)
    # One that will be tried again failed as well.
    jobs = [make_sent(team) for _ in range(3)]
    record_result(rows.result(*map(success, jobs[:2]), failure(jobs[2], ErrorCode.OUT_OF_MEMORY)))
    assert counts(stats(submitter)) == (5, 5, 5, 1)
    # What came too late was taken out before: the others went in one call.
    jobs = [make_sent(team) for _ in range(3)]
    record_result(rows.result(*map(success, jobs[:2]), failure(jobs[2], ErrorCode.EXPIRED)))
    assert counts(stats(submitter)) == (7, 6, 7, 2)


@pytest.mark.django_db(transaction=True)
def test_recorders_that_count_for_the_first_time_at_once_lose_nothing(team: Team, submitter: Client) -> None:
    jobs = [[make_sent(team), make_sent(team, model="breast_cancer")] for _ in range(6)]
    in_threads(*(lambda pair=pair: record_result(rows.result(*map(success, pair))) for pair in jobs))  # type: ignore[misc]
    assert counts(stats(submitter)) == (6, 6, 6, 0)
    assert ModelStatistics.objects.count() == 2


def test_a_run_is_counted_in_one_statement(team: Team) -> None:
    jobs = [make_sent(team), make_sent(team, model="breast_cancer")]
    with CaptureQueriesContext(connection) as queries:
        record_result(rows.result(*map(success, jobs)))
    assert len([query for query in queries if "modelstatistics" in query["sql"]]) == 1


def test_each_version_has_its_own_and_the_sums_outlive_the_jobs(team: Team, submitter: Client) -> None:
    record_result(rows.result(success(make_sent(team))))
    record_result(rows.result(success(make_sent(team, model="breast_cancer"))))
    Job.objects.all().delete()
    assert counts(stats(submitter)) == (1, 1, 1, 0)
    (other,) = submitter.get("/v2/models/breast_cancer/stats").json()["model_stats"]
    assert counts(other) == (1, 1, 1, 0)
