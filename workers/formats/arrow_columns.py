"""From Arrow columns, as Arrow streams and Parquet files give them, to the internal matrix and back."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from workers.formats import Invalid, Limits, Malformed, Matrix, checked, shown
from workers.formats.named_columns import column_fault, locate, positions
from workers.schema import MAX_FAULTS, UNKNOWN, Schema


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever pyarrow raises for bad data into Malformed."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise Malformed(f"the body is not {what} that can be read: {reason}") from error


def find_columns(schema: Schema, sent: pa.Schema, limits: Limits) -> list[int]:
    """Return where each of the schema's columns stands. Raises Invalid for missing, unknown and repeated columns.

    And for types that the column doesn't take: a column of numbers takes integers, floats and booleans (0 and 1), one
    of categories texts, plain or as a dictionary.
    """
    order = positions(schema, sent.names, limits)
    faults = []
    for column, position in enumerate(order):
        kind = sent.field(position).type
        is_text = column in schema.categories
        if not (pa.types.is_null(kind) or (_is_text(kind) if is_text else _is_number(kind))):
            name, expected = schema.names[column], "texts (utf8)" if is_text else "numbers"
            reason = f"column '{name}': expected {expected}, got the type {shown(str(kind))}"
            faults.append(column_fault(name, reason))
    if faults:
        raise Invalid(*faults[:MAX_FAULTS])
    return order


def to_matrix(schema: Schema, table: pa.Table, order: list[int]) -> Matrix:
    """Return a table that was validated as the internal matrix; `order` is from `find_columns`. Raises Invalid."""
    values = np.empty((table.num_rows, len(order)), dtype=np.float64)
    for column, position in enumerate(order):
        data = table.column(position)
        values[:, column] = _codes(schema, column, data) if column in schema.categories else _numbers(data)
    return checked(schema, values, locate(schema))


def to_table(tensors: list[dict[str, Any]]) -> pa.Table:
    """Return the outputs as a table: float32, a list of fixed size for several values a row, texts as utf8."""
    return pa.table({tensor["name"]: _to_array(tensor) for tensor in tensors})


def _to_array(tensor: dict[str, Any]) -> pa.Array:
    if tensor["datatype"] == "BYTES":
        return pa.array(tensor["data"], pa.string())
    flat = pa.array(np.array(tensor["data"], dtype=np.float32))
    return flat if len(tensor["shape"]) == 1 else pa.FixedSizeListArray.from_arrays(flat, tensor["shape"][1])


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _numbers(data: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    # Not safe=True, which refuses integers beyond 2**53: what the column takes is for the schema to say.
    values: npt.NDArray[np.float64] = data.cast(pa.float64(), safe=False).to_numpy()
    return values


def _codes(schema: Schema, column: int, data: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """Return the codes of texts, all by Arrow: a dictionary may hold millions, and there may be thousands of chunks."""
    if pa.types.is_null(data.type):
        return np.full(len(data), np.nan)
    # The chunks' dictionaries become one.
    array = pa.concat_arrays(data.chunks)
    texts = array.dictionary if pa.types.is_dictionary(array.type) else array
    known = pa.array(schema.categories[column], texts.type)
    codes = pc.index_in(texts, value_set=known).cast(pa.float64()).fill_null(UNKNOWN)
    codes = pc.if_else(texts.is_null(), np.nan, codes)
    if texts is not array:
        codes = codes.take(array.indices)
    result: npt.NDArray[np.float64] = codes.to_numpy(zero_copy_only=False)
    return result
