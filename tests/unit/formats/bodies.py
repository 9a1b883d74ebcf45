"""A small table with a column of each kind, as a body of each wire format."""

import io
import json
import struct
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.builders import release
from workers.formats import Decoded, Invalid, Limits, media
from workers.formats.media import Sent
from workers.model_store import Release

MAX_ROWS = 100
LIMITS = Limits(rows=MAX_ROWS, columns=1_000)
# As the portal has them.
WIDE = Limits(rows=10_000, columns=10_000)
RELEASE = release(
    columns=[
        {"name": "a", "range": [-100, 100]},
        {"name": "b/~", "missing": True},
        {"name": "n", "type": "int"},
        {"name": "c", "type": "category", "categories": ["red", "green", "blue"], "missing": True},
    ]
)
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
BINARY, NPY = "application/octet-stream", "application/x-npy"


class Body(NamedTuple):
    """One request to a model; `codings` only where Content-Encoding is what is tried."""

    sent: Sent
    data: bytes
    codings: tuple[str, ...] = ()
    release: Release = RELEASE


def decode(body: Body) -> Decoded:
    return media.decode(body.release, body.sent, body.data, LIMITS)


def faults(body: Body) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        decode(body)
    return [(fault.pointer, fault.detail) for fault in caught.value.faults]


def rows(count: int = 3) -> list[dict[str, Any]]:
    return [
        {"a": 1.5 * i, "b/~": None if i % 2 else -2.5, "n": i, "c": ["red", "green", None][i % 3]} for i in range(count)
    ]


def table(count: int = 3) -> pa.Table:
    return pa.Table.from_pylist(
        rows(count), pa.schema({"a": pa.float32(), "b/~": pa.float64(), "n": pa.int64(), "c": pa.string()})
    )


def as_stream(data: pa.Table, chunk: int | None = None, **options: Any) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, data.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(data, chunk)
    return sink.getvalue()


def shared_schema(fields: int, length: int) -> bytes:
    """The schema of an Arrow stream whose fields all are one table in its FlatBuffer, with a name of that length."""
    first = pa.field("x" * length, pa.float64())
    data = bytearray(pa.schema([first, *[pa.field("y", pa.float64())] * (fields - 1)]).serialize().to_pybytes())

    def follow(at: int) -> int:
        return at + int(struct.unpack_from("<I", data, at)[0])

    def field(table: int, number: int) -> int:
        vtable = table - struct.unpack_from("<i", data, table)[0]
        return table + int(struct.unpack_from("<H", data, vtable + 4 + 2 * number)[0])

    places = follow(field(follow(field(follow(8), 2)), 1))
    table = follow(places + 4)
    for at in range(places + 4, places + 4 + 4 * fields, 4):
        struct.pack_into("<I", data, at, table - at)
    return bytes(data)


def growing_dictionary(batches: int) -> bytes:
    """An Arrow stream whose dictionary gets one text more before each batch (a delta)."""
    texts = pa.array(["red", "green", "blue", *map(str, range(batches))])
    numbers = [pa.array([1.0])] * 3
    schema = pa.schema([*((name, pa.float64()) for name in ("a", "b/~", "n")), ("c", pa.dictionary(pa.int32(), "str"))])
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for count in range(1, batches + 1):
            codes = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), texts.slice(0, count))
            writer.write_batch(pa.record_batch([*numbers, codes], schema=schema))
    return sink.getvalue()


def empty_batches(count: int) -> bytes:
    """An Arrow stream with so many batches without rows before those of the small table."""
    data = table()
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, data.schema) as writer:
        for batch in [data.to_batches()[0].slice(0, 0)] * count + data.to_batches():
            writer.write_batch(batch)
    return sink.getvalue()


def grouped_file(columns: int, length: int) -> bytes:
    """A Parquet file without rows, whose columns are all in one group with a name of that length."""
    sink = io.BytesIO()
    kind = pa.struct([(str(i), pa.int8()) for i in range(columns)])
    pq.ParquetWriter(sink, pa.schema([("x" * length, kind)]), store_schema=False).close()
    return sink.getvalue()


def as_parquet(data: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(data, sink, **options)
    return sink.getvalue()


def as_npy(array: np.ndarray[Any, Any], version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    return file.getvalue()


def structured(order: str = "<") -> np.ndarray[Any, Any]:
    array = np.zeros(3, dtype=[("c", f"{order}U5"), ("n", f"{order}i8"), ("a", f"{order}f4"), ("b/~", f"{order}f8")])
    array["c"] = ["red", "", "blue"]
    return array


def as_binary(tensors: list[tuple[str, str, list[int], bytes]], **more: Any) -> Body:
    inputs = [
        {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(raw)}}
        for name, datatype, shape, raw in tensors
    ]
    text = json.dumps({"inputs": inputs} | more).encode()
    return Body(Sent(BINARY, str(len(text))), text + b"".join(raw for *_, raw in tensors))


def texts(*values: str) -> bytes:
    return b"".join(struct.pack("<I", len(value.encode())) + value.encode() for value in values)
