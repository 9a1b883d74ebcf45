"""Each kind of malformed body in each format: its status, its problem, and the place that is named first."""

import gzip
import json
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.test import Client

from inference_portal.jobs.models import Job
from inference_portal.store import model_store
from tests.integration.http import post, problem
from tests.unit.builders import write_release
from tests.unit.formats.bodies import (
    ARROW,
    NPY,
    PARQUET,
    RELEASE,
    Body,
    as_binary,
    as_npy,
    as_parquet,
    as_stream,
    grouped_file,
    rows,
    table,
    texts,
)
from workers.formats.media import Sent

pytestmark = pytest.mark.django_db
KINDS = (
    "truncated",
    "ragged",
    "duplicate columns",
    "a million columns",
    "deep nesting",
    "wrong shape",
    "huge integers",
    "pickled",
    "invalid UTF-8",
    "bomb",
    "no rows",
)
FORMATS = ("rows", "records", "v2", "v2-binary", "csv", "parquet", "arrow", "npy")
MALFORMED, TOO_LARGE, INVALID = (400, "malformed"), (413, "too-large"), (422, "invalid-input")
HEAD = b"a,b/~,n,c\n"
DEEP = "[" * 100_000
RECORDS = rows()
LISTS = [list(row.values()) for row in RECORDS]
MILLION = 1_000_000
Expected = tuple[tuple[int, str], str | None]


def instances(value: Any) -> Body:
    text = value if isinstance(value, str) else json.dumps(value)
    return Body(Sent("application/json"), f'{{"instances": {text}}}'.encode("latin1"))


def v2(**changed: dict[str, Any]) -> Body:
    """The small table as V2 tensors, with some of their fields changed."""
    data = {name: [row[name] for row in RECORDS] for name in ("a", "b/~", "n", "c")}
    types = {"a": "FP32", "b/~": "FP64", "n": "INT64", "c": "BYTES"}
    tensors = [
        {"name": name, "datatype": types[name], "shape": [3], "data": data[name]} | changed.get(name, {})
        for name in data
    ]
    return Body(Sent("application/json"), json.dumps({"inputs": tensors}).encode())


def binary(**changed: tuple[str, str, list[int], bytes]) -> Body:
    """Three rows as binary tensors, some of them changed."""
    tensors = {
        "a": ("a", "FP32", [3], bytes(12)),
        "b": ("b/~", "FP64", [3], bytes(24)),
        "n": ("n", "INT64", [3], bytes(24)),
        "c": ("c", "BYTES", [3], texts("red", "green", "blue")),
    }
    return as_binary(list((tensors | changed).values()))


def csv(data: bytes) -> Body:
    return Body(Sent("text/csv"), data)


def parquet(data: pa.Table, **options: Any) -> Body:
    return Body(Sent(PARQUET), as_parquet(data, **options))


def arrow(data: pa.Table, **options: Any) -> Body:
    return Body(Sent(ARROW), as_stream(data, **options))


def npy(descr: str, shape: str, data: bytes) -> Body:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode("latin1")
    return Body(Sent(NPY), b"\x93NUMPY\2\0" + struct.pack("<I", len(header)) + header + data)


