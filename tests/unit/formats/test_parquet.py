"""Parquet: encodings and types that are read, and files that lie or explode."""

import base64
import io
import struct
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.builders import release
from tests.unit.formats.bodies import (
    LIMITS,
    MAX_ROWS,
    PARQUET,
    WIDE,
    Body,
    as_parquet,
    decode,
    faults,
    grouped_file,
    shared_schema,
    table,
)
from workers.formats import MAX_UNPACKED, Malformed, TooLarge, media
from workers.formats.media import Sent
from workers.formats.parquet_pages import MAX_DESCRIBED, MAX_PARTS, Description

MATRIX = np.array([[0, -2.5, 0, 0], [1.5, np.nan, 1, 1], [3, -2.5, 2, np.nan]], dtype=np.float32)
DELTA = {"a": "BYTE_STREAM_SPLIT", "n": "DELTA_BINARY_PACKED", "c": "DELTA_LENGTH_BYTE_ARRAY"}


def parquet(data: pa.Table, **options: Any) -> Body:
    return Body(Sent(PARQUET), as_parquet(data, **options))


def column(name: str, values: Any) -> Body:
    """The small table with another column of that name."""
    data = table()
    return parquet(data.set_column(data.schema.get_field_index(name), name, values))


@pytest.mark.parametrize(
    "options",
    [
        {},
        *({"compression": name} for name in ("none", "gzip", "zstd", "brotli", "lz4")),
        {"row_group_size": 1},
        {"use_dictionary": False, "data_page_version": "2.0"},
        {"use_dictionary": False, "column_encoding": DELTA},
        {"store_schema": False, "write_statistics": False},
        {"data_page_size": 1, "write_page_index": True, "write_page_checksum": True},
    ],
    ids=str,
)
def test_every_way_to_write_a_table_gives_the_same_matrix(options: dict[str, Any]) -> None:
    for data in (table(), table().select(["c", "n", "b/~", "a"])):
        decoded = decode(parquet(data, **options))
        np.testing.assert_array_equal(decoded.matrix, MATRIX)
        assert decoded.format == "parquet"


def test_a_category_may_be_a_dictionary_and_its_column_have_any_name() -> None:
    assert decode(column("c", pa.array(["red", "green", "red"]).dictionary_encode())).matrix[:, 3].tolist() == [0, 1, 0]
    model = release(columns=[{"name": "x.y", "type": "category", "categories": ["é"]}, {"name": "x"}])
    data = as_parquet(pa.table({"x": [1, 2], "x.y": ["é", "é"]}))
    assert media.decode(model, Sent(PARQUET), data, LIMITS).matrix.tolist() == [[0, 1], [0, 2]]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (column("n", pa.array([1, 2**60, 3])), ("/1/n", "row 1, column 'n': expected a whole number of at most 16")),
        (column("n", pa.array([2**64 - 1] * 3, pa.uint64())), ("/0/n", "row 0, column 'n': expected a whole number")),
        (column("a", pa.array([1.0, float("inf"), 2])), ("/1/a", "row 1, column 'a': expected a finite number")),
        (column("a", pa.array([1.0, None, 2])), ("/1/a", "row 1, column 'a': a value is required")),
        (column("c", pa.array(["red", "puce", ""])), ("/1/c", "row 1, column 'c': expected one of 'red', 'green'")),
        (column("a", pa.array(["1", "2", "3"])), ("/a", "column 'a': expected numbers, got the type string")),
        (column("c", pa.array([1, 2, 3])), ("/c", "column 'c': expected texts (utf8), got the type int64")),
        (column("a", pa.array([[1.0]] * 3)), ("/a", "column 'a': expected numbers, got the type list")),
        (column("a", pa.array([{"x": 1}] * 3)), ("/a", "column 'a': expected numbers, got the type struct")),
        (parquet(table().drop_columns("n")), ("/n", "column 'n' is missing")),
        (parquet(table().append_column("x", pa.array([1, 2, 3]))), ("/x", "the model has no column 'x'")),
        (parquet(table().append_column("b/~", pa.array([1, 2, 3]))), ("/b~1~0", "column 'b/~' is sent twice")),
        (parquet(table().slice(0, 0)), ("", "at least one row is required")),
    ],
)
def test_what_is_wrong_is_named(body: Body, expected: tuple[str, str]) -> None:
    found = faults(body)[0]
    assert found[0] == expected[0]
    assert found[1].startswith(expected[1])


