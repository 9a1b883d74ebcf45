"""Contributions on request: refused or taken at the door, through a lane of their own, made by the worker's code."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from celery import Celery
from django.test import Client

from inference_portal.accounts.models import Team
from inference_portal.jobs.dispatch import Dispatcher
from inference_portal.jobs.models import Job
from inference_portal.jobs.record import record_result
from inference_portal.jobs.turns import Lane
from inference_portal.store import model_store
from tests.integration.http import ASYNC, client, post, problem
from tests.integration.rows import drain, make_final, take
from tests.integration.versions import add, versions
from workers import tasks
from workers.contract import Bundle, BundleResult, ErrorCode, JobItem, Run
from workers.publisher import Publisher

pytestmark = pytest.mark.django_db
PATH = "/v2/models/m/infer"
ROWS = [[0.5, None, 3.0], [-1.0, 2.0, 7.0]]


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> Iterator[Path]:
    """Version 1 explains up to 2 rows, version 2 nothing."""
    folder = tmp_path / "store"
    folder.mkdir()
    with versions(monkeypatch, settings, folder) as model:
        add(folder, "1", explanations={"max_rows": 2}, micro_batch={"max_rows": 3})
        add(folder, "2")
        yield model


@pytest.fixture
def submitter(team: Team) -> Client:
    return client(team)


def table(rows: int) -> dict[str, Any]:
    return {"name": "t", "shape": [rows, 3], "datatype": "FP32", "data": [1.0] * 3 * rows}


BOTH = {
    "plain": {"instances": ROWS, "outputs": ["contributions", "label"]},
    "v2": {"inputs": [table(2)], "outputs": [{"name": "contributions"}, {"name": "label"}]},
}


@pytest.mark.parametrize("body", BOTH.values(), ids=BOTH)
def test_who_asks_by_name_gets_a_job_of_the_pool_of_explanations(submitter: Client, body: dict[str, Any]) -> None:
    assert post(submitter, PATH, body, **ASYNC).status_code == 202
    assert Job.objects.get().pool == "explain"


@pytest.mark.parametrize(
    "body",
    [
        {"instances": ROWS},
        {"instances": ROWS, "outputs": ["label"]},
        {"instances": ROWS, "outputs": []},
        {"inputs": [table(2)], "parameters": {"binary_data_output": True}},
    ],
    ids=str,
)
def test_who_does_not_ask_is_not_explained_to(submitter: Client, body: dict[str, Any]) -> None:
    assert post(submitter, PATH, body, **ASYNC).status_code == 202
    assert Job.objects.get().pool == "cpu"


@pytest.mark.parametrize(
    ("path", "body", "pointer", "detail"),
    [
        (PATH, {"instances": [ROWS[0]] * 3, "outputs": ["label", "contributions"]}, "/outputs/1", "up to 2 rows"),
        (PATH, {"inputs": [table(3)], "outputs": [{"name": "contributions"}]}, "/outputs/0/name", "this one has 3"),
        (PATH, {"instances": ROWS, "outputs": ["why"]}, "/outputs/0", "probability, label, contributions"),
        (PATH, {"instances": ROWS, "outputs": [["label"]]}, "/outputs/0", "expected an output's name"),
        (PATH, {"instances": ROWS, "outputs": "label"}, "/outputs", "expected a list"),
        (
            "/v2/models/m/versions/2/infer",
            {"instances": ROWS, "outputs": ["contributions"]},
            "/outputs/0",
            "expected an output's name: probability, label",
        ),
    ],
)
def test_what_is_not_explained_is_refused_with_its_place(
    submitter: Client, path: str, body: dict[str, Any], pointer: str, detail: str
) -> None:
    (error,) = problem(post(submitter, path, body), 422, "invalid-input")["errors"]
    assert (error["pointer"], detail in error["detail"]) == (pointer, True), error


def test_metadata_lists_contributions_where_there_are_some(submitter: Client) -> None:
    outputs = submitter.get("/v2/models/m/versions/1").json()["outputs"]
    assert outputs[-1] == {"name": "contributions", "datatype": "FP32", "shape": [-1, 4]}
    assert len(submitter.get("/v2/models/m/versions/2").json()["outputs"]) == 2


def test_a_job_goes_through_its_lane_and_its_contributions_add_up(
    submitter: Client, store: Path, broker_app: Celery
) -> None:
    accepted = post(submitter, PATH, BOTH["plain"], **ASYNC).json()
    publisher = Publisher(broker_app)
    Dispatcher(publisher).step()
    publisher.close()
    assert drain(broker_app, "inference.cpu") == []
    (message,) = drain(broker_app, "inference.explain")
    bundle = Bundle.from_message(message)
    assert bundle.explain
    engine, outcomes = tasks.run_bundle(bundle)
    run = Run("w", "h", engine.device, 0.0, 0.1, engine.libraries)
    record_result(BundleResult(bundle.id, run, tuple(outcomes)))

    predictions = submitter.get(accepted["ResultPath"]).json()["predictions"]
    assert [set(prediction) for prediction in predictions] == [{"contributions", "label"}] * 2
    found = np.array([prediction["contributions"] for prediction in predictions])
    booster = xgboost.Booster(model_file=str(store / "1" / "model.ubj"))
    margin = booster.inplace_predict(np.array(ROWS, dtype=np.float32), predict_type="margin")
    assert found.shape == (2, 4)
    np.testing.assert_allclose(found.sum(axis=1), margin, atol=1e-5)


def test_a_bundle_has_as_many_rows_as_the_manifest_says(submitter: Client) -> None:
    for _ in range(4):
        post(submitter, PATH, {"instances": ROWS[:1]}, **ASYNC)
        post(submitter, PATH, {"instances": ROWS[:1], "outputs": ["contributions"]}, **ASYNC)
        post(submitter, "/v2/models/m/versions/2/infer", {"instances": ROWS[:1]}, **ASYNC)
    claims = take({Lane(pool, False): 9 for pool in ("cpu", "explain")})
    sent = sorted((claimed.lane.pool, claimed.version, len(claimed.jobs)) for claimed in claims)
    assert sent == [("cpu", "1", 1), ("cpu", "1", 3), ("cpu", "2", 4), ("explain", "1", 2), ("explain", "1", 2)]


def test_a_rerun_stays_in_its_pool_and_a_version_without_explanations_is_refused(team: Team, submitter: Client) -> None:
    accepted = post(submitter, PATH, BOTH["plain"], **ASYNC).json()
    job = Job.objects.get()
    failed = make_final(team, "failed", error_code=ErrorCode.MODEL_ERROR)
    Job.objects.filter(id=job.id).update(state="failed", finished_at=failed.finished_at, error_code="model-error")
    path = f"/api/jobs/{accepted['Id']}/rerun/"
    (error,) = problem(post(submitter, path, {"version": "2"}), 422, "invalid-input")["errors"]
    assert "the job asked for the output 'contributions'" in error["detail"]
    assert post(submitter, path).status_code == 202
    assert Job.objects.get(id=job.id).pool == "explain"
    assert model_store().get("m", "1").manifest.pools == ("cpu", "explain")


def test_old_workers_read_a_bundle_and_new_ones_an_old_bundle() -> None:
    message = Bundle("b", "m", "1", "ab", 1, (JobItem("j", 1, 1),), b"\0" * 4, explain=True).to_message()
    assert Bundle.from_message(message).explain
    del message["explain"]
    assert not Bundle.from_message(message).explain
