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
from workers.formats import Decoded, Invalid, media
from workers.formats.media import Sent

MAX_ROWS = 100
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
    """One request; `codings` only where Content-Encoding is what is tried."""

    sent: Sent
    data: bytes
    codings: tuple[str, ...] = ()


def decode(body: Body) -> Decoded:
    return media.decode(RELEASE, body.sent, body.data, MAX_ROWS)


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
