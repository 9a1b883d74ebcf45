"""Parquet and Arrow: files, folders, and what is wrong with them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.datasets.conftest import SCHEMA, whole
from workers.datasets import DatasetError, Input, plan, read
from workers.schema import UNKNOWN, Schema
from workers.template.columns import Column

Failing = Callable[..., str]


def arrow_file(table: pa.Table, path: Path, rows: int | None = None) -> None:
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table, rows)


def arrow_stream(table: pa.Table, path: Path, rows: int | None = None) -> None:
    with pa.ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table, rows)


def parquet(table: pa.Table, path: Path, rows: int | None = None) -> None:
    pq.write_table(table, path, row_group_size=rows)


WRITERS = {"parquet": parquet, "arrow": arrow_file, "ipc": arrow_stream}
every_writer = pytest.mark.parametrize("ending", WRITERS)


def numbered(rows: int, **more: Any) -> pa.Table:
    a = np.arange(rows, dtype=np.float32)
    return pa.table({"id": [f"r{i}" for i in range(rows)], "a": a, "b": -a, **more})


@every_writer
def test_rows_come_in_order_whatever_the_ranges_and_blocks(folder: Path, ending: str) -> None:
    table = numbered(1000)
    WRITERS[ending](table, folder / f"x.{ending}", 300)
    got = whole(folder / f"x.{ending}", keep=["id", "a"], chunk_rows=130, batch_rows=50)
    assert got.ranges == [130] * 7 + [90]
    assert max(got.blocks) == 50
    assert got.kept.equals(table.select(["id", "a"]))
    np.testing.assert_array_equal(got.values, np.column_stack([np.arange(1000), -np.arange(1000)]))
    assert got.values.flags.c_contiguous
    assert (got.plan.columns, got.plan.rows, got.faults) == (["id", "a", "b"], 1000, [])
    assert got.plan.files[0][:2] == [f"file://{folder}/x.{ending}", os.path.getsize(folder / f"x.{ending}")]


KINDS = {
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
    "int8": np.int8,
    "int64": np.int64,
    "uint64": np.uint64,
}


@every_writer
@pytest.mark.parametrize("kind", KINDS)
def test_each_type_of_number_is_read_with_and_without_nulls(folder: Path, ending: str, kind: str) -> None:
    values = np.array([0, 1, 100], dtype=KINDS[kind])
    table = pa.table({"a": values, "b": pa.array([0, None, 100], getattr(pa, kind)())})
    WRITERS[ending](table, folder / f"x.{ending}")
    np.testing.assert_array_equal(whole(folder / f"x.{ending}").values, [[0, 0], [1, np.nan], [100, 100]])


@every_writer
def test_booleans_are_numbers_and_null_columns_missing(folder: Path, ending: str) -> None:
    WRITERS[ending](pa.table({"a": [True, None, False], "b": pa.nulls(3)}), folder / f"x.{ending}")
    np.testing.assert_array_equal(whole(folder / f"x.{ending}").values, [[1, np.nan], [np.nan, np.nan], [0, np.nan]])


@every_writer
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
@pytest.mark.parametrize("keep", [["c"], []])
def test_texts_become_codes(folder: Path, ending: str, kind: pa.DataType, keep: list[str]) -> None:
    schema = Schema((Column(name="c", type="category", categories=("x", "y"), missing=True),))
    texts = ["y", None, "x", "z"]
    WRITERS[ending](pa.table({"c": pa.array(texts).cast(kind)}), folder / f"x.{ending}", 3)
    got = whole(folder / f"x.{ending}", schema, keep)
    np.testing.assert_array_equal(got.values[:, 0], [1, np.nan, 0, UNKNOWN])
    if keep:
        assert got.kept.column("c").to_pylist() == texts


@every_writer
def test_defaults_stand_for_missing_values_and_columns(folder: Path, ending: str) -> None:
    schema = Schema(
        (
            Column(name="a", default=7.0),
            Column(name="left out", default=8.0),
            Column(name="c", type="category", categories=("x", "y"), default="y"),
            Column(name="missing", missing=True),
        )
    )
    WRITERS[ending](pa.table({"a": [None, 1.0], "c": ["x", None]}), folder / f"x.{ending}")
    np.testing.assert_array_equal(whole(folder / f"x.{ending}", schema).values, [[7, 8, 0, np.nan], [1, 8, 1, np.nan]])


@pytest.mark.parametrize("values", [[1.0, 16_777_217.0, 2.5, -3.0000000001, 2], [1, 2**24 + 1, 2**62, -(2**60), 2]])
def test_whole_numbers_are_seen_before_float32_hides_what_they_are(folder: Path, values: list[Any]) -> None:
    schema = Schema((Column(name="n", type="int"), Column(name="b")))
    parquet(pa.table({"n": values, "b": np.arange(5.0)}), folder / "x.parquet")
    got = whole(folder / "x.parquet", schema)
    assert [(row, column) for row, column, _ in got.faults] == [(1, "n"), (2, "n"), (3, "n")]
    assert got.faults[0][2] == "expected a whole number of at most 16,777,216 in size, got 1.67772e+07"
    np.testing.assert_array_equal(got.values[[0, 4]], [[1, 0], [2, 4]])
    assert np.isnan(got.values[1:4]).all()


def test_what_float32_cannot_hold_is_infinity_for_the_schema_to_refuse(folder: Path) -> None:
    parquet(pa.table({"a": [1e300, 1.0]}), folder / "x.parquet")
    assert whole(folder / "x.parquet").values[0, 0] == np.inf


@every_writer
def test_a_folder_is_read_file_by_file_and_ranges_span_them(folder: Path, ending: str) -> None:
    table = numbered(70)
    for number in range(7):
        WRITERS[ending](table.slice(number * 10, 10), folder / f"part-{number}.{ending}")
    (folder / "_SUCCESS").touch()
    got = whole(folder, keep=["id"], chunk_rows=25)
    assert got.ranges == [25, 25, 20]
    assert got.kept.column("id").equals(table.column("id"))
    np.testing.assert_array_equal(got.values[:, 0], np.arange(70))


def test_the_folders_of_a_partitioned_data_set_are_columns(folder: Path) -> None:
    schema = Schema(
        (
            Column(name="a"),
            Column(name="year", type="int"),
            Column(name="city", type="category", categories=("New York", "Rome"), missing=True),
        )
    )
    table = pa.table({"a": [1.0, 2.0, 3.0], "year": [2023, 2023, 2024], "city": ["Rome", "New York", None]})
    pq.write_to_dataset(table, folder, partition_cols=["year", "city"])
    got = whole(folder, schema, ["city", "year", "a"])
    rows = sorted(zip(got.values.tolist(), got.kept.to_pylist(), strict=True), key=lambda row: row[0][0])
    assert [row for row, _ in rows][:2] == [[1, 2023, 1], [2, 2023, 0]]
    assert np.isnan(rows[2][0][2])
    assert [row for _, row in rows] == [
        {"city": "Rome", "year": "2023", "a": 1},
        {"city": "New York", "year": "2023", "a": 2},
        {"city": None, "year": "2024", "a": 3},
    ]
    assert got.plan.columns == ["a", "year", "city"]


def test_a_folders_name_that_is_no_number_is_found(folder: Path, failing: Failing) -> None:
    (folder / "a=x").mkdir()
    parquet(pa.table({"b": [1.0]}), folder / "a=x" / "x.parquet")
    assert failing(folder) == "a=x/x.parquet: the column 'a': expected a number in the folder's name, got 'x'"


@every_writer
@pytest.mark.parametrize(
    ("columns", "keep", "reason"),
    [
        ({"b": [1.0]}, [], "the column 'a' is missing; it has 'b'"),
        ({"A": [1.0]}, ["k"], "the column 'a' is missing; the column 'k', which is to be kept, is missing; it has 'A'"),
        ({"a": ["1"], "b": [[1]]}, [], "the column 'a': expected numbers, got the type string; the column 'b': expect"),
        ({"a": [1.0]}, ["a", "a"], "the column 'a' is to be kept twice"),
    ],
)
def test_wrong_columns_are_named(
    folder: Path, failing: Failing, ending: str, columns: dict[str, Any], keep: list[str], reason: str
) -> None:
    WRITERS[ending](pa.table(columns), folder / f"x.{ending}")
    assert failing(folder / f"x.{ending}", keep=keep).startswith(f"x.{ending}: {reason}")


@every_writer
def test_numbers_are_no_categories(folder: Path, failing: Failing, ending: str) -> None:
    schema = Schema((Column(name="c", type="category", categories=("1",)),))
    WRITERS[ending](pa.table({"c": [1]}), folder / f"x.{ending}")
    assert failing(folder / f"x.{ending}", schema) == f"x.{ending}: the column 'c': expected texts, got the type int64"


@every_writer
def test_repeated_columns_are_refused_where_they_are_needed(folder: Path, failing: Failing, ending: str) -> None:
    array = pa.array([1.0, 2.0])
    WRITERS[ending](pa.table([array] * 3, names=["a", "x", "x"]), folder / f"x.{ending}")
    assert whole(folder / f"x.{ending}").values[:, 0].tolist() == [1, 2]
    WRITERS[ending](pa.table([array] * 2, names=["a", "a"]), folder / f"y.{ending}")
    assert failing(folder / f"y.{ending}") == f"y.{ending}: the column 'a' is there twice"


@every_writer
def test_a_file_that_ends_in_the_middle_is_found_by_the_plan(folder: Path, failing: Failing, ending: str) -> None:
    path = folder / f"x.{ending}"
    WRITERS[ending](numbered(1000), path, 100)
    content = path.read_bytes()
    for size in (0, 1, 7, 100, len(content) // 2, len(content) - 8, len(content) - 1):
        path.write_bytes(content[:size])
        assert "is not a whole" in failing(path) or "is no whole" in failing(path)


@every_writer
def test_no_rows_are_an_error(folder: Path, failing: Failing, ending: str) -> None:
    WRITERS[ending](numbered(0), folder / f"x.{ending}")
    assert failing(folder) == " has no rows"
    WRITERS[ending](numbered(3), folder / f"y.{ending}")
    assert whole(folder).plan.rows == 3


def test_an_empty_folder_and_unknown_names_are_errors(folder: Path, failing: Failing) -> None:
    assert failing(folder) == " has no files"
    (folder / "x.txt").write_text("a\n1\n")
    assert failing(folder).startswith("x.txt: the name doesn't say the format")
    (folder / "a.csv").write_text("a\n1\n")
    assert failing(folder).startswith("x.txt: the name")
    (folder / "x.txt").unlink()
    parquet(numbered(1), folder / "b.parquet")
    assert failing(folder) == "b.parquet: the first file of the folder is csv, this one isn't"


def test_files_whose_columns_differ_are_found(folder: Path, failing: Failing) -> None:
    parquet(pa.table({"a": [1.0], "b": [1.0]}), folder / "1.parquet")
    parquet(pa.table({"b": [1.0], "a": [1.0]}), folder / "2.parquet")
    assert whole(folder).plan.rows == 2
    parquet(pa.table({"a": [1.0]}), folder / "3.parquet")
    said = failing(folder).replace(f"file://{folder}/", "")
    assert said == "3.parquet has other columns than 1.parquet: not both have the columns 'b'"
    parquet(pa.table({"a": [1], "b": [1.0]}), folder / "3.parquet")
    assert failing(folder) == "3.parquet: the column 'a' has the type int64, in 1.parquet it is double"


@every_writer
def test_a_file_that_changed_is_not_read(folder: Path, ending: str) -> None:
    path = folder / f"x.{ending}"
    WRITERS[ending](numbered(100), path)
    data = Input(uri=f"file://{path}")
    planned = plan(data, SCHEMA, [], 50, "store://spool")
    spooled = ending == "ipc"
    assert len(planned.files) == (2 if spooled else 1)
    used = next((Path(os.environ["DATA_DIR"]) / "spool").iterdir()) if spooled else path

    def rows(range_: int) -> int:
        return sum(len(b.values) for b in read(data, planned.files, planned.ranges[range_].source, SCHEMA, []))

    assert rows(0) == 50
    os.utime(used, ns=(0, 1))
    with pytest.raises(DatasetError, match="changed while the run was going on"):
        rows(1)
    used.unlink()
    with pytest.raises(DatasetError, match="changed while the run was going on"):
        rows(1)


def test_a_file_that_changes_while_it_is_read_is_found(folder: Path) -> None:
    path = folder / "x.parquet"
    parquet(numbered(100), path)
    data = Input(uri=f"file://{path}")
    planned = plan(data, SCHEMA, [], 100, "store://spool")
    with pytest.raises(DatasetError, match="changed while the run was going on"):
        for _ in read(data, planned.files, planned.ranges[0].source, SCHEMA, []):
            os.utime(path, ns=(0, 1))


def test_damage_inside_a_file_is_an_error_of_its_range(folder: Path) -> None:
    path = folder / "x.parquet"
    pq.write_table(numbered(1000), path, row_group_size=500, compression="zstd", write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[100:200] = bytes(100)
    path.write_bytes(content)
    data = Input(uri=f"file://{path}")
    planned = plan(data, SCHEMA, ["id"], 500, "store://spool")
    with pytest.raises(DatasetError, match="x.parquet is not a Parquet file that can be read"):
        list(read(data, planned.files, planned.ranges[0].source, SCHEMA, ["id"]))
    assert len(list(read(data, planned.files, planned.ranges[1].source, SCHEMA, ["id"]))) == 1


def test_a_model_without_required_columns_still_needs_one(folder: Path, failing: Failing) -> None:
    schema = Schema((Column(name="b", missing=True),))
    parquet(pa.table({"x": [1.0]}), folder / "x.parquet")
    assert failing(folder, schema) == "x.parquet: there is no column of the model's, such as 'b'"


def test_streams_keep_dictionaries_that_are_replaced(folder: Path) -> None:
    schema = Schema((Column(name="c", type="category", categories=("x", "y")),))
    one, two = (pa.table({"c": pa.array(texts).dictionary_encode()}) for texts in (["x", "y"], ["y", "x"]))
    with pa.ipc.new_stream(folder / "x.arrow", one.schema) as stream:
        stream.write_table(one)
        stream.write_table(two)
    got = whole(folder / "x.arrow", schema, ["c"], chunk_rows=3)
    assert got.values[:, 0].tolist() == [0, 1, 1, 0]
    assert got.kept.column("c").to_pylist() == ["x", "y", "y", "x"]


def test_record_batches_that_no_worker_could_hold_are_refused(
    folder: Path, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.datasets.arrow_file.MAX_BATCH_VALUES", 100)
    arrow_file(numbered(51), folder / "x.arrow")
    assert failing(folder) == "x.arrow has a record batch of 51 rows; write at most 50 in each"
    arrow_file(numbered(51), folder / "x.arrow", 50)
    assert whole(folder).plan.rows == 51


@every_writer
def test_any_column_can_be_kept(folder: Path, ending: str) -> None:
    schema = Schema((Column(name="a.b"),))
    kept = pa.table({"l": [[1], [2, 3]], "s": [{"x": 1}, None], "t": pa.array([1, None], pa.timestamp("us", "UTC"))})
    WRITERS[ending](kept.append_column("a.b", [[1.0, 2.0]]), folder / f"x.{ending}")
    got = whole(folder / f"x.{ending}", schema, ["t", "l", "s"], chunk_rows=1)
    assert got.kept.to_pylist() == kept.select(["t", "l", "s"]).to_pylist()
    assert got.values[:, 0].tolist() == [1, 2]


@every_writer
def test_texts_that_are_no_utf8_are_an_error(folder: Path, ending: str) -> None:
    texts = pa.array([b"\xff", b"x"]).view(pa.string())
    WRITERS[ending](pa.table({"a": [1.0, 2.0], "id": texts}), folder / f"x.{ending}")
    with pytest.raises(DatasetError, match="Invalid UTF8"):
        whole(folder / f"x.{ending}", keep=["id"])
    assert whole(folder / f"x.{ending}").plan.rows == 2
