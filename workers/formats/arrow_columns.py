"""From Arrow columns, as Arrow streams and Parquet files give them, to the internal matrix and back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workers.arrow_values import codes, is_number, is_text
from workers.formats import Invalid, Limits, Malformed, Matrix, checked, shown
from workers.formats.named_columns import column_fault, locate, positions
from workers.schema import MAX_FAULTS, Schema


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever pyarrow raises for bad data into Malformed."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise Malformed(f"the body is not {what} that can be read: {reason}") from error


def find_columns(schema: Schema, sent: pa.Schema, limits: Limits) -> list[int | None]:
    """Return where each of the schema's columns stands, as `positions` does.

    Raises Invalid for missing, unknown and repeated columns, and for types that the column doesn't take: a column of
    numbers takes integers, floats and booleans (0 and 1), one of categories texts, plain or as a dictionary.
    """
    order = positions(schema, sent.names, limits)
    faults = []
    for column, position in enumerate(order):
        if position is None:
            continue
        kind = sent.field(position).type
        texts = column in schema.categories
        if not (pa.types.is_null(kind) or (is_text(kind) if texts else is_number(kind))):
            name, expected = schema.names[column], "texts (utf8)" if texts else "numbers"
            reason = f"column '{name}': expected {expected}, got the type {shown(str(kind))}"
            faults.append(column_fault(name, reason))
    if faults:
        raise Invalid(*faults[:MAX_FAULTS])
    return order


def to_matrix(schema: Schema, table: pa.Table, order: list[int | None]) -> Matrix:
    """Return a table that was validated as the internal matrix; `order` is from `find_columns`. Raises Invalid."""
    values = np.full((table.num_rows, len(order)), np.nan)
    for column, position in enumerate(order):
        if position is None:
            continue
        data = table.column(position)
        if column in schema.categories:
            # The dictionaries of the chunks, of which there may be thousands, become one.
            values[:, column] = codes(pa.concat_arrays(data.chunks), schema.categories[column])
        else:
            values[:, column] = _numbers(data)
    return checked(schema, values, locate(schema))


def to_table(tensors: list[dict[str, Any]]) -> pa.Table:
    """Return the outputs as a table: float32, texts as utf8, lists of fixed size for several a row."""
    return pa.table({tensor["name"]: _to_array(tensor) for tensor in tensors})


def _to_array(tensor: dict[str, Any]) -> pa.Array:
    if tensor["datatype"] == "BYTES":
        array = pa.array(tensor["data"], pa.string())
    else:
        array = pa.array(np.array(tensor["data"], dtype=np.float32))
    for size in reversed(tensor["shape"][1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def _numbers(data: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    # Not safe=True, which refuses integers beyond 2**53: what the column takes is for the schema to say.
    values: npt.NDArray[np.float64] = data.cast(pa.float64(), safe=False).to_numpy()
    return values