GOOD = as_parquet(table(9))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"PAR1", b"PAR1PAR1", b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1"),
        *(GOOD[:-1], GOOD[:-8], GOOD[4:], GOOD[:50], GOOD[:-4] + b"PARE"),
    ],
    ids=lambda data: f"{len(data)} {data[:8]!r}",
)
def test_what_can_not_be_read_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed, match="Parquet file"):
        decode(Body(Sent(PARQUET), data))


def test_texts_that_share_beginnings_are_refused() -> None:
    data = as_parquet(table(), use_dictionary=False, column_encoding={"c": "DELTA_BYTE_ARRAY"})
    with pytest.raises(Malformed, match="DELTA_BYTE_ARRAY, which isn't read here; write them PLAIN"):
        decode(Body(Sent(PARQUET), data))


def test_more_rows_than_allowed_are_too_large_before_they_are_read() -> None:
    with pytest.raises(TooLarge, match="101 rows"):
        decode(parquet(table(MAX_ROWS + 1)))
    wide = release(columns=[{"name": f"c{i}", "missing": True} for i in range(300)])
    zeros = as_parquet(pa.table({f"c{i}": np.zeros(10_000, np.int8) for i in range(300)}))
    with pytest.raises(TooLarge, match="3,000,000 values"):
        media.decode(wide, Sent(PARQUET), zeros, WIDE)


@pytest.mark.parametrize("compression", ["zstd", "gzip", "brotli", "snappy"])
def test_pages_that_unpack_to_too_much_are_refused_before_they_are_unpacked(compression: str) -> None:
    body = parquet(table().set_column(3, "c", [["x" * 20_000_000, "y" * 20_000_000, None]]), compression=compression)
    started = time.process_time()
    with pytest.raises(TooLarge, match="unpacks to more than"):
        decode(body)
    assert time.process_time() - started < 0.5


def test_a_long_text_that_a_dictionary_repeats_is_unpacked_once() -> None:
    zeros = np.zeros(MAX_ROWS)
    texts = pa.DictionaryArray.from_arrays(zeros.astype(np.int32), pa.array(["x" * 1_000_000]))
    data = pa.table({"a": zeros, "b/~": zeros, "n": zeros, "c": texts})
    for store_schema in (True, False):
        body = parquet(data, compression="zstd", store_schema=store_schema, write_statistics=False)
        before = pa.default_memory_pool().max_memory()
        assert len(faults(body)) == 20
        assert pa.default_memory_pool().max_memory() - before < 20_000_000


def compact(fields: dict[int, Any]) -> bytes:
    """Write a struct in Thrift's compact protocol: ints as i32, lists of structs, dicts as structs."""
    parts = []
    for number, value in fields.items():
        kind, data = 5, b""
        if isinstance(value, dict):
            kind, data = 12, compact(value)
        elif isinstance(value, list):
            kind, data = 9, b"\xfc" + varint(len(value)) + b"".join(map(compact, value))
        else:
            data = varint(value * 2 if value >= 0 else -value * 2 - 1)
        parts.append(bytes([kind]) + varint(number * 2) + data)
    return b"".join(parts) + b"\0"


def varint(value: int) -> bytes:
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(data) + bytes([value])


def page(
    kind: int = 0, values: int = 9, unpacked: int = 8, packed: int = 8, encoding: int = 0, more: bytes = b""
) -> bytes:
    """A page of that many bytes; `more` are further fields of its header."""
    described = {0: 5, 2: 7, 3: 8}.get(kind, 6)
    header = compact({1: kind, 2: unpacked, 3: packed, described: {1: values, 4 if kind == 3 else 2: encoding}})
    return header[:-1] + more + header[-1:] + bytes(max(0, packed))


def file(
    *pages: bytes, rows: int = 9, group_rows: int = 9, values: int = 9, size: int | None = None, groups: int = 1
) -> bytes:
    data = b"".join(pages)
    column = {3: {5: values, 7: len(data) if size is None else size, 9: 4}}
    footer = compact({3: rows, 4: [{1: [column], 3: group_rows}] * groups})
    return b"PAR1" + data + footer + struct.pack("<I", len(footer)) + b"PAR1"


def test_pages_that_agree_with_the_footer_are_right() -> None:
    assert Description(file(page())).check_pages() == set()
    assert Description(file(page(2, values=1), page(3))).check_pages() == {0}
    assert Description(file(page(values=4), page(1), page(values=5))).check_pages() == set()


