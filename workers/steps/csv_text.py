"""CSV as batches write it: UTF-8, commas, a line feed; no text in it is run by a spreadsheet."""

import csv
import io
import re
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

# A spreadsheet runs a cell that begins so, which may send the rest of the sheet elsewhere.
_FORMULA = "[=+@\t\r-]"
# Just a number runs nothing, and all columns of a CSV that was read are text: its -1.5 must stay -1.5.
_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"


def escaped(table: pa.Table) -> pa.Table:
    """Return the table with a ' before each text that a spreadsheet would run; null stays null."""
    for i, field in enumerate(table.schema):
        if is_text(field.type) or _is_bytes(field.type):
            table = table.set_column(i, field.name, _escaped(table.column(i)))
    return table


def is_text(kind: pa.DataType) -> bool:
    """Tell whether it is a type of texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    """Tell whether it is a type of bytes: old writers of Parquet don't say that their texts are some."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _escaped(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_fixed_size_binary(column.type):
        # With a mark it is longer.
        column = column.cast(pa.binary())
    if pa.types.is_string_view(column.type):
        # For which pyarrow has no search.
        column = column.cast(pa.large_string())
    runs = pc.match_substring_regex(column, f"^{_FORMULA}")
    if not pc.any(runs).as_py():
        return column
    runs = pc.and_(runs, pc.invert(pc.match_substring_regex(column, f"^{_NUMBER}$")))
    marked = pc.binary_join_element_wise(pa.scalar("'", column.type), column, pa.scalar("", column.type))
    return pc.if_else(runs, marked, column)


def lines(rows: Iterable[Iterable[str | int]]) -> bytes:
    """Return rows as CSV, each in one line: texts are escaped, and line breaks in them become spaces."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_cell(cell) for cell in row] for row in rows)
    return text.getvalue().encode(errors="replace")


def _cell(cell: str | int) -> str | int:
    if isinstance(cell, int):
        return cell
    one_line = " ".join(cell.splitlines())
    return f"'{one_line}" if re.match(_FORMULA, one_line) and not re.fullmatch(_NUMBER, one_line) else one_line
