"""Batches with the workers' own steps on real files: the output is what the model says, row by row."""

import hashlib
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import xgboost
from django.test import override_settings
from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.batches import retention
from inference_portal.batches.advance import advance
from inference_portal.batches.carried import carried_from
from inference_portal.batches.models import Batch
from inference_portal.batches.services import Due, batch_rerun
from inference_portal.jobs.claims import mark_sent
from inference_portal.jobs.models import Job
from inference_portal.jobs.record import record_result
from inference_portal.store import model_store
from tests.integration import rows
from tests.integration.batches import LANES, Worker, caller, finish, make_batch
from workers import tasks
from workers.contract import Bundle, BundleResult, ErrorCode, JobItem, Run

pytestmark = pytest.mark.django_db
NAMES = [column.name for column in model_store().get("wine", "1").manifest.columns]


class RealWorker(Worker):
    """Does steps as a worker does them; what is `broken` breaks as it does elsewhere."""

    def work(self, most: int = 64) -> int:
        claims = rows.take(dict.fromkeys(LANES, most))
        for claimed in claims:
            mark_sent(claimed)
            (item,) = claimed.jobs
            job = Job.objects.get(id=item.id)
            record_result(self.result(job))
        return len(claims)

    def result(self, job: Job) -> BundleResult:
        number = str(bytes(job.input))
        broken = next((said for key, said in self.broken.items() if f'"number":{key},' in number and said), None)
        outcomes: Any
        if broken and job.step == "chunk":
            outcomes = (self.outcome(job),)
        else:
            bundle = Bundle(
                id="b",
                model=job.model,
                version=job.version,
                sha256=job.sha256,
                columns=1,
                jobs=(JobItem(str(job.id), job.attempt, job.rows),),
                data=bytes(job.input),
                step=job.step,
            )
            _, outcomes = tasks.run_step(Bundle.from_message(bundle.to_message()))
        now = time.time()
        run = Run("batch@host/7", "host", "cpu", now - 0.5, now, "xgboost")
        return BundleResult.from_message(BundleResult("b", run, tuple(outcomes)).to_message())


def table(count: int = 35, seed: int = 1) -> pa.Table:
    values = np.random.default_rng(seed).random((count, len(NAMES)), dtype=np.float32)
    columns: dict[str, Any] = {name: values[:, i] for i, name in enumerate(NAMES)}
    return pa.table({"id": np.arange(count) + 1000 * seed, **columns})


def predicted(data: pa.Table) -> Any:
    release = model_store().get("wine", "1")
    booster = xgboost.Booster(model_file=str(release.folder / "model.ubj"))
    matrix = np.column_stack([data[name].to_numpy() for name in NAMES])
    return booster.inplace_predict(matrix, strict_shape=True)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DATA_FOLDERS", str(tmp_path / "files"))
    (tmp_path / "files").mkdir()
    return tmp_path


def upload(storage: Path, team: Team, data: pa.Table, name: str = "rows.parquet") -> str:
    path = storage / "data" / "uploads" / str(team.id) / "x" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".csv"):
        pyarrow.csv.write_csv(data, path)
    else:
        pq.write_table(data, path, row_group_size=10)
    return f"store://uploads/{team.id}/x/{name}"


def output(storage: Path, batch: Batch) -> Path:
    return storage / "data" / "batches" / str(batch.id) / f"output.{batch.output['format']}"


