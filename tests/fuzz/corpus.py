"""Bodies of each wire format, most of them valid, and ones that are made up anew: what the fuzzer starts from."""

import gzip
import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from tests.unit.builders import release
from tests.unit.formats.bodies import (
    ARROW,
    NPY,
    PARQUET,
    Body,
    as_binary,
    as_npy,
    as_parquet,
    as_stream,
    empty_batches,
    grouped_file,
    growing_dictionary,
    rows,
    shared_schema,
    structured,
    table,
    texts,
)
from workers.formats.media import Sent


def corpus(kind: str) -> list[Body]:
    """Return valid bodies of a format, and some that are made to harm."""
    return CORPORA[kind]() + [WRITERS[kind](data)._replace(release=made) for made, data in TABLES if kind in WRITERS]


# Models with another table each: many columns, and many categories.
WIDE = release(columns=[{"name": f"c{i}", "missing": True} for i in range(100)])
TEXTS = release(columns=[{"name": f"c{i}", "type": "category", "categories": ["red", "é"]} for i in range(10)])
TABLES = [
    (WIDE, pa.table({name: np.arange(4, dtype="<f4") + i for i, name in enumerate(WIDE.schema.names)})),
    (TEXTS, pa.table({name: ["red", "é", "red", "é"] for name in TEXTS.schema.names})),
]


def made_up(kind: str, chance: random.Random) -> Body | None:
    """Return a body whose parts are right and put together at random; None for a format that has no such."""
    return MAKERS[kind](chance) if kind in MAKERS else None


def _instances() -> list[Body]:
    lists = [list(row.values()) for row in rows()]
    return [Body(Sent("application/json"), json.dumps({"instances": each}).encode()) for each in (lists, rows())]


def _v2() -> list[Body]:
    data = {name: [row[name] for row in rows()] for name in ("a", "b/~", "n", "c")}
    types = {"a": "FP32", "b/~": "FP64", "n": "INT64", "c": "BYTES"}
    inputs = [{"name": name, "datatype": types[name], "shape": [3], "data": data[name]} for name in data]
    nested = [tensor | {"shape": [3, 1], "data": [[value] for value in tensor["data"]]} for tensor in inputs]
    outputs = [{"name": "label", "parameters": {"binary_data": True}}]
    more = {"id": "x", "outputs": outputs, "parameters": {"binary_data_output": True}}
    return [Body(Sent(""), json.dumps({"inputs": each} | more).encode()) for each in (inputs, nested)]


def _v2_binary() -> list[Body]:
    numbers = [("a", "FP32", "<f4"), ("b/~", "FP64", "<f8"), ("n", "UINT8", "u1")]
    tensors = [(name, datatype, [3], np.arange(3).astype(dtype).tobytes()) for name, datatype, dtype in numbers]
    category = ("c", "BYTES", [3, 1], texts("red", "green", "blue"))
    return [
        as_binary([*tensors, category], id="x"),
        as_binary([("a", "BOOL", [3], b"\0\1\0"), category, *tensors[1:]], parameters={"binary_data_output": True}),
    ]


def _csv() -> list[Body]:
    return [
        Body(Sent("text/csv"), b"a,b/~,n,c\r\n1.5,,3,red\r\n-2e1,NaN,4,\r\n"),
        Body(Sent("text/csv; charset=utf-8"), '\ufeff"c","n",a,"b/~"\n"green",1,"1.5",0\nblue,2,-.5,"-1"\n'.encode()),
    ]


def _arrow() -> list[Body]:
    dictionary = table(9).set_column(3, "c", table(9).column("c").dictionary_encode())
    bodies = [
        as_stream(table()),
        as_stream(table(9), 2),
        as_stream(table(), compression="zstd"),
        as_stream(table(9), compression="lz4"),
        as_stream(dictionary, 4),
        as_stream(dictionary, compression="lz4"),
        empty_batches(20),
        growing_dictionary(3),
        shared_schema(50, 500),
    ]
    return [Body(Sent(ARROW), body) for body in bodies]


def _parquet() -> list[Body]:
    delta = {"n": "DELTA_BINARY_PACKED", "c": "DELTA_LENGTH_BYTE_ARRAY", "a": "BYTE_STREAM_SPLIT"}
    options: list[dict[str, Any]] = [
        {},
        {"row_group_size": 2, "data_page_size": 1},
        {"compression": "none", "use_dictionary": False, "store_schema": False},
        {"compression": "gzip", "data_page_version": "2.0"},
        {"compression": "zstd", "use_dictionary": False, "column_encoding": delta},
        {"compression": "brotli", "write_statistics": False},
        {"compression": "lz4", "write_page_checksum": True, "write_page_index": True},
    ]
    files = [as_parquet(table(9), **each) for each in options]
    return [Body(Sent(PARQUET), each) for each in (*files, grouped_file(20, 500))]