def cut(body: Body) -> Body:
    return body._replace(data=body.data[: -len(body.data) // 3])


def nested_type() -> pa.DataType:
    kind = pa.float64()
    for _ in range(200):
        kind = pa.list_(kind)
    return kind


def nested_file() -> bytes:
    sink = pa.BufferOutputStream()
    pq.ParquetWriter(sink, pa.schema([("a", nested_type())]), store_schema=False).close()
    data: bytes = sink.getvalue().to_pybytes()
    return data


def with_column(name: str, values: Any) -> pa.Table:
    data = table()
    return data.set_column(data.schema.get_field_index(name), name, values)


def table_of_bytes(columns: int) -> dict[str, Any]:
    return {"name": "x", "datatype": "UINT8", "shape": [1, columns]}


FIELDS = "[('a', '<f4'), ('b/~', '<f4'), ('n', '<i8'), ('c', '<U5')]"
# The values of three rows.
FILLED = bytes(3 * (4 + 4 + 8 + 20))
LONG = with_column("c", pa.array(["x" * 40_000_000, None, None]))
PLAIN = {"compression": "none", "use_dictionary": False, "write_statistics": False}
ZEROS = gzip.compress(bytes(20_000_000))
# Kind → format → the body, and what it is answered.
BODIES: dict[str, dict[str, tuple[Body, Expected]]] = {
    "truncated": {
        "rows": (cut(instances(LISTS)), (MALFORMED, None)),
        "records": (cut(instances(RECORDS)), (MALFORMED, None)),
        "v2": (cut(v2()), (MALFORMED, None)),
        "v2-binary": (binary()._replace(data=binary().data[:-1]), (MALFORMED, None)),
        "csv": (csv(HEAD + b"1,2,3,red\n1,2"), (INVALID, "/1")),
        "parquet": (cut(parquet(table())), (MALFORMED, None)),
        "arrow": (cut(arrow(table())), (MALFORMED, None)),
        "npy": (Body(Sent(NPY), as_npy(np.zeros((3, 4)))[:-1]), (MALFORMED, None)),
    },
    "ragged": {
        "rows": (instances([LISTS[0], LISTS[1][:3]]), (INVALID, "/instances/1")),
        "records": (instances([RECORDS[0], {"a": 1, "b/~": 1, "c": "red"}]), (INVALID, "/instances/1/n")),
        "v2": (v2(n={"shape": [2], "data": [1, 2]}), (INVALID, "/inputs/2/shape")),
        "v2-binary": (binary(n=("n", "INT64", [2], bytes(16))), (INVALID, "/inputs/2/shape")),
        "csv": (csv(HEAD + b"1,2,3,red\n1,2,3\n"), (INVALID, "/1")),
    },
    "duplicate columns": {
        "records": (instances('[{"a": 1, "a": 2, "b/~": 1, "n": 1, "c": "red"}]'), (INVALID, "")),
        "v2": (v2(n={"name": "a"}), (INVALID, "/inputs/2/name")),
        "v2-binary": (binary(n=("a", "FP32", [3], bytes(12))), (INVALID, "/inputs/2/name")),
        "csv": (csv(b"a,b/~,a,c\n1,2,3,red\n"), (INVALID, "/a")),
        "parquet": (parquet(table().append_column("a", pa.array([1, 2, 3]))), (INVALID, "/a")),
        "arrow": (arrow(table().append_column("a", pa.array([1, 2, 3]))), (INVALID, "/a")),
        "npy": (npy("[('a', '<f4'), ('a', '<f4')]", "(3,)", bytes(24)), (INVALID, "/a")),
    },
    # As many of them as MAX_REQUEST_BYTES lets in.
    "a million columns": {
        "rows": (instances([[0] * MILLION]), (TOO_LARGE, None)),
        "records": (instances([{f"{i:x}": 0 for i in range(600_000)}]), (TOO_LARGE, None)),
        "v2": (
            Body(Sent(""), json.dumps({"inputs": [table_of_bytes(MILLION) | {"data": [0] * MILLION}]}).encode()),
            (TOO_LARGE, None),
        ),
        "v2-binary": (as_binary([("x", "UINT8", [1, MILLION], bytes(MILLION))]), (TOO_LARGE, None)),
        "csv": (csv(b",".join(b"%d" % i for i in range(MILLION))), (TOO_LARGE, None)),
        "parquet": (Body(Sent(PARQUET), grouped_file(20_000, 1)), (TOO_LARGE, None)),
        "arrow": (
            Body(Sent(ARROW), pa.schema([(str(i), pa.int8()) for i in range(50_000)]).serialize().to_pybytes()),
            (TOO_LARGE, None),
        ),
        "npy": (npy("'|u1'", f"(1, {MILLION})", bytes(MILLION)), (TOO_LARGE, None)),
    },
    "deep nesting": {
        "rows": (instances(DEEP), (MALFORMED, None)),
        "records": (instances('[{"a": ' + DEEP), (MALFORMED, None)),
        "v2": (Body(Sent(""), b'{"inputs": [{"data": ' + DEEP.encode()), (MALFORMED, None)),
        "v2-binary": (Body(Sent("", "50000"), b'{"inputs": ' + DEEP.encode()), (MALFORMED, None)),
        "parquet": (Body(Sent(PARQUET), nested_file()), (MALFORMED, None)),
        "arrow": (Body(Sent(ARROW), pa.schema([("a", nested_type())]).serialize().to_pybytes()), (MALFORMED, None)),
        "npy": (npy("[('a', " * 5000, "(3,)", b""), (MALFORMED, None)),
    },
    "wrong shape": {
        "rows": (instances([[*LISTS[0], 1]]), (INVALID, "/instances/0")),
        "records": (instances([RECORDS[0] | {"x": 1}]), (INVALID, "/instances/0/x")),
        "v2": (v2(a={"data": [1, 2]}), (INVALID, "/inputs/0/data")),
        "v2-binary": (
            binary(a=("a", "FP32", [3], bytes(8))),
            (INVALID, "/inputs/0/parameters/binary_data_size"),
        ),
        "csv": (csv(HEAD + b"1,2,3,red,5\n"), (INVALID, "/0")),
        "arrow": (
            arrow(table())._replace(data=as_stream(table()).replace(struct.pack("<q", 3), struct.pack("<q", 90))),
            (MALFORMED, None),
        ),
        "npy": (npy("'<f4'", "(4, 4)", bytes(48)), (MALFORMED, None)),
    },
    "huge integers": {
        "rows": (instances([[1, 2, 10**400, "red"]]), (INVALID, "/instances/0/2")),
        "records": (instances([RECORDS[0] | {"n": 10**400}]), (INVALID, "/instances/0/n")),
        "v2": (v2(n={"data": [2**63, 1, 2]}), (INVALID, "/inputs/2/data/0")),
        "v2-binary": (
            binary(n=("n", "INT64", [3], struct.pack("<3q", 2**62, 0, 0))),
            (INVALID, "/inputs/2/data/0"),
        ),
        "csv": (csv(HEAD + b"1,2," + b"9" * 400 + b",red\n"), (INVALID, "/0/n")),
        "parquet": (parquet(with_column("n", pa.array([2**60, 1, 2]))), (INVALID, "/0/n")),
        "arrow": (arrow(with_column("n", pa.array([2**64 - 1] * 3, pa.uint64()))), (INVALID, "/0/n")),
        "npy": (npy(FIELDS, "(1,)", bytes(8) + struct.pack("<q", 2**60) + bytes(20)), (INVALID, "/0/n")),
    },
    "pickled": {
        "npy": (npy("'|O'", "(3, 4)", pickle.dumps([[1.0] * 4] * 3)), (MALFORMED, None)),
    },
    "invalid UTF-8": {
        "rows": (instances('[[1, 2, 3, "r\xffd"]]'), (MALFORMED, None)),
        "records": (instances('[{"a": 1, "b/~": 2, "n": 3, "c": "r\xffd"}]'), (MALFORMED, None)),
        "v2": (v2()._replace(data=v2().data.replace(b"red", b"r\xffd")), (MALFORMED, None)),
        "v2-binary": (
            binary()._replace(data=binary().data.replace(b"red", b"r\xffd")),
            (INVALID, "/inputs/3/data/0"),
        ),
        "csv": (csv(HEAD + b"1,2,3,r\xffd\n"), (MALFORMED, None)),
        "parquet": (
            Body(Sent(PARQUET), as_parquet(table(), **PLAIN).replace(b"red", b"r\xffd")),
            (MALFORMED, None),
        ),
        "arrow": (Body(Sent(ARROW), as_stream(table()).replace(b"red", b"r\xffd")), (MALFORMED, None)),
        "npy": (npy(FIELDS, "(3,)", FILLED[:-20] + b"\xff" * 20), (MALFORMED, None)),
    },
    "bomb": {
        "rows": (Body(Sent("application/json"), ZEROS, ("gzip",)), (TOO_LARGE, None)),
        "v2-binary": (Body(Sent("application/octet-stream", "100"), ZEROS, ("gzip",)), (TOO_LARGE, None)),
        "csv": (Body(Sent("text/csv"), ZEROS, ("gzip",)), (TOO_LARGE, None)),
        "parquet": (parquet(LONG, compression="zstd"), (TOO_LARGE, None)),
        "arrow": (arrow(LONG, compression="zstd"), (TOO_LARGE, None)),
        "npy": (Body(Sent(NPY), ZEROS, ("gzip",)), (TOO_LARGE, None)),
    },
    "no rows": {
        "rows": (instances([]), (INVALID, "/instances")),
        "v2": (v2(a={"shape": [0], "data": []}), (INVALID, "/inputs/0/shape")),
        "v2-binary": (binary(a=("a", "FP32", [0], b"")), (INVALID, "/inputs/0/shape")),
        "csv": (csv(HEAD), (INVALID, "")),
        "parquet": (parquet(table().slice(0, 0)), (INVALID, "")),
        "arrow": (arrow(table().slice(0, 0)), (INVALID, "")),
        "npy": (Body(Sent(NPY), as_npy(np.zeros((0, 4)))), (INVALID, "")),
    },
}
# What can't be in a format, and why.
NOT_IN: dict[str, dict[str, str]] = {
    "ragged": {
        "parquet": "columns that contradict the number of rows are broken pages: tests/unit/formats/test_parquet.py",
        "arrow": "the columns of a batch have its length; another one is a wrong shape",
        "npy": "an array is a rectangle",
    },
    "duplicate columns": {"rows": "columns have no names"},
    "deep nesting": {"csv": "a cell holds no table"},
    "wrong shape": {"parquet": "as ragged"},
    "pickled": {name: "holds no objects of Python" for name in FORMATS if name != "npy"},
    "bomb": {"records": "is unpacked before it is read: as rows", "v2": "as rows"},
    "no rows": {"records": "the same body as rows"},
}


@pytest.fixture
def small(settings: Any, tmp_path: Path) -> Iterator[str]:
    """The address of a model with a column of each kind."""
    columns = [column.model_dump(exclude_defaults=True) for column in RELEASE.manifest.columns]
    for column in columns:
        column.update({key: list(value) for key, value in column.items() if isinstance(value, tuple)})
    write_release(tmp_path, "small", columns=columns)
    settings.MODEL_STORE = tmp_path
    model_store.cache_clear()
    yield "/v2/models/small/infer"
    model_store.cache_clear()


@pytest.mark.parametrize(
    ("body", "expected"),
    [pytest.param(*BODIES[kind][name], id=f"{kind}-{name}") for kind in BODIES for name in BODIES[kind]],
)
def test_each_malformed_body_has_its_answer(submitter: Client, small: str, body: Body, expected: Expected) -> None:
    headers = {"Inference-Header-Content-Length": body.sent.header_length, "Content-Encoding": ", ".join(body.codings)}
    sent = {name: value for name, value in headers.items() if value}
    answer = problem(
        post(submitter, small, body.data, content_type=body.sent.content_type or "application/json", **sent),
        *expected[0],
    )
    assert answer.get("errors", [{"pointer": None}])[0]["pointer"] == expected[1], answer
    assert not Job.objects.exists()


def test_every_kind_is_tried_in_every_format_or_can_not_be() -> None:
    assert tuple(BODIES) == KINDS
    for kind in KINDS:
        assert sorted([*BODIES[kind], *NOT_IN.get(kind, {})]) == sorted(FORMATS), kind