def values(found: pa.Table) -> Any:
    return np.column_stack([found[f"probability_{n}"].to_numpy() for n in range(3)])


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv"])
def test_the_output_is_what_the_model_says(team: Team, storage: Path, name: str) -> None:
    data = table()
    batch = make_batch(team, input={"uri": upload(storage, team, data, name)}, keep_columns=["id"], chunk_rows=10)
    finish(batch, RealWorker())
    assert (batch.state, batch.error_message) == ("succeeded", "")
    path = output(storage, batch)
    found = pq.read_table(path)
    assert found["id"].cast(pa.int64()).to_pylist() == data["id"].to_pylist()
    assert np.array_equal(values(found), predicted(data))
    assert batch.receipt is not None
    assert batch.receipt["output"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sorted(p.name for p in path.parent.iterdir()) == ["merged.json", path.name]


def test_bad_rows_and_lost_chunks_are_null_and_told(team: Team, storage: Path) -> None:
    data = table()
    spoiled = data.set_column(1, NAMES[0], pa.array([1e9 if i == 3 else 1.0 for i in range(35)], pa.float32()))
    batch = make_batch(
        team, input={"uri": upload(storage, team, spoiled)}, keep_columns=["id"], retry_policy="none", chunk_rows=10
    )
    worker = RealWorker(broken={2: [ErrorCode.MODEL_ERROR]})
    finish(batch, worker)
    assert (batch.state, batch.rows_failed) == ("partial", 11)
    found = pq.read_table(output(storage, batch))
    nulls = [i for i in range(35) if found[found.column_names[1]][i].as_py() is None]
    assert nulls == [3, *range(20, 30)]
    assert found["id"].to_pylist() == data["id"].to_pylist()
    errors = output(storage, batch).with_name("errors.csv").read_text().splitlines()
    assert errors[0] == "row,column,reason" and len(errors) == 12
    # What failed is run again, with the parts of the attempt before.
    batch_rerun(batch_id=batch.id, caller=caller(team), retry_policy="partial")
    finish(batch, worker)
    assert (batch.state, batch.rows_failed, batch.attempt) == ("partial", 1, 2)
    again = pq.read_table(output(storage, batch))
    right = predicted(spoiled)
    keep = [i for i in range(35) if i != 3]
    assert np.array_equal(values(again)[keep], right[keep])


def test_a_run_of_all_after_the_file_was_corrected_replaces_the_output(team: Team, storage: Path) -> None:
    place = storage / "files" / "out.csv"
    uri = upload(storage, team, table(20))
    batch = make_batch(team, input={"uri": uri}, output={"uri": f"file://{place}", "format": "csv"}, chunk_rows=10)
    finish(batch, RealWorker())
    first = place.read_text()
    corrected = table(15, seed=2)
    upload(storage, team, corrected)
    batch_rerun(batch_id=batch.id, caller=caller(team), retry_policy="all")
    finish(batch, RealWorker())
    assert (batch.state, batch.rows_total, batch.error_message) == ("succeeded", 15, "")
    assert place.read_text() != first and len(place.read_text().splitlines()) == 16


def test_a_file_that_changes_during_the_run_fails_what_is_left(team: Team, storage: Path) -> None:
    batch = make_batch(team, input={"uri": upload(storage, team, table())}, max_attempts=1, chunk_rows=10)
    worker = RealWorker()
    worker.work()
    advance()
    worker.work(1)
    upload(storage, team, table(seed=3))
    finish(batch, worker)
    assert (batch.state, batch.rows_failed) == ("partial", 25)
    assert "changed" in batch.chunks.get(number=1).reason


@pytest.mark.parametrize("spoil", ["missing", "empty", "column"])
def test_what_is_wrong_with_the_data_is_told_before_any_row_is_predicted(team: Team, storage: Path, spoil: str) -> None:
    data = table()
    uri = upload(storage, team, data.drop_columns([NAMES[4]]) if spoil == "column" else data)
    if spoil == "missing":
        (storage / "data" / uri.removeprefix("store://")).unlink()
    if spoil == "empty":
        upload(storage, team, data.slice(0, 0))
    batch = finish(make_batch(team, input={"uri": uri}), RealWorker())
    assert (batch.state, batch.error_code, batch.chunks_total) == ("failed", "bad-data", 0)
    if spoil == "column":
        assert NAMES[4] in batch.error_message


def test_what_was_carried_over_is_at_the_end_of_the_output(team: Team, storage: Path) -> None:
    monday, tuesday = table(20, seed=1), table(15, seed=2)
    first = make_batch(
        team,
        input={"uri": upload(storage, team, monday, "monday.parquet")},
        keep_columns=["id"],
        retry_policy="none",
        chunk_rows=10,
    )
    finish(first, RealWorker(broken={0: [ErrorCode.MODEL_ERROR]}))
    due = Due(first.id, timezone.now(), carried_from(first))
    second = make_batch(
        team,
        input={"uri": upload(storage, team, tuesday, "tuesday.parquet")},
        keep_columns=["id"],
        retry_policy="none",
        due=due,
        chunk_rows=10,
    )
    finish(second, RealWorker())
    assert (second.state, second.rows_total) == ("succeeded", 25)
    found = pq.read_table(output(storage, second))
    both = pa.concat_tables([tuesday, monday.slice(0, 10)])
    assert found["id"].to_pylist() == both["id"].to_pylist()
    assert np.array_equal(values(found), predicted(both))


@override_settings(RESULT_RETENTION_HOURS=1.0)
def test_an_old_output_is_removed_with_its_folder_and_one_of_its_own_place_stays(team: Team, storage: Path) -> None:
    place = storage / "files" / "out.parquet"
    uri = upload(storage, team, table(5))
    for fields in ({}, {"output": {"uri": f"file://{place}"}}):
        finish(make_batch(team, input={"uri": uri}, **fields), RealWorker())
    Batch.objects.update(finished_at=timezone.now() - timedelta(hours=2))
    assert retention.forget() == 2
    RealWorker().work()
    assert list((storage / "data" / "batches").iterdir()) == []
    assert place.exists()