def _npy() -> list[Body]:
    arrays = [as_npy(structured()), as_npy(structured(">"), (2, 0)), as_npy(structured(), (3, 0))]
    plain = np.arange(12, dtype=">f4").reshape(3, 4)
    return [Body(Sent(NPY), each) for each in (*arrays, as_npy(plain), as_npy(np.asfortranarray(plain)))]


def _inflate() -> list[Body]:
    text = _instances()[0].data * 20
    raw = zlib.compressobj(wbits=-15)
    packed = {
        ("gzip",): gzip.compress(text),
        ("deflate",): zlib.compress(text),
        ("Deflate", ""): raw.compress(text) + raw.flush(),
        ("zstd",): pa.compress(text, "zstd", asbytes=True),
        ("gzip", "zstd"): pa.compress(gzip.compress(text), "zstd", asbytes=True),
    }
    return [Body(Sent(""), data, codings) for codings, data in packed.items()]


_SCALARS: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 2**24 + 1, 2**63, -(2**63), 10**400, 1e39, float("nan"), float("inf"), "", "red", "a"),
    *("\ud800", "FP32", "BYTES", "BOOL", [], {}, [[]], [3], [0], [-1, 3], [2**62, 4], [10_000, 10_000]),
)
_KEYS = (
    "inputs",
    "instances",
    "outputs",
    "parameters",
    "id",
    "name",
    "shape",
    "datatype",
    "data",
    "binary_data_size",
    "a",
    "n",
    "c",
)


def _changed(value: Any, chance: random.Random) -> Any:
    """Return JSON with one place of it replaced, removed or repeated."""
    if chance.random() < 0.2 or not isinstance(value, dict | list) or not value:
        return chance.choice(_SCALARS)
    at = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
    copy = value.copy()
    match chance.randrange(6):
        case 0:
            del copy[at]
        case 1 if isinstance(copy, dict):
            copy[chance.choice(_KEYS)] = chance.choice(_SCALARS)
        case 1:
            copy.insert(at, copy[at])
        case _:
            copy[at] = _changed(copy[at], chance)
    return copy


def _changed_json(bodies: Callable[[], list[Body]]) -> Callable[[random.Random], Body]:
    known = bodies()

    def make(chance: random.Random) -> Body:
        body = chance.choice(known)
        length = int(body.sent.header_length or len(body.data))
        document = json.loads(body.data[:length])
        for _ in range(chance.randint(1, 3)):
            document = _changed(document, chance)
        text = json.dumps(document).encode()
        header = None if body.sent.header_length is None else str(len(text) + chance.choice((0, 0, 0, -1, 1)))
        return Body(Sent(body.sent.content_type, header), text + body.data[length:])

    return make


def _made_csv(chance: random.Random) -> Body:
    names = ["a", "b/~", "n", "c"]
    if chance.random() < 0.2:
        names[chance.randrange(4)] = chance.choice(("a", "x", "", '"b/~"', "\ufeff"))
    chance.shuffle(names)
    cells = (
        "1",
        "-1.5",
        "1e400",
        "nan",
        "inf",
        "",
        " 2 ",
        "1_0",
        "٣",
        "red",
        '"red"',
        '"a""b"',
        '"',
        "0x1",
        "1\0",
        "16777217",
    )
    lines = [
        ",".join(chance.choice(cells) for _ in range(chance.choice((4, 4, 4, 4, 3, 5))))
        for _ in range(chance.randrange(4))
    ]
    return Body(Sent("text/csv"), chance.choice(("\n", "\r\n", "\r")).join([",".join(names), *lines]).encode())


_ARRAYS = (
    lambda n: pa.array(np.arange(n), pa.int8()),
    lambda n: pa.array([2**64 - 1] * n, pa.uint64()),
    lambda n: pa.array([float("inf")] * n, pa.float16()),
    lambda n: pa.array([None, True] * n, pa.bool_())[:n],
    lambda n: pa.nulls(n),
    lambda n: pa.array(["red"] * n, pa.large_string()),
    lambda n: pa.array(["red", None] * n)[:n].dictionary_encode(),
    lambda n: pa.array(["x" * 50] * n, pa.string_view()),
    lambda n: pa.array([b"red"] * n),
    lambda n: pa.array([[1.0]] * n),
    lambda n: pa.array([{"x": 1}] * n),
    lambda n: pa.array([1] * n, pa.timestamp("ns")),
    lambda n: pa.array([1.5] * n, pa.float64()),
    lambda n: pa.array([1] * n, pa.decimal128(5)),
    lambda n: pa.array([1.5] * n).dictionary_encode(),
)


