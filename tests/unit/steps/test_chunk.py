"""A chunk: its predictions are those of the Booster, and a bad row fails alone."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.builders import OUTPUTS, train_tiny
from tests.unit.steps.batch import ROWS, Batch, changed, left, matrix, stored, table
from workers.datasets import DatasetError
from workers.steps import chunk
from workers.steps.writers import PART_KINDS
from workers.template.layout import MAX_COLUMNS

NAN = float("nan")


def part(batch: Batch, number: int) -> Path:
    return stored(f"{batch.folder}/work/{batch.run}/part-{number:06d}.{PART_KINDS[batch.format]}")


def rows_of(batch: Batch, number: int) -> pa.Table:
    return pa.ipc.open_stream(part(batch, number).read_bytes()).read_all()


def errors(batch: Batch, number: int) -> list[list[str]]:
    with stored(f"{batch.folder}/work/{batch.run}/errors-{number:06d}.csv").open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize(("model", "names"), [("two", 1), ("three", 3), ("number", 1)])
@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv"])
def test_all_parts_together_are_to_the_bit_what_the_booster_gives(
    trained_store: Path, theirs: Path, model: str, names: int, name: str
) -> None:
    batch = Batch(trained_store, theirs / name, table(), model=model)
    assert batch.plan()["rows"] == ROWS
    found = [batch.chunk(number) for number in range(len(batch.planned["ranges"]))]
    assert sum(each["rows"] for each in found) == ROWS
    assert [each["failed"] for each in found] == [0] * len(found)
    whole = pa.concat_tables([rows_of(batch, number) for number in range(len(found))])
    got = np.column_stack([whole.column(1 + i).to_numpy() for i in range(names)])
    np.testing.assert_array_equal(got, batch.raw)
    assert [str(value) for value in whole["id"].to_pylist()] == [str(value) for value in range(ROWS)]
    labels = OUTPUTS[model].get("labels")
    if labels:
        index = batch.raw.argmax(axis=1) if names > 1 else (batch.raw[:, 0] >= 0.5).astype(int)
        assert whole["label"].to_pylist() == [labels[i] for i in index]
    assert not [path for path in left(stored(batch.folder)) if "part-" not in path]


def test_bad_rows_fail_alone_each_with_its_number_column_and_reason(trained_store: Path, theirs: Path) -> None:
    data = changed(table(), "c", {700: 101, 1399: NAN, 705: -np.inf})
    data = changed(data, "a", {705: NAN, 800: np.inf, 2000: NAN})
    batch = Batch(trained_store, theirs / "rows.parquet", data)
    batch.plan()
    assert batch.chunk(1)["failed"] == 4
    assert errors(batch, 1) == [
        ["700", "c", "101 is outside the range -100 to 100"],
        ["705", "a", "a value is required, this column may not be missing"],
        ["800", "a", "expected a finite number that fits float32"],
        ["1399", "c", "a value is required, this column may not be missing"],
    ]
    found = rows_of(batch, 1)
    bad = [0, 5, 100, 699]
    good = np.delete(np.arange(700), bad)
    assert found["id"].to_pylist() == list(range(700, 1400))
    for name in ("probability", "label"):
        assert [row for row, value in enumerate(found[name].to_pylist()) if value is None] == bad
    alone = batch.booster.inplace_predict(matrix(data)[700:1400][good])
    np.testing.assert_array_equal(found["probability"].to_numpy()[good], alone)


def test_a_chunk_may_fail_whole(trained_store: Path, theirs: Path) -> None:
    batch = Batch(trained_store, theirs / "rows.parquet", changed(table(10), "a", dict.fromkeys(range(10), NAN)))
    batch.plan()
    result = batch.chunk(0)
    assert (result["rows"], result["failed"], len(errors(batch, 0))) == (10, 10, 10)
    found = rows_of(batch, 0)
    assert [found[name].null_count for name in ("id", "probability", "label")] == [0, 10, 10]
    assert str(found.schema.field("probability").type) == "float"


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A store whose model takes logarithms of two columns."""
    train_tiny(
        tmp_path / "store",
        "logs",
        OUTPUTS["number"],
        columns=[{"name": name, "missing": True} for name in "abc"],
        preprocessing=[{"step": "log", "columns": ["a", "c"]}, {"step": "scale", "columns": ["b"], "scale": 1e-38}],
    )
    return tmp_path / "store"


def test_rows_that_pre_processing_refuses_fail_alone(logs: Path, theirs: Path) -> None:
    data = table()
    for name in ("a", "c"):
        data = data.set_column(data.column_names.index(name), name, pa.array(np.abs(data[name].to_numpy()) + 0.1))
    data = data.set_column(4, "b", pa.array(np.zeros(ROWS, np.float32)))
    data = changed(changed(changed(data, "a", {3: -1, 9: 0}), "c", {3: -2, 5: -2}), "b", {9: 1e3, 11: 1e3, 12: NAN})
    batch = Batch(logs, theirs / "rows.parquet", data, model="logs", keep=[])
    batch.plan()
    assert batch.chunk(0)["failed"] == 4
    assert errors(batch, 0) == [
        ["3", "a", "step 0 (log) makes no finite number of -1"],
        ["5", "c", "step 0 (log) makes no finite number of -2"],
        ["9", "a", "step 0 (log) makes no finite number of 0"],
        ["11", "b", "step 1 (scale) makes no finite number of 1000"],
    ]
    values = matrix(data)[:700].astype(np.float64)
    with np.errstate(all="ignore"):
        features = np.column_stack([np.log(values[:, 0]), values[:, 1] / 1e-38, np.log(values[:, 2])])
        expected = batch.booster.inplace_predict(features.astype(np.float32))
    good = np.delete(np.arange(700), [3, 5, 9, 11])
    np.testing.assert_array_equal(rows_of(batch, 0)["value"].to_numpy()[good], expected[good])


