"""A step as a worker does it: from the message's bundle to the outcome that is recorded."""

from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest

from tests.unit.steps.batch import ROWS, Batch, changed, left, stored, table
from workers import tasks
from workers.contract import Bundle, ErrorCode, JobItem, Outcome
from workers.loaded_models import LoadedModels
from workers.model_store import ModelStore


@pytest.fixture(autouse=True)
def worker(monkeypatch: pytest.MonkeyPatch, trained_store: Path) -> LoadedModels:
    """A worker whose store holds the tiny models."""
    models = LoadedModels(ModelStore(trained_store))
    monkeypatch.setattr(tasks, "_models", models)
    return models


@pytest.fixture
def batch(trained_store: Path, theirs: Path) -> Batch:
    return Batch(trained_store, theirs / "rows.parquet", changed(table(), "a", {5: float("nan")}))


def done(batch: Batch, step: str, work: dict[str, Any], **changes: Any) -> tuple[tasks.Engine, Outcome]:
    """Do a step as it arrives: as a message."""
    fields: dict[str, Any] = {
        "id": "b",
        "model": "two",
        "version": "1",
        "sha256": batch.release.manifest.sha256,
        "columns": 3,
        "jobs": (JobItem("job", 2, 700),),
        "data": orjson.dumps(work),
        "step": step,
    }
    bundle = Bundle.from_message(orjson.loads(orjson.dumps(Bundle(**fields | changes).to_message())))
    engine, (outcome,) = tasks.run_step(bundle)
    assert (outcome.id, outcome.attempt) == ("job", 2)
    return engine, outcome


def result(outcome: Outcome) -> dict[str, Any]:
    assert outcome.outputs is not None, outcome.failure
    found: dict[str, Any] = orjson.loads(outcome.outputs)
    return found


def test_a_batch_goes_through_all_its_steps(batch: Batch, worker: LoadedModels) -> None:
    engine, outcome = done(batch, "plan", batch.work)
    batch.planned = result(outcome)
    assert (engine, worker.bytes) == (tasks.Engine(), 0)
    for number in range(len(batch.planned["ranges"])):
        engine, outcome = done(batch, "chunk", batch.chunk_work(number))
        assert (engine.device, result(outcome)["failed"]) == ("cpu", int(number == 0))
    engine, outcome = done(batch, "merge", batch.merge_work({}))
    receipt = result(outcome)
    assert (engine, receipt["rows"], receipt["failed"]) == (tasks.Engine(), ROWS, 1)
    assert pq.read_table(stored(receipt["uri"])).num_rows == ROWS
    assert result(done(batch, "clean", {"folder": batch.folder}, model="gone")[1]) == {}
    assert left(stored(batch.folder)) == ["errors.csv", "merged.json", "output.parquet"]


@pytest.mark.parametrize("step", ["plan", "chunk", "merge"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "none"}, "none version 1: no model 'none' is served here"),
        ({"sha256": "ab"}, "two version 1: sha256 here is .*, the job was accepted for ab"),
    ],
    ids=["unknown", "replaced"],
)
def test_a_release_that_is_not_there_may_be_there_later(
    batch: Batch, step: str, changes: dict[str, Any], message: str
) -> None:
    _, outcome = done(batch, step, {}, **changes)
    assert outcome.failure is not None
    assert outcome.failure.code is ErrorCode.MODEL_UNAVAILABLE
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(outcome.failure.message)


def test_what_is_wrong_with_the_data_is_bad_data_without_a_traceback(batch: Batch) -> None:
    for step, work in (("plan", batch.work | {"keep": ["label"]}), ("chunk", {}), ("other", {})):
        _, outcome = done(batch, step, work)
        assert outcome.failure is not None
        assert (outcome.failure.code, outcome.failure.traceback) == (ErrorCode.BAD_DATA, "")
