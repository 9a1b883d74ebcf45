"""CSV: options, ranges, and rows with faults that leave the others alone."""

import csv
import gzip
import io
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.unit.datasets.conftest import Whole, whole
from workers.datasets import Input, csv_file, csv_text, planning
from workers.schema import UNKNOWN, Schema
from workers.template.columns import Column

Failing = Callable[..., str]
MIXED = Schema(
    (
        Column(name="n", type="int", missing=True),
        Column(name="c", type="category", categories=("x", "New York", "nan"), missing=True),
        Column(name="f", missing=True),
    )
)


def of(folder: Path, content: str | bytes, *args: Any, **options: Any) -> Whole:
    (folder / "x.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    return whole(folder / "x.csv", *args, **options)


def rows(got: Whole) -> list[list[float | None]]:
    return [[None if np.isnan(value) else float(value) for value in row] for row in got.values]


def test_rows_come_in_order_whatever_the_ranges_and_blocks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", 50)
    content = "id,a,b\n" + "".join(f'"r\n{i}",{i},-{i}\r\n' for i in range(100))
    got = of(folder, content, keep=["id", "b"], chunk_rows=30, batch_rows=3)
    assert got.ranges == [30, 30, 30, 10]
    assert max(got.blocks) <= 3
    np.testing.assert_array_equal(got.values, np.column_stack([np.arange(100), -np.arange(100)]))
    assert got.kept.to_pydict() == {"id": [f"r\n{i}" for i in range(100)], "b": [f"-{i}" for i in range(100)]}
    assert (got.plan.columns, got.faults) == (["id", "a", "b"], [])


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n\n", "\r\n\r\n"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_line_ends_at_the_end_mean_nothing(folder: Path, line_end: str, end: str) -> None:
    assert rows(of(folder, line_end.join(["a,b", "1,2", "3,"]) + end)) == [[1, 2], [3, None]]


def test_an_empty_line_is_a_missing_value_in_a_single_column_and_else_a_fault(folder: Path) -> None:
    assert rows(of(folder, "f\n1\n\n2\n\n", MIXED)) == [[None, None, 1], [None, None, None], [None, None, 2]]
    got = of(folder, "a,b\n1,2\n\r\n\n3,4\n")
    assert got.faults == [(1, "", "the line is empty"), (2, "", "the line is empty")]
    assert rows(got) == [[1, 2], [None, None], [None, None], [3, 4]]


def test_cells_are_read_as_the_wire_format_has_them(folder: Path) -> None:
    cells = ["1", " 2\t", "+3", "-4.5e-1", ".5", "6.", '"7"', "NaN", "nan", "", "1e-50"]
    got = of(folder, "a,b\n" + "".join(f"1,{cell}\n" for cell in cells))
    assert [row[1] for row in rows(got)][:6] == [1, 2, 3, np.float32(-0.45), 0.5, 6]
    assert [row[1] for row in rows(got)][6:] == [7, None, None, None, 0]
    got = of(folder, "a\n" + "".join(f"{value}\n" for value in ("inf", "-Infinity", "1e400", "1e39")))
    assert rows(got) == [[np.inf, None], [-np.inf, None], [np.inf, None], [np.inf, None]]


def test_texts_become_codes(folder: Path) -> None:
    got = of(folder, 'c\nx\n"New York"\n""\nX\nnan\n', MIXED, keep=["c"])
    assert [row[1] for row in rows(got)] == [0, 1, None, UNKNOWN, 2]
    assert got.kept.column("c").to_pylist() == ["x", "New York", None, "X", "nan"]
    assert [row[1] for row in rows(of(folder, "c\nx\nX\nnan\n", MIXED))] == [0, UNKNOWN, 2]


@pytest.mark.parametrize("keep", [[], ["id"], ["id", "n", "f"]])
def test_a_bad_row_fails_alone(folder: Path, keep: list[str]) -> None:
    lines = ["1,x,1.5,i0", "2,x,oops,i1", "3,x", "4.5,x,1,i3", "5,x,1,i4,more", "", "6,x,1_0,i6", "x,x,y,i7", "8,,,i8"]
    got = of(folder, "n,c,f,id\n" + "\n".join(lines) + "\n", MIXED, keep)
    assert got.faults == [
        (1, "f", "expected a number, got 'oops'"),
        (2, "", "expected 4 values, got 2"),
        (3, "n", "expected a whole number of at most 16,777,216 in size, got 4.5"),
        (4, "", "expected 4 values, got 5"),
        (5, "", "the line is empty"),
        (6, "f", "expected a number, got '1_0'"),
        (7, "n", "expected a number, got 'x'"),
    ]
    assert rows(got) == [[1, 0, 1.5], *[[None] * 3] * 7, [8, None, None]]
    if keep:
        assert got.kept.column("id").to_pylist() == ["i0", "i1", None, "i3", None, None, "i6", "i7", "i8"]
    if "f" in keep:
        assert got.kept.column("f").to_pylist() == ["1.5", "oops", None, "1", None, None, "1_0", "y", None]


def test_a_carriage_return_in_the_middle_fails_its_line_alone(folder: Path) -> None:
    content = "a,b\n" + "".join(f"{i},{i}\n" for i in range(20)) + "20,\r20\n21,21\n"
    got = of(folder, content, keep=["b"])
    assert got.faults == [(20, "", "the line can't be read as 2 values; is there a CR that ends no line?")]
    assert got.kept.column("b").to_pylist() == [*map(str, range(20)), None, "21"]
    assert rows(got)[-1] == [21, 21]


def test_large_whole_numbers_are_faults(folder: Path) -> None:
    got = of(folder, "n\n16777216\n16777217\n-16777217\n1e300\n", MIXED)
    assert [row for row, _, _ in got.faults] == [1, 2, 3]
    assert rows(got)[0][0] == 2**24


def test_options(folder: Path) -> None:
    assert rows(of(folder, "a;b\n1;'2'\n", delimiter=";", quote="'")) == [[1, 2]]
    assert rows(of(folder, "a\tb\n1\t2\n", delimiter="\t")) == [[1, 2]]
    assert rows(of(folder, "1,2\n3,4\n", header=False)) == [[1, 2], [3, 4]]
    got = of(folder, 'a,id\n1,"x\n2,y"\n', quote="", keep=["id"])
    assert got.kept.column("id").to_pylist() == ['"x', 'y"']


@pytest.mark.parametrize("header", [True, False])
def test_a_mark_at_the_start_is_none_of_the_name(folder: Path, header: bool) -> None:
    content = ('"a",b\n' if header else "") + '"1",2\n3,4\n'
    assert rows(of(folder, b"\xef\xbb\xbf" + content.encode(), header=header)) == [[1, 2], [3, 4]]


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "utf-8-sig", "utf-16-le", "shift_jis"])
def test_encodings(folder: Path, encoding: str) -> None:
    text = "a,id\n" + "".join(f"{i},é\n" if encoding != "shift_jis" else f"{i},日\n" for i in range(1000))
    got = of(folder, text.encode(encoding), keep=["id"], encoding=encoding, chunk_rows=300)
    assert set(got.kept.column("id").to_pylist()) == {"é" if encoding != "shift_jis" else "日"}
    assert (got.ranges, got.faults, got.values[999, 0]) == ([300, 300, 300, 100], [], 999)