def _made_table(chance: random.Random) -> pa.Table:
    count = chance.choice((0, 1, 3, 50, 120))
    names = ["a", "b/~", "n", "c"]
    chance.shuffle(names)
    if chance.random() < 0.1:
        names.append(chance.choice(("a", "x")))
    good = {"a": pa.float32(), "b/~": pa.float64(), "n": pa.int16(), "c": pa.string()}
    arrays = [
        pa.nulls(count, good.get(name)) if chance.random() < 0.3 else chance.choice(_ARRAYS)(count) for name in names
    ]
    return pa.Table.from_arrays(arrays, names)


def _made_arrow(chance: random.Random) -> Body:
    compression = chance.choice((None, "zstd", "lz4"))
    return Body(Sent(ARROW), as_stream(_made_table(chance), chance.choice((None, 1, 7)), compression=compression))


def _made_parquet(chance: random.Random) -> Body | None:
    options = {
        "compression": chance.choice(("none", "snappy", "gzip", "zstd", "brotli", "lz4")),
        "use_dictionary": chance.random() < 0.5,
        "data_page_version": chance.choice(("1.0", "2.0")),
        "row_group_size": chance.choice((None, 1, 7)),
        "store_schema": chance.random() < 0.5,
    }
    try:
        return Body(Sent(PARQUET), as_parquet(_made_table(chance), **options))
    except (pa.ArrowException, ValueError):
        return None


def _made_npy(chance: random.Random) -> Body:
    types = ("'<f4'", "'>f8'", "'|b1'", "'<U3'", "'|S3'", "'|O'", "'<c8'", "'<f99'", "'<U999999999'", "'<U0'", "'|V8'")
    fields = ("a", "b/~", "n", "c", "x", "\\\\", "\\x41", "\\ud800", "\\q", "")
    if chance.random() < 0.5:
        descr = chance.choice(types)
    else:
        parts = (f"('{name}', {chance.choice(types)})" for name in chance.choices(fields, k=chance.randint(0, 5)))
        descr = f"[{', '.join(parts)}]"
    shape = chance.choice(
        (
            "()",
            "(3,)",
            "(3, 4)",
            "(0, 4)",
            "(3, 10000000000)",
            "(-1, 4)",
            "(999999999999999999, 4)",
            "(3, 4, 1)",
            "(3 4)",
        )
    )
    order = chance.choice(("True", "False", "1"))
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    data = bytes(chance.choice((0, 1, 12, 48, 96)))
    return Body(Sent(NPY), b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data)


def _as_v2(data: pa.Table) -> Body:
    types = {name: "FP32" if pa.types.is_floating(data[name].type) else "BYTES" for name in data.column_names}
    inputs = [
        {"name": name, "datatype": types[name], "shape": [len(data)], "data": data[name].to_pylist()} for name in types
    ]
    return Body(Sent(""), json.dumps({"inputs": inputs}).encode())


def _as_v2_binary(data: pa.Table) -> Body:
    tensors = []
    for name in data.column_names:
        values = data[name]
        is_number = pa.types.is_floating(values.type)
        raw = values.to_numpy().tobytes() if is_number else texts(*values.to_pylist())
        tensors.append((name, "FP32" if is_number else "BYTES", [len(data)], raw))
    return as_binary(tensors)


def _as_csv(data: pa.Table) -> Body:
    lines = [",".join(map(str, row.values())) for row in data.to_pylist()]
    return Body(Sent("text/csv"), "\n".join([",".join(data.column_names), *lines]).encode())


def _as_npy(data: pa.Table) -> Body:
    # NumPy finds the type: numbers or texts.
    columns = {name: np.array(data[name].to_pylist()) for name in data.column_names}
    array = np.zeros(len(data), [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        array[name] = values
    return Body(Sent(NPY), as_npy(array))


# How a table of numbers and texts is written in each format.
WRITERS: dict[str, Callable[[pa.Table], Body]] = {
    "instances": lambda data: Body(Sent(""), json.dumps({"instances": data.to_pylist()}).encode()),
    "v2": _as_v2,
    "v2-binary": _as_v2_binary,
    "csv": _as_csv,
    "parquet": lambda data: Body(Sent(PARQUET), as_parquet(data, store_schema=False)),
    "arrow": lambda data: Body(Sent(ARROW), as_stream(data, 2, compression="lz4")),
    "npy": _as_npy,
}
CORPORA: dict[str, Callable[[], list[Body]]] = {
    "instances": _instances,
    "v2": _v2,
    "v2-binary": _v2_binary,
    "csv": _csv,
    "parquet": _parquet,
    "arrow": _arrow,
    "npy": _npy,
    "inflate": _inflate,
}
MAKERS: dict[str, Callable[[random.Random], Body | None]] = {
    "instances": _changed_json(_instances),
    "v2": _changed_json(_v2),
    "v2-binary": _changed_json(_v2_binary),
    "csv": _made_csv,
    "parquet": _made_parquet,
    "arrow": _made_arrow,
    "npy": _made_npy,
}
