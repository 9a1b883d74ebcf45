"""A worker that can't serve one model says so with its heartbeats, and serves the others."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery

from tests.integration import garbage, rows
from tests.integration.celery_process import Reports, worker
from tests.integration.garbage import Garbage, celery_body, celery_headers
from tests.unit.builders import write_release
from workers import topology, troubles
from workers.contract import INFER, Bundle, BundleResult, ErrorCode, Heartbeat, JobItem


@pytest.fixture
def models(tmp_path: Path, store: Path) -> Path:
    """A copy of two of the repository's models, to be broken."""
    copy = tmp_path / "store"
    for model in ("breast_cancer", "wine"):
        shutil.copytree(store / model, copy / model)
    return copy


def run(app: Celery, reports: Reports, model: str) -> BundleResult:
    manifest = rows.model_store().get(model, "1").manifest
    job = JobItem(str(uuid4()), 1, 1)
    columns = len(manifest.columns)
    sent = Bundle(str(uuid4()), model, "1", manifest.sha256, columns, (job,), bytes(4 * columns))
    message = Garbage(celery_body(sent.to_message()), celery_headers(INFER))
    garbage.publish(app, message, topology.REQUESTS, f"cpu.{model}")
    return reports.result(sent.id)


def code(result: BundleResult) -> ErrorCode | None:
    (outcome,) = result.outcomes
    return None if outcome.failure is None else outcome.failure.code


def golden_that_differs(folder: Path) -> None:
    path = folder / "golden.json"
    golden = json.loads(path.read_text())
    golden["outputs"]["probability"][0][0] += 0.25
    path.write_text(json.dumps(golden))


def artifact_that_is_missing(folder: Path) -> None:
    (folder / "model.ubj").unlink()


def artifact_with_another_sha256(folder: Path) -> None:
    (folder / "model.ubj").write_bytes(b"another model")


def no_golden_samples(folder: Path) -> None:
    (folder / "golden.json").unlink()


def told(reports: Reports) -> Heartbeat:
    """Return a heartbeat that was sent after whatever has happened up to now."""
    reports.read()
    reports.heartbeat()
    return reports.heartbeat()


@pytest.mark.parametrize(
    "breaks",
    [
        pytest.param(golden_that_differs, id="golden samples that differ"),
        pytest.param(no_golden_samples, id="no golden samples"),
        pytest.param(artifact_that_is_missing, id="no model file"),
        pytest.param(artifact_with_another_sha256, id="another model file"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_told_and_the_others_are_served(
    embedded_app: Celery, tmp_path: Path, models: Path, breaks: Callable[[Path], None]
) -> None:
    breaks(models / "wine" / "1")
    with worker(tmp_path, MODEL_STORE=str(models)) as running:
        reports = Reports(embedded_app, running)
        assert code(run(embedded_app, reports, "breast_cancer")) is None
        assert code(run(embedded_app, reports, "wine")) is ErrorCode.MODEL_UNAVAILABLE
        beat = told(reports)
        assert beat.models == ("breast_cancer:1",)
        (problem,) = beat.problems
        assert problem.startswith("wine:1: ")
        assert code(run(embedded_app, reports, "breast_cancer")) is None


def test_a_file_that_is_no_model_is_told(embedded_app: Celery, tmp_path: Path, models: Path) -> None:
    """Its sha256 is as its manifest says."""
    write_release(models, "broken", artifact=b"no model")
    with worker(tmp_path, MODEL_STORE=str(models)) as running:
        reports = Reports(embedded_app, running)
        # On a slow machine the children are still at it: they serve once they have tried all.
        run(embedded_app, reports, "breast_cancer")
        beat = told(reports)
        assert beat.models == ("breast_cancer:1", "wine:1")
        assert [problem.partition(": ")[0] for problem in beat.problems] == ["broken:1"]


@pytest.mark.parametrize("how", ["segfault", "exit", "kill"])
def test_a_model_whose_loading_kills_is_told_and_the_others_are_served(
    broker_app: Celery, tmp_path: Path, models: Path, how: str
) -> None:
    """Damaged files do this to XGBoost. Every child dies of it, until it is known."""
    artifact = (models / "wine" / "1" / "model.ubj").read_bytes()
    places = f"worker.loading@{artifact[-64:].hex()}={how}*1000"
    with worker(tmp_path, MODEL_STORE=str(models), FAILPOINTS=places) as running:
        reports = Reports(broker_app, running)
        assert code(run(broker_app, reports, "breast_cancer")) is None
        assert code(run(broker_app, reports, "wine")) is ErrorCode.MODEL_UNAVAILABLE
        beat = told(reports)
        assert beat.models == ("breast_cancer:1",)
        (problem,) = beat.problems
        assert problem.startswith(f"wine:1: {troubles.DEADLY} processes died while they loaded it")
        assert code(run(broker_app, reports, "breast_cancer")) is None


def test_a_model_that_was_corrected_is_served_and_told_no_more(
    embedded_app: Celery, tmp_path: Path, models: Path, store: Path
) -> None:
    golden_that_differs(models / "wine" / "1")
    with worker(tmp_path, MODEL_STORE=str(models)) as running:
        reports = Reports(embedded_app, running)
        assert code(run(embedded_app, reports, "wine")) is ErrorCode.MODEL_UNAVAILABLE
        shutil.copy(store / "wine" / "1" / "golden.json", models / "wine" / "1" / "golden.json")
        assert code(run(embedded_app, reports, "wine")) is None
        beat = told(reports)
        assert (beat.models, beat.problems) == (("breast_cancer:1", "wine:1"), ())