def gzipped(content: bytes) -> bytes:
    half = len(content) // 2
    return gzip.compress(content[:half]) + gzip.compress(content[half:])


def zstandard_(content: bytes) -> bytes:
    half = len(content) // 2
    pack = zstandard.ZstdCompressor(write_checksum=True).compress
    return pack(content[:half]) + pack(content[half:])


@pytest.mark.parametrize("name", ["x.csv.gz", "x.csv.zst", "x.csv"])
def test_packed_files_are_unpacked_once(folder: Path, failing: Failing, name: str) -> None:
    content = "a,b\n" + "".join(f"{i},{i}\n" for i in range(100_000))
    pack = zstandard_ if name.endswith("zst") else gzipped
    packed = pack(content.encode())
    (folder / name).write_bytes(packed)
    got = whole(folder / name, chunk_rows=30_000)
    assert got.ranges == [30_000] * 3 + [10_000]
    np.testing.assert_array_equal(got.values[:, 0], np.arange(100_000))
    spool = Path(os.environ["DATA_DIR"]) / "spool"
    assert [path.read_bytes() for path in spool.iterdir()] == [content.encode()]
    assert [file[0] for file in got.plan.files][0] == f"file://{folder}/{name}"
    assert len(got.plan.files) == 2
    for size in (len(packed) - 1, len(packed) - 20, 50):
        (folder / name).write_bytes(packed[:size])
        assert failing(folder / name).startswith(f"{name} ends in the middle: the ")
    (folder / name).write_bytes(packed[:200] + bytes(20) + packed[220:])
    assert f"{name} is not " in failing(folder / name)
    assert len(list(spool.iterdir())) == 1


