"""CSV that no spreadsheet runs."""

import csv
import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.steps.csv_text import escaped, lines

RUN = ["=1+1", "+a", "-", "-2+3", "@SUM(A1)", "\tx", "\r", "=", "-1.5.2", "+1e", "-1\n", "--1", "+1,5"]
LEFT = ["", "text", "'=1", " =1", "-1.5", "+3", "-2e-7", "-.5", "+1.", "1-1", None, "é", "-0"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_a_text_that_a_spreadsheet_would_run_gets_a_mark_and_a_number_none(kind: pa.DataType) -> None:
    table = pa.table({"t": pa.array(RUN + LEFT, kind)})
    assert escaped(table)["t"].to_pylist() == [f"'{text}" for text in RUN] + LEFT


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(5)])
def test_texts_that_are_called_bytes_are_marked_too(kind: pa.DataType) -> None:
    table = pa.table({"t": pa.array([b"=1+22", b"plain", b"-1.50", None], kind)})
    assert escaped(table)["t"].to_pylist() == [b"'=1+22", b"plain", b"-1.50", None]


def test_only_texts_are_marked() -> None:
    table = pa.table({"f": pa.array([-1.5, None]), "i": pa.array([-1, 2]), "n": pa.nulls(2)})
    assert escaped(table).equals(table)


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_lines_and_tables_are_marked_alike_and_a_line_is_one_line(texts: list[str]) -> None:
    written = lines([texts])
    assert (written.count(b"\n"), written[-1:]) == (1, b"\n")
    one_line = [" ".join(text.splitlines()) for text in texts]
    # A mark of its own for surrogates, which no UTF-8 has.
    expected = escaped(pa.table({"t": pa.array(one_line, pa.string())}))["t"].to_pylist()
    assert next(csv.reader(io.StringIO(written.decode(), newline=""))) == expected


def test_rows_are_numbers() -> None:
    assert lines([(12, "x", "a, b"), (-3, "=y", 'say "no"\nor not')]) == (b'12,x,"a, b"\n-3,\'=y,"say ""no"" or not"\n')
