"""The plan finds out beforehand what can be found out."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.unit.steps.batch import ROWS, Batch, left, stored, table
from workers.datasets import DatasetError, Input, read


def test_a_plan_has_rows_columns_files_ranges_and_the_outputs_place(trained_store: Path, theirs: Path) -> None:
    batch = Batch(trained_store, theirs / "rows.parquet", table())
    planned = batch.plan()
    assert set(planned) == {"rows", "columns", "files", "ranges", "output"}
    assert (planned["rows"], planned["columns"]) == (ROWS, ["id", "c", "a", "note", "b"])
    assert planned["output"] == "store://batches/1/output.parquet"
    first = 0
    for number, each in enumerate(planned["ranges"]):
        assert (each["number"], each["first"], set(each)) == (number, first, {"number", "first", "rows", "source"})
        first += each["rows"]
    assert first == ROWS
    assert batch.plan() == planned
    # Nothing is left of the trial.
    assert left(stored(batch.folder)) == []


def with_lists(kind: str) -> pa.Table:
    return table(10).append_column("tags", pa.array([[1]] * 10)).append_column("raw", pa.array([b"x"] * 10))


@pytest.mark.parametrize(
    ("work", "message"),
    [
        ({"keep": ["id", "label"]}, "keep_columns names 'label', which is also an output of the model"),
        ({"keep": ["nothing"]}, "nothing"),
        ({"output": {"uri": "file:///etc/output.csv", "format": "csv"}}, "none of the folders"),
        ({"output": {"uri": "store://batches/../x", "format": "csv"}}, r"'\.\.'"),
        ({"output": {"uri": "store://batches/2/output.csv", "format": "csv"}}, "in the system's own storage a batch"),
        ({"output": {"uri": "store://batches/1/work/x.csv", "format": "csv"}}, "in the system's own storage a batch"),
        ({"keep": ["tags"], "output": {"format": "csv"}}, "'tags' is of the type list.* can't be written as csv"),
        ({"chunk_rows": 0}, "chunk_rows"),
        ({"input": {"uri": "nowhere"}}, "nowhere"),
        ({"folder": "file:///tmp"}, "folder"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_can_not_come_to_a_good_end_is_refused(
    trained_store: Path, theirs: Path, work: dict[str, Any], message: str
) -> None:
    batch = Batch(trained_store, theirs / "rows.parquet", with_lists(""), **work)
    with pytest.raises(DatasetError, match=message):
        batch.plan()
    assert left(theirs) == ["rows.parquet"]


def test_lists_can_be_kept_in_parquet(trained_store: Path, theirs: Path) -> None:
    batch = Batch(trained_store, theirs / "rows.parquet", with_lists(""), keep=["tags", "raw"])
    assert batch.plan()["rows"] == 10


def test_a_place_that_is_taken_is_refused_and_what_is_there_stays(trained_store: Path, theirs: Path) -> None:
    taken = theirs / "output.csv"
    taken.write_text("mine")
    output = {"uri": f"file://{taken}", "format": "csv"}
    batch = Batch(trained_store, theirs / "rows.parquet", table(10), output=output)
    with pytest.raises(DatasetError, match=r"output\.csv: there is something already"):
        batch.plan()
    assert taken.read_text() == "mine"


def test_a_place_where_nothing_can_be_written_is_refused(trained_store: Path, theirs: Path) -> None:
    (theirs / "folder").mkdir()
    output = {"uri": f"file://{theirs}/folder", "format": "csv"}
    batch = Batch(trained_store, theirs / "rows.parquet", table(10), output=output)
    with pytest.raises(DatasetError, match="folder"):
        batch.plan()


def test_what_the_batch_wrote_itself_is_not_in_its_way(trained_store: Path, theirs: Path) -> None:
    output = {"uri": f"file://{theirs}/out/output.parquet", "format": "parquet"}
    batch = Batch(trained_store, theirs / "rows.parquet", table(), output=output)
    batch.all()
    batch.run = 2
    batch.plan()
    other = Batch(trained_store, theirs / "rows.parquet", table(), output=output, name="2")
    with pytest.raises(DatasetError, match="there is something already"):
        other.plan()


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv"])
@pytest.mark.parametrize("sample", [1, 50, 900, 1_000, ROWS, 2 * ROWS])
def test_a_rehearsal_has_the_first_rows_alone(trained_store: Path, theirs: Path, name: str, sample: int) -> None:
    batch = Batch(trained_store, theirs / name, table(), sample=sample)
    planned = batch.plan()
    assert planned["rows"] == min(sample, ROWS)
    assert [(each["number"], each["first"], each["rows"]) for each in planned["ranges"]] == [(0, 0, min(sample, ROWS))]
    source = planned["ranges"][0]["source"]
    blocks = read(Input(uri=f"file://{batch.path}"), planned["files"], source, batch.release.schema, ["id"])
    ids = [int(value) for block in blocks for value in block.kept["id"].to_pylist()]
    assert ids == list(range(min(sample, ROWS)))
