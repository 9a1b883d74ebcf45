"""CSV (RFC 4180): a header row with the columns' names, then a line a row; UTF-8, with or without a mark at its start.

A cell is a number with a decimal point or one of the column's texts; an empty one, and NaN, is a missing value.
"""

import csv
import io
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np

from workers.formats import (
    MAX_VALUES,
    Decoded,
    Fault,
    Invalid,
    Limits,
    Malformed,
    Matrix,
    TooLarge,
    UnknownType,
    cell_detail,
    check_size,
    checked,
)
from workers.formats.named_columns import locate, positions
from workers.model_store import Release
from workers.schema import MAX_FAULTS, Schema

NAME = "csv"
CHARSETS = ("utf-8", "utf8", "us-ascii")


def check_parameters(parameters: dict[str, str]) -> None:
    """Raise UnknownType where the media type's parameters ask for another reading than the one that there is."""
    charset = parameters.get("charset", "utf-8")
    if charset.lower() not in CHARSETS:
        raise UnknownType(f"CSV in the charset '{charset}' isn't read here; send UTF-8")
    if parameters.get("header", "present").lower() != "present":
        raise UnknownType("CSV without a header row isn't read here; send the columns' names in the first line")


def decode(release: Release, body: bytes, limits: Limits) -> Decoded:
    """Decode a table. Raises Malformed, Invalid, TooLarge."""
    # One line end or several at the end mean nothing; an empty line before is a row without values.
    content = io.TextIOWrapper(io.BytesIO(body.rstrip(b"\r\n")), encoding="utf-8-sig", newline="")
    reader = csv.reader(content, strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise Malformed("the body is empty; expected a header row with the columns' names")
        return Decoded(_matrix(release.schema, header, reader, limits), NAME)
    except csv.Error as error:
        raise Malformed(f"the body is not CSV: line {reader.line_num}: {error}") from error
    except UnicodeDecodeError as error:
        raise Malformed(f"the body is not UTF-8: {error.reason}, soon after line {reader.line_num + 1}") from error


def encode(tensors: list[dict[str, Any]]) -> bytes:
    """Return a table of the outputs; one of several values a row has a column for each: `name_0`, `name_0_3`."""
    header: list[str] = []
    columns: list[list[Any]] = []
    for tensor in tensors:
        name, shape, data = tensor["name"], tensor["shape"], tensor["data"]
        places = list(np.ndindex(*shape[1:]))
        header += ["_".join(map(str, (name, *place))) for place in places]
        columns += [data[i :: len(places)] for i in range(len(places))]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue().encode()


def _matrix(schema: Schema, header: list[str], rows: Iterator[list[str]], limits: Limits) -> Matrix:
    order = positions(schema, header, limits)
    values = array("d")
    faults: list[Fault] = []
    count = 0
    # One request may have fewer rows of many columns.
    most = min(limits.rows, MAX_VALUES // len(order))
    for row, cells in enumerate(rows):
        if row >= most:
            raise TooLarge(f"more than the {most:,} rows of {len(order):,} columns that one request may have")
        count += 1
        if len(cells) != len(header):
            faults.append(Fault(f"/{row}", f"row {row}: expected {len(header)} values, got {len(cells)}"))
        else:
            try:
                values.extend([_value(schema, column, _cell(cells, at)) for column, at in enumerate(order)])
            except ValueError:
                faults += _cell_faults(schema, row, [_cell(cells, at) for at in order])
        if len(faults) >= MAX_FAULTS:
            break
    if faults:
        raise Invalid(*faults[:MAX_FAULTS])
    check_size(schema, count, limits, "")
    return checked(schema, np.frombuffer(values).reshape(count, len(order)), locate(schema))


def _cell(cells: list[str], at: int | None) -> str:
    return "" if at is None else cells[at]


def _value(schema: Schema, column: int, cell: str) -> float:
    """Return a cell's number or what stands for its text. Raises ValueError."""
    if not cell:
        return np.nan
    if column in schema.categories:
        return schema.code(column, cell)
    # Python would read 1_000 and the digits of every script.
    if "_" in cell or not cell.isascii():
        raise ValueError(cell)
    return float(cell)


def _cell_faults(schema: Schema, row: int, cells: list[str]) -> list[Fault]:
    faults = []
    where = locate(schema)
    for column, cell in enumerate(cells):
        try:
            _value(schema, column, cell)
        except ValueError:
            shown = cell if len(cell) <= 30 else cell[:30] + "…"
            detail = cell_detail(schema, row, column, f"expected a number, got '{shown}'")
            faults.append(Fault(where(row, column), detail))
            if len(faults) >= MAX_FAULTS:
                break
    return faults