def test_a_folder_may_hold_plain_and_packed_files(folder: Path, failing: Failing) -> None:
    (folder / "a=1").mkdir()
    (folder / "a=2").mkdir()
    (folder / "a=1" / "x.csv").write_text("b\n5\n6\n")
    (folder / "a=2" / "x.csv.gz").write_bytes(gzip.compress(b"b\n7"))
    got = whole(folder, keep=["a"])
    assert rows(got) == [[1, 5], [1, 6], [2, 7]]
    assert got.ranges == [3]
    assert got.kept.column("a").to_pylist() == ["1", "1", "2"]
    (folder / "a=2" / "x.csv.gz").write_bytes(gzip.compress(b"b,c\n7,8"))
    assert failing(folder).endswith("not both have the columns 'c'")


@pytest.mark.parametrize(
    ("content", "options", "reason"),
    [
        (b"", {}, "x.csv is empty"),
        (b"\n", {}, "x.csv: the first line is empty"),
        (b"a,b\n", {}, " has no rows"),
        (b"a,b", {}, " has no rows"),
        (b"a,b\n\r\n\n", {}, " has no rows"),
        (b"b,c\n1,2\n", {}, "x.csv: the column 'a' is missing; it has 'b', 'c'"),
        (b"a,b,b\n1,2,3\n", {}, "x.csv: the column 'b' is there twice"),
        (b"a\n1\n", {"keep": ["z"]}, "x.csv: the column 'z', which is to be kept, is missing; it has 'a'"),
        (b"1,2,3\n", {"header": False}, "the columns are the model's 2, the first line has 3"),
        (b"a,b\n1,2\n3", {}, "x.csv ends in the middle of row 1 (from 0), with 1 of 2 values and no line end"),
        (b'a,b\n1,2\n3,"4\n5,6\n', {}, "x.csv ends in the middle of row 1 (from 0), inside of quotes"),
        (b'"a,b\n1,2\n', {}, "x.csv: the first line doesn't end"),
        (b"a,b\r1,2\r", {}, "lines end in LF or CRLF"),
        (b"a,b\n1,2\n3,\xe9\n", {}, "x.csv is not utf-8: unexpected end of data, the byte 0xe9 near row 1 (from 0)"),
        (b"a,b\n1,2\n3,\xe94\n5,6\n", {}, "x.csv is not utf-8: invalid continuation byte, the byte 0xe9 near row 1"),
        (b"a,\xe9\n1,2\n", {}, "x.csv: the first line is not utf-8"),
        (b"a,b\n1,\x81\n", {"encoding": "cp1252"}, "x.csv is not cp1252, soon after line 1: "),
        (b"a,b\n1,2", {"encoding": "utf-16"}, "x.csv is not utf-16"),
        (b"a,b" + b",z" * 100_000 + b"\n1,2\n", {}, "x.csv has 100,002 columns; at most 100,000 are read"),
        (b"a,b,z\0\n1,2,3\n", {}, "x.csv: the name of a column, or of a folder, has a NUL in it: 'z\\x00'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    folder: Path, failing: Failing, content: bytes, options: dict[str, Any], reason: str
) -> None:
    (folder / "x.csv").write_bytes(content)
    assert reason in failing(folder / "x.csv", **options)


def test_a_data_set_has_only_so_many_files(folder: Path, failing: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MAX_FILES", 2)
    for number in range(3):
        (folder / f"{number}.csv").write_text("a,b\n1,2\n")
    assert failing(folder).endswith("has 3 files; at most 2 can be one data set")


@pytest.mark.parametrize("packed", [gzip.compress, zstandard.compress])
def test_a_small_file_that_stands_for_very_much_is_not_unpacked(
    folder: Path, failing: Failing, monkeypatch: pytest.MonkeyPatch, packed: Any
) -> None:
    (folder / "x.csv.gz").write_bytes(packed(b"a,b\n" + b"0,0\n" * 1_000_000))
    monkeypatch.setattr(csv_text, "FREE_BYTES", 1_000_000)
    assert "bytes unpacked, 200 times of its own size" in failing(folder / "x.csv.gz", chunk_rows=1_000_000)
    assert not [path for path in folder.parent.rglob("*") if path.is_file() and path.name != "x.csv.gz"]
    monkeypatch.setattr(csv_text, "FREE_BYTES", 10_000_000)
    assert whole(folder / "x.csv.gz", chunk_rows=1_000_000).plan.rows == 1_000_000


def test_a_line_without_an_end_is_not_taken_into_memory(
    folder: Path, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_file, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", 100)
    monkeypatch.setattr(csv_file, "HEAD_BYTES", 100)
    (folder / "x.csv").write_text("a,b\n1,2\n3," + "4" * 2000 + "\n5,6\n")
    assert "row 1 (from 0) doesn't end; are its quotes closed?" in failing(folder / "x.csv")
    (folder / "x.csv").write_text("a," + "b" * 2000)
    assert "the first line doesn't end" in failing(folder / "x.csv")


@pytest.mark.parametrize(
    "wrong",
    [
        {"delimiter": ""},
        {"delimiter": ",,"},
        {"delimiter": "\n"},
        {"delimiter": "é"},
        {"quote": ","},
        {"quote": '""'},
        {"encoding": "klingon"},
        {"encoding": "zip"},
        {"encoding": "base64"},
        {"format": "xlsx"},
        {"delimeter": ";"},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Input(uri="store://x.csv", **wrong)


CELL = st.text(alphabet='1.5e- ,"\nx\r\t', max_size=6)


@given(st.lists(st.lists(CELL, min_size=1, max_size=3), min_size=1, max_size=12), st.booleans(), st.integers(1, 40))
def test_rows_are_those_of_the_csv_module(table: list[list[str]], crlf: bool, step: int) -> None:
    text = io.StringIO(newline="")
    # Python 3.11 doesn't see that a CR needs quotes where lines end in LF.
    quoting = csv.QUOTE_MINIMAL if crlf else csv.QUOTE_ALL
    writer = csv.writer(text, lineterminator="\r\n" if crlf else "\n", quoting=quoting)
    writer.writerows([["a", "id"], *table, ["0", "end"]])
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_FOLDERS", name)
        patch.setattr(csv_file, "BLOCK_BYTES", step)
        got = of(Path(name), text.getvalue(), Schema((Column(name="a", missing=True),)), ["id", "a"], chunk_rows=4)
    expected = [*table, ["0", "end"]]
    faults = {row: (column, reason) for row, column, reason in got.faults}
    for row, (cells, kept) in enumerate(zip(expected, got.kept.to_pylist(), strict=True)):
        if len(cells) != 2:
            assert faults[row][0] == ""
            continue
        assert kept == {"id": cells[1] or None, "a": cells[0] or None}
        number = None
        with suppress(ValueError):
            number = float(cells[0]) if cells[0] else np.nan
        if number is None or "\n" in cells[0] or "\r" in cells[0]:
            assert row in faults
        else:
            np.testing.assert_array_equal(got.values[row, 0], np.float32(number))


NUMBER = st.one_of(
    st.floats(width=32).map(repr),
    st.floats().map(repr),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.text(alphabet="+-.0123456789eEinfaxNI_ ", max_size=7),
)


@given(st.lists(NUMBER, min_size=1, max_size=5))
def test_a_bad_cell_changes_nothing_of_the_others(cells: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_FOLDERS", name)
        alone = [of(Path(name), f"a,b\n{cell},1\n") for cell in cells]
        together = of(Path(name), "a,b\n" + "".join(f"{cell},1\n" for cell in [*cells, "bad"]))
    np.testing.assert_array_equal(together.values[:-1], np.concatenate([each.values for each in alone]))
    assert [row for row, _, _ in together.faults] == [*(i for i, each in enumerate(alone) if each.faults), len(cells)]
