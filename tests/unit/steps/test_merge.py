"""The output: whole, in order, the same each time, and with what failed told."""

import csv
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.steps.batch import ROWS, Batch, changed, left, stored, table
from workers.datasets import DatasetError
from workers.steps import merge, whole

NAN = float("nan")
BAD = {700: NAN, 1500: NAN, 4999: NAN}


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def check(receipt: dict[str, Any], path: Path) -> None:
    """The receipt is of this file."""
    content = path.read_bytes()
    assert (receipt["bytes"], receipt["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_the_output_has_the_inputs_rows_in_their_order(trained_store: Path, theirs: Path) -> None:
    batch = Batch(trained_store, theirs / "rows.parquet", table(), keep=["note", "id"])
    receipt = batch.all()
    path = stored("store://batches/1/output.parquet")
    check(receipt, path)
    assert receipt == receipt | {"uri": batch.planned["output"], "rows": ROWS, "failed": 0, "errors": None}
    found = pq.read_table(path)
    assert found.column_names == ["note", "id", "probability", "label"]
    assert found["note"].equals(batch.data["note"])
    np.testing.assert_array_equal(found["probability"].to_numpy(), batch.raw[:, 0])
    assert pq.ParquetFile(path).num_row_groups == 1
    assert not stored("store://batches/1/errors.csv").exists()


def test_rows_and_chunks_that_failed_are_null_and_each_row_has_its_reason(trained_store: Path, theirs: Path) -> None:
    batch = Batch(trained_store, theirs / "rows.parquet", changed(table(), "a", BAD))
    receipt = batch.all({1: 'the worker "died"\nof it'})
    lost = batch.planned["ranges"][1]
    gone = range(lost["first"], lost["first"] + lost["rows"])
    failed = sorted({*BAD, *gone})
    path = stored("store://batches/1/output.parquet")
    check(receipt, path)
    check(receipt["errors"], stored(receipt["errors"]["uri"]))
    found = pq.read_table(path)
    assert found["id"].to_pylist() == list(range(ROWS))
    for name in ("probability", "label"):
        assert [row for row, value in enumerate(found[name].to_pylist()) if value is None] == failed
    good = np.delete(np.arange(ROWS), failed)
    np.testing.assert_array_equal(found["probability"].to_numpy()[good], batch.raw[good, 0])
    lines = rows_of(stored("store://batches/1/errors.csv"))
    reason = "a value is required, this column may not be missing"
    assert lines[0] == ["row", "column", "reason"]
    assert lines[1:] == [
        [str(row), "", 'the worker "died" of it'] if row in gone else [str(row), "a", reason] for row in failed
    ]
    assert receipt["failed"] == receipt["errors"]["rows"] == len(failed)


@pytest.mark.parametrize("failed", [{}, {0: "lost"}, {2: "lost", 3: "lost"}], ids=["none", "the first", "two"])
def test_a_csv_has_the_same_rows_and_runs_nothing(trained_store: Path, theirs: Path, failed: dict[int, str]) -> None:
    notes: dict[int, Any] = {0: "=1+1", 1: 'a "b", c', 2: "two\nlines", 3: "", 4: None, 5: "-1.5", 6: "@x"}
    data = changed(changed(table(), "note", notes), "a", BAD)
    batch = Batch(trained_store, theirs / "rows.parquet", data, keep=["note", "b", "id"], output={"format": "csv"})
    receipt = batch.all(failed)
    path = stored("store://batches/1/output.csv")
    check(receipt, path)
    head, *rows = rows_of(path)
    assert head == ["note", "b", "id", "probability", "label"]
    assert len(rows) == receipt["rows"] == ROWS
    assert [row[0] for row in rows[:8]] == ["'=1+1", 'a "b", c', "two\nlines", "", "", "-1.5", "'@x", "text 7"]
    assert [int(row[2]) for row in rows] == list(range(ROWS))
    lost = {
        row
        for number in failed
        for each in [batch.planned["ranges"][number]]
        for row in range(each["first"], each["first"] + each["rows"])
    }
    assert {number for number, row in enumerate(rows) if row[3] == ""} == lost | set(BAD)
    good = [number for number, row in enumerate(rows) if row[3]]
    np.testing.assert_array_equal([np.float32(rows[number][3]) for number in good], batch.raw[good, 0])
    assert receipt["failed"] == ROWS - len(good)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("keep", [[], ["note"]])
def test_twice_gives_the_same_bytes_in_the_same_place(
    trained_store: Path, theirs: Path, kind: str, keep: list[str]
) -> None:
    output = {"uri": f"file://{theirs}/output.{kind}", "format": kind}
    batch = Batch(trained_store, theirs / "rows.parquet", changed(table(), "a", BAD), keep=keep, output=output)
    receipt = batch.all({2: "lost"})
    path = theirs / f"output.{kind}"
    content, changed_at = path.read_bytes(), path.stat().st_mtime_ns
    assert batch.merge({2: "lost"}) == receipt
    assert path.stat().st_mtime_ns == changed_at
    # As if it had been killed before it appeared.
    path.unlink()
    assert batch.merge({2: "lost"}) == receipt
    assert path.read_bytes() == content


def test_two_workers_may_merge_at_the_same_time(trained_store: Path, theirs: Path) -> None:
    output = {"uri": f"file://{theirs}/output.parquet", "format": "parquet"}
    batch = Batch(trained_store, theirs / "rows.parquet", changed(table(), "a", BAD), output=output)
    first = batch.all({1: "lost"})
    (theirs / "output.parquet").unlink()
    stored(f"{batch.folder}/merged.json").unlink()
    with ThreadPoolExecutor(4) as pool:
        receipts = [each.result() for each in [pool.submit(batch.merge, {1: "lost"}) for _ in range(4)]]
    assert receipts == [first] * 4
    check(first, theirs / "output.parquet")
    assert left(theirs) == ["output.parquet", "rows.parquet"]
    assert [name for name in left(stored(batch.folder)) if not name.startswith("work/")] == [
        "errors.csv",
        "merged.json",
    ]


def test_a_merge_that_is_late_replaces_nothing_of_a_later_attempt(
    trained_store: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = Batch(trained_store, theirs / "x.parquet", table())
    batch.all()
    late, later = batch.merge_work({1: "broke"}) | {"attempt": 1}, batch.merge_work({}) | {"attempt": 2}
    write_whole, results = merge.write_whole, []

    def overtaken(*args: Any) -> None:
        write_whole(*args)
        monkeypatch.setattr(merge, "write_whole", write_whole)
        results.append(batch.step("merge", later))

    monkeypatch.setattr(merge, "write_whole", overtaken)
    with pytest.raises(DatasetError, match="attempt 2 of the batch has written its output"):
        batch.step("merge", late)
    output = stored(batch.planned["output"])
    assert hashlib.sha256(output.read_bytes()).hexdigest() == results[0]["sha256"]
    assert not (output.parent / "errors.csv").exists()
    assert batch.step("merge", later) == results[0]


def test_a_batch_that_runs_again_replaces_its_own_output_and_nobody_elses(trained_store: Path, theirs: Path) -> None:
    output = {"uri": f"file://{theirs}/output.parquet", "format": "parquet"}
    batch = Batch(trained_store, theirs / "rows.parquet", table(), output=output)
    first = batch.all({1: "lost"})
    batch.chunk(1)
    second = batch.merge()
    check(second, theirs / "output.parquet")
    assert (first["failed"], second["failed"], second["errors"]) == (700, 0, None)
    assert rows_of(stored("store://batches/1/errors.csv")) == [["row", "column", "reason"]]
    (theirs / "output.parquet").write_text("somebody else's")
    with pytest.raises(DatasetError, match="there is something already"):
        batch.merge()
    assert (theirs / "output.parquet").read_text() == "somebody else's"
    assert left(theirs) == ["output.parquet", "rows.parquet"]


def test_a_part_that_is_missing_or_short_is_an_error_and_nothing_appears(trained_store: Path, theirs: Path) -> None:
    batch = Batch(trained_store, theirs / "rows.parquet", table())
    batch.plan()
    for number in range(1, len(batch.planned["ranges"])):
        batch.chunk(number)
    with pytest.raises(DatasetError, match=r"part-000000\.arrow: there is no such file"):
        batch.merge()
    batch.chunk(0)
    short = batch.merge_work({})
    short["parts"][0]["rows"] -= 1
    with pytest.raises(DatasetError, match="part 1 begins with row 700, and row 699 is the next one"):
        batch.step("merge", short)
    path = stored(f"{batch.folder}/work/1/part-000000.arrow")
    with pa.ipc.open_stream(path.read_bytes()) as whole, pa.ipc.new_stream(path, whole.schema) as short:
        short.write_table(whole.read_all().slice(1))
    with pytest.raises(DatasetError, match="has 699 rows instead of 700"):
        batch.merge()
    assert [name for name in left(stored(batch.folder)) if not name.startswith("work/")] == []


def test_where_a_failed_chunk_can_not_be_read_again_its_kept_cells_are_null(trained_store: Path, theirs: Path) -> None:
    batch = Batch(trained_store, theirs / "rows.parquet", table(), keep=["note", "id"])
    batch.plan()
    for number in range(1, len(batch.planned["ranges"])):
        batch.chunk(number)
    batch.path.unlink()
    receipt = batch.merge({0: "the file is gone"})
    found = pq.read_table(stored(batch.planned["output"]))
    assert (receipt["rows"], receipt["failed"], found.num_rows) == (ROWS, 700, ROWS)
    assert [found[name].null_count for name in found.column_names] == [700] * 4
    assert found["id"].to_pylist()[700:] == list(range(700, ROWS))
    every = batch.merge(dict.fromkeys(range(len(batch.planned["ranges"])), "the file is gone"))
    assert (every["rows"], every["failed"]) == (ROWS, ROWS)


def test_row_groups_are_neither_many_nor_large(
    trained_store: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = Batch(trained_store, theirs / "rows.parquet", table(), keep=["note"])
    monkeypatch.setattr(whole, "GROUP_ROWS", 1500)
    batch.all()
    found = pq.ParquetFile(stored(batch.planned["output"]))
    sizes = [found.metadata.row_group(i).num_rows for i in range(found.num_row_groups)]
    assert sum(sizes) == ROWS
    assert all(1500 <= size < 1500 + 700 for size in sizes[:-1])
    assert found.read(["note"])["note"].equals(batch.data["note"])