def test_many_blocks_give_what_one_gives(trained_store: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = changed(table(), "a", {10: NAN, 99: NAN, 100: NAN, 699: NAN})
    batch = Batch(trained_store, theirs / "rows.parquet", data)
    batch.plan()
    one, first = batch.chunk(0), rows_of(batch, 0)
    lines = errors(batch, 0)
    monkeypatch.setattr(chunk, "BLOCK_ROWS", 100)
    many = batch.chunk(0)
    assert (many["rows"], many["failed"]) == (one["rows"], one["failed"]) == (700, 4)
    assert len(rows_of(batch, 0).to_batches()) > 1
    assert rows_of(batch, 0).equals(first)
    assert errors(batch, 0) == lines


def test_blocks_of_wide_rows_are_short(trained_store: Path) -> None:
    manifest = Batch.release_of(trained_store, "two").manifest
    assert chunk.block_rows(manifest) == chunk.BLOCK_ROWS
    wide = manifest.model_copy(
        update={
            "columns": tuple(
                manifest.columns[0].model_copy(update={"name": f"c{number}"}) for number in range(MAX_COLUMNS)
            )
        }
    )
    assert chunk.block_rows(wide) == chunk.BLOCK_VALUES // MAX_COLUMNS


def test_twice_gives_the_same_bytes(trained_store: Path, theirs: Path) -> None:
    batch = Batch(trained_store, theirs / "rows.parquet", changed(table(), "a", {5: NAN}))
    batch.plan()
    first = batch.chunk(0), part(batch, 0).read_bytes(), errors(batch, 0)
    assert (batch.chunk(0), part(batch, 0).read_bytes(), errors(batch, 0)) == first


@pytest.mark.parametrize("change", [{"rows": 699}, {"rows": 701}])
def test_another_number_of_rows_than_planned_is_an_error_and_leaves_nothing(
    trained_store: Path, theirs: Path, change: dict[str, Any]
) -> None:
    batch = Batch(trained_store, theirs / "rows.parquet", changed(table(), "a", {5: NAN}))
    batch.plan()
    with pytest.raises(DatasetError, match="700 were read, and there were"):
        batch.step("chunk", batch.chunk_work(0) | change)
    assert left(stored(batch.folder)) == []


def test_a_file_that_changed_is_an_error(trained_store: Path, theirs: Path) -> None:
    batch = Batch(trained_store, theirs / "rows.parquet", table())
    batch.plan()
    pq.write_table(table(ROWS - 1), batch.path)
    with pytest.raises(DatasetError, match="changed"):
        batch.chunk(0)
    assert left(stored(batch.folder)) == []


def test_cells_that_are_no_numbers_fail_their_row(trained_store: Path, theirs: Path) -> None:
    batch = Batch(trained_store, theirs / "rows.csv", table(20))
    text = batch.path.read_text().splitlines()
    text[4] = "3,one,2,3,4"
    text[6] = "5,1"
    batch.path.write_text("\n".join(text) + "\n")
    batch.plan()
    assert batch.chunk(0)["failed"] == 2
    assert [(row, column) for row, column, _ in errors(batch, 0)] == [("3", "c"), ("5", "")]
    expected = np.delete(batch.raw[:, 0], [3, 5])
    got = rows_of(batch, 0)["probability"].to_numpy()
    np.testing.assert_array_equal(np.delete(got, [3, 5]), expected)


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv"])
def test_texts_are_codes_defaults_are_filled_in_and_an_unknown_text_fails_its_row(
    tmp_path: Path, theirs: Path, name: str
) -> None:
    pet = {"name": "b", "type": "category", "categories": ["cat", "dog", "eel"]}
    columns = [{"name": "a", "default": 2.5}, pet, {"name": "c", "type": "int", "missing": True}]
    train_tiny(tmp_path / "store", "pets", OUTPUTS["three"], columns=columns)
    data = pa.table(
        {
            "b": ["eel", "cat", "cow", None, "dog", "eel"],
            "a": pa.array([1, None, 3, 4, None, 6], pa.float64()),
            "c": pa.array([1, 2, 3, 4, None, 2**24 + 1], pa.int64()),
        }
    )
    batch = Batch(tmp_path / "store", theirs / name, data, model="pets", keep=["b"])
    batch.plan()
    assert batch.chunk(0)["failed"] == 3
    assert [(row, column) for row, column, _ in errors(batch, 0)] == [("2", "b"), ("3", "b"), ("5", "c")]
    assert errors(batch, 0)[0][2] == "expected one of 'cat', 'dog', 'eel'"
    given = np.array([[1, 2, 1], [2.5, 0, 2], [2.5, 1, NAN]], np.float32)
    found = rows_of(batch, 0)
    got = np.column_stack([found[f"probability_{i}"].to_numpy()[[0, 1, 4]] for i in range(3)])
    np.testing.assert_array_equal(got, batch.booster.inplace_predict(given, strict_shape=True))
    assert found["b"].to_pylist()[:3] == ["eel", "cat", "cow"]