@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        (file(page(unpacked=MAX_UNPACKED + 1)), TooLarge, "unpacks to more than"),
        (file(page(2, 1, MAX_UNPACKED), page()), TooLarge, "unpacks to more than"),
        (file(*[page(1, unpacked=0, packed=0)] * (MAX_PARTS + 1)), TooLarge, "pages and columns"),
        (file(values=0, rows=0, group_rows=0, groups=MAX_PARTS + 1), TooLarge, "pages and columns"),
        (file(page(values=8)), Malformed, "fewer values"),
        (file(page(values=10)), Malformed, "more values"),
        (file(page(values=-1), page(values=10)), Malformed, "missing or negative"),
        (file(page(unpacked=-1)), Malformed, "missing or negative"),
        (file(page(packed=-1)), Malformed, "missing or negative"),
        (file(page(), size=9), Malformed, "outside of its column|ends too early"),
        (file(page(), size=10**6), Malformed, "outside of the file"),
        (file(page(2, values=9), page()), Malformed, "dictionary with more values than bytes"),
        (file(page(encoding=7)), Malformed, "DELTA_BYTE_ARRAY"),
        (file(page(3, encoding=7)), Malformed, "DELTA_BYTE_ARRAY"),
        (file(page(), group_rows=8), Malformed, "another number of values"),
        (file(page(), rows=8), Malformed, "as many rows"),
        (file(page(), group_rows=-9, values=-9), Malformed, "missing or negative"),
        (file(page(values=2**32 + 9)), Malformed, "beyond its type"),
        (file(compact({1: 0, 2: 8, 3: 0})), Malformed, "isn't described"),
        (file(compact({2: 8, 3: 8})), Malformed, "missing or negative"),
        (file(b"\x15\0\x05\2\0"), Malformed, "twice"),
        (file(b"\x1b" * 100), Malformed, "can't be read"),
        (file(b"\x1c" * 100), Malformed, "nested too deeply"),
        (file(b"\x19" * 100), Malformed, "nested too deeply"),
        (file(b"\x15" + b"\xff" * 100), Malformed, "too long"),
        (file(b"\x18\xff\xff\xff\xff\x0f"), Malformed, "ends too early"),
        (file(b"\x19\xf5\xff\xff\xff\x0f" + b"\0" * MAX_DESCRIBED), TooLarge, "too great a length"),
        (file(*[page(1, unpacked=0, packed=0, more=b"\x11" * 150)] * 10_000, page()), TooLarge, "too great a length"),
        (b"", Malformed, "no footer"),
        (b"PAR1" + b"\xff\0\0\0PAR1", Malformed, "longer than the file"),
        (b"PAR1" + b"\0" + b"\1\0\0\0PAR1", Malformed, "lacks something"),
    ],
)  # fmt: skip
def test_pages_that_contradict_the_footer_or_hold_too_much_are_refused(
    data: bytes, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        Description(data).check_pages()


def test_names_of_groups_that_many_columns_repeat_are_refused() -> None:
    for columns, length in ((100, 1_000_000), (900, 40_000)):
        with pytest.raises(TooLarge, match="names in the Parquet file's schema"):
            decode(Body(Sent(PARQUET), grouped_file(columns, length)))
    assert faults(Body(Sent(PARQUET), grouped_file(10, 1000)))[0][0].startswith("/xxx")
    with pytest.raises(TooLarge, match="1,001 columns"):
        decode(Body(Sent(PARQUET), grouped_file(1000, 1)))


def test_an_arrow_schema_in_the_footer_is_never_read() -> None:
    data, sink = table(), io.BytesIO()
    with pq.ParquetWriter(sink, data.schema, store_schema=False) as writer:
        writer.write_table(data)
        writer.add_key_value_metadata({"ARROW:schema": base64.b64encode(shared_schema(1000, 1_000_000)).decode()})
    started = time.process_time()
    np.testing.assert_array_equal(decode(Body(Sent(PARQUET), sink.getvalue())).matrix, MATRIX)
    assert time.process_time() - started < 0.5
    model = release(columns=[{"name": "ARROW:schema"}])
    body = as_parquet(pa.table({"ARROW:schema": [1.5]}))
    assert media.decode(model, Sent(PARQUET), body, LIMITS).matrix.tolist() == [[1.5]]


def test_a_page_that_contradicts_its_checksum_is_malformed() -> None:
    data = table().set_column(0, "a", [[1.5, 2.5, 3.5]])
    good = as_parquet(data, compression="none", use_dictionary=False, write_statistics=False, write_page_checksum=True)
    assert decode(Body(Sent(PARQUET), good)).matrix[:, 0].tolist() == [1.5, 2.5, 3.5]
    with pytest.raises(Malformed, match="CRC"):
        decode(Body(Sent(PARQUET), good.replace(struct.pack("<d", 2.5), struct.pack("<d", 3.5), 1)))
