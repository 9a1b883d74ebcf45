"""The columns of an output: those of the input that are kept, then what the model gives."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workers.datasets import DatasetError
from workers.manifest import Manifest

_TYPES = {"FP32": pa.float32(), "BYTES": pa.string()}


def outputs(manifest: Manifest) -> list[pa.Field]:
    """Return the columns that the model gives; one with several values a row becomes `name_0`, `name_1` …"""
    return [
        pa.field(name, _TYPES[tensor.datatype])
        for tensor in manifest.tensors(explain=False)
        for name in (
            [f"{tensor.name}_{i}" for i in range(int(np.prod(tensor.shape)))] if tensor.shape else [tensor.name]
        )
    ]


def check_names(keep: Sequence[str], manifest: Manifest) -> None:
    """Raise DatasetError for a column that is to be kept twice, or has the name of an output."""
    for name, times in Counter(keep).items():
        if times > 1:
            raise DatasetError(f"keep_columns names '{name}' twice")
    for field in outputs(manifest):
        if field.name in keep:
            raise DatasetError(
                f"keep_columns names '{field.name}', which is also an output of the model; "
                "rename the column in the data, or leave it out"
            )


def kept(table: pa.Table) -> pa.Table:
    """Return kept columns as parts hold them: alike in all parts, so without dictionaries and notes of their file."""
    columns = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    fields = [pa.field(name, column.type) for name, column in zip(table.column_names, columns, strict=True)]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def joined(table: pa.Table, manifest: Manifest, values: Iterable[pa.Array]) -> pa.Table:
    """Return the kept columns, and after them the outputs."""
    first = kept(table)
    return pa.Table.from_arrays([*first.columns, *values], schema=pa.schema([*first.schema, *outputs(manifest)]))


def nulls(manifest: Manifest, rows: int) -> list[pa.Array]:
    """Return the output columns of rows that none was predicted of."""
    return [pa.nulls(rows, field.type) for field in outputs(manifest)]


def predicted(manifest: Manifest, arrays: dict[str, Any], good: npt.NDArray[np.intp], rows: int) -> Iterator[pa.Array]:
    """Yield the output columns of `rows` rows: `arrays` are the outputs of the `good` ones, the others are null.

    A label is a text, or its position among the model's labels.
    """
    if not good.size:
        yield from nulls(manifest, rows)
        return
    mask = None
    if len(good) < rows:
        mask = np.ones(rows, dtype=bool)
        mask[good] = False
    labels = pa.array(manifest.output.labels, pa.string())
    for tensor in manifest.tensors(explain=False):
        values = np.asarray(arrays[tensor.name]).reshape(len(good), -1)
        kind = _TYPES[tensor.datatype]
        for i in range(values.shape[1]):
            column = np.ascontiguousarray(values[:, i])
            if mask is not None:
                column = np.zeros(rows, dtype=values.dtype)
                column[good] = values[:, i]
            if kind == pa.string() and values.dtype.kind == "i":
                yield labels.take(pa.array(column, mask=mask))
            else:
                yield pa.array(column, kind, mask=mask)
