"""Arrow streams: types, batches and dictionaries that are read, and what malformed or exploding ones are answered."""

import io
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.builders import release
from tests.unit.formats.bodies import (
    ARROW,
    LIMITS,
    MAX_ROWS,
    WIDE,
    Body,
    as_stream,
    decode,
    empty_batches,
    faults,
    growing_dictionary,
    shared_schema,
    table,
)
from workers.formats import Malformed, TooLarge, media
from workers.formats.media import Sent

MATRIX = np.array([[0, -2.5, 0, 0], [1.5, np.nan, 1, 1], [3, -2.5, 2, np.nan]], dtype=np.float32)


def arrow(data: pa.Table, chunk: int | None = None, **options: Any) -> Body:
    return Body(Sent(ARROW), as_stream(data, chunk, **options))


def column(name: str, values: Any) -> Body:
    """The small table with another column of that name."""
    data = table()
    return arrow(data.set_column(data.schema.get_field_index(name), name, values))


@pytest.mark.parametrize(
    "body",
    [
        arrow(table()),
        arrow(table(), 1),
        arrow(table(), compression="zstd"),
        arrow(table(), 2, compression="lz4"),
        arrow(table().select(["c", "n", "b/~", "a"])),
        column("c", pa.array(["red", "green", None]).dictionary_encode()),
        column("c", pa.array(["red", "green", None], pa.large_string())),
        column("c", pa.DictionaryArray.from_arrays(pa.array([1, 0, 2], pa.uint8()), pa.array(["green", "red", None]))),
        column("a", pa.array([0, 1.5, 3], pa.float16())),
        column("n", pa.array([0, 1, 2], pa.uint64())),
        column("n", pa.array([0, 1, 2], pa.float32())),
    ],
)
def test_every_way_to_send_a_table_gives_the_same_matrix(body: Body) -> None:
    decoded = decode(body)
    np.testing.assert_array_equal(decoded.matrix, MATRIX)
    assert decoded.format == "arrow"


def test_batches_may_bring_dictionaries_of_their_own() -> None:
    parts = [pa.array(texts).dictionary_encode() for texts in (["blue", "red"], ["green", "blue"])]
    data = pa.table({"a": [1.0] * 4, "b/~": [1.0] * 4, "n": [1] * 4, "c": pa.chunked_array(parts)})
    assert decode(arrow(data, 2)).matrix[:, 3].tolist() == [2, 0, 1, 2]


def test_booleans_are_0_and_1_and_nulls_of_any_type_missing_values() -> None:
    body = column("b/~", pa.array([True, None, False]))
    np.testing.assert_array_equal(decode(body).matrix[:, 1], np.array([1, np.nan, 0], np.float32))
    assert np.isnan(decode(column("b/~", pa.nulls(3))).matrix[:, 1]).all()
    assert np.isnan(decode(column("c", pa.nulls(3))).matrix[:, 3]).all()
    assert faults(column("n", pa.nulls(3)))[0][0] == "/0/n"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (column("n", pa.array([1, 2**60, 3])), ("/1/n", "row 1, column 'n': expected a whole number of at most 16")),
        (column("n", pa.array([2**64 - 1] * 3, pa.uint64())), ("/0/n", "row 0, column 'n': expected a whole number")),
        (column("a", pa.array([1.0, float("inf"), 2])), ("/1/a", "row 1, column 'a': expected a finite number")),
        (column("a", pa.array([1.0, float("nan"), 2])), ("/1/a", "row 1, column 'a': a value is required")),
        (column("a", pa.array([1.0, None, 2])), ("/1/a", "row 1, column 'a': a value is required")),
        (column("c", pa.array(["red", "puce", ""])), ("/1/c", "row 1, column 'c': expected one of 'red', 'green'")),
        (column("a", pa.array(["1", "2", "3"])), ("/a", "column 'a': expected numbers, got the type string")),
        (column("c", pa.array([1, 2, 3])), ("/c", "column 'c': expected texts (utf8), got the type int64")),
        (
            column("c", pa.array(["red"] * 3, pa.string_view())),
            ("/c", "column 'c': expected texts (utf8), got the type"),
        ),
        (column("c", pa.array([b"red"] * 3)), ("/c", "column 'c': expected texts (utf8), got the type binary")),
        (column("a", pa.array([[1.0]] * 3)), ("/a", "column 'a': expected numbers, got the type list")),
        (column("a", pa.array([{"x": 1}] * 3)), ("/a", "column 'a': expected numbers, got the type struct")),
        (
            column("a", pa.array([1] * 3, pa.timestamp("s"))),
            ("/a", "column 'a': expected numbers, got the type timest"),
        ),
        (
            column("a", pa.array([1] * 3, pa.decimal128(9))),
            ("/a", "column 'a': expected numbers, got the type decimal"),
        ),
        (
            column("a", pa.array([1.0] * 3).dictionary_encode()),
            ("/a", "column 'a': expected numbers, got the type dict"),
        ),
        (arrow(table().drop_columns("n")), ("/n", "column 'n' is missing")),
        (arrow(table().append_column("x", pa.nulls(3))), ("/x", "the model has no column 'x'")),
        (arrow(table().append_column("b/~", pa.nulls(3))), ("/b~1~0", "column 'b/~' is sent twice")),
        (arrow(table().slice(0, 0)), ("", "at least one row is required")),
        (arrow(pa.table({})), ("/a", "column 'a' is missing")),
    ],
)
def test_what_is_wrong_is_named(body: Body, expected: tuple[str, str]) -> None:
    found = faults(body)[0]
    assert found[0] == expected[0]
    assert found[1].startswith(expected[1])


def test_a_thousand_columns_have_twenty_faults_and_more_are_too_large() -> None:
    schema = pa.schema([(str(i), pa.int8()) for i in range(1001)])
    assert len(faults(Body(Sent(ARROW), schema.remove(0).serialize().to_pybytes()))) == 20
    with pytest.raises(TooLarge, match="1,001 columns; one request may have 1,000"):
        decode(Body(Sent(ARROW), schema.serialize().to_pybytes()))
    many = pa.schema([(str(i), pa.int8()) for i in range(100_000)])
    with pytest.raises(TooLarge, match="names and metadata"):
        decode(Body(Sent(ARROW), many.serialize().to_pybytes()))


GOOD = as_stream(table(9), 3)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 8, b"x", b"ARROW1\0\0" + GOOD, GOOD[:100], GOOD[:-100], GOOD + b"x", GOOD + GOOD, b"\xff" * 100],
    ids=lambda data: f"{len(data)} {data[:8]!r}",
)
def test_what_can_not_be_read_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed, match="Arrow stream"):
        decode(Body(Sent(ARROW), data))


@pytest.mark.parametrize(
    "change", [lambda b: b.replace(b"red", b"r\xffd"), lambda b: b.replace(b"\3\0\0\0", b"\xf0\0\0\0")]
)
def test_texts_that_are_not_unicode_or_end_nowhere_are_malformed(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Malformed):
        decode(Body(Sent(ARROW), change(as_stream(table()))))


def test_more_rows_than_allowed_are_too_large_before_they_are_read() -> None:
    data = {"a": np.zeros(MAX_ROWS + 1), "b/~": pa.nulls(MAX_ROWS + 1), "n": np.zeros(MAX_ROWS + 1), "c": pa.nulls(101)}
    with pytest.raises(TooLarge, match="101 rows"):
        decode(arrow(pa.table(data), 10))
    wide = release(columns=[{"name": f"c{i}", "missing": True} for i in range(1000)])
    nothing = as_stream(pa.table({f"c{i}": pa.nulls(10_000) for i in range(1000)}))
    with pytest.raises(TooLarge, match="10,000,000 values"):
        media.decode(wide, Sent(ARROW), nothing, WIDE)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_compressed_buffers_that_unpack_to_too_much_are_refused_before_they_are_unpacked(compression: str) -> None:
    data = as_stream(table().set_column(3, "c", [["x" * 40_000_000] * 3]), compression=compression)
    started = time.process_time()
    with pytest.raises(TooLarge, match="unpacks to more than"):
        decode(Body(Sent(ARROW), data))
    assert time.process_time() - started < 0.5


def test_a_compressed_buffer_that_lies_about_its_size_is_refused() -> None:
    data = as_stream(
        pa.table({"a": np.zeros(90), "b/~": np.zeros(90), "n": np.zeros(90), "c": pa.nulls(90)}), compression="zstd"
    )
    size = struct.pack("<q", 720)
    assert size in data
    for lie, error in ((2**40, TooLarge), (2**62, TooLarge), (719, Malformed), (721, Malformed), (-2, Malformed)):
        with pytest.raises(error):
            decode(Body(Sent(ARROW), data.replace(size, struct.pack("<q", lie))))


def test_a_large_dictionary_that_many_batches_share_is_refused() -> None:
    values = pa.DictionaryArray.from_arrays(np.zeros(90, np.int32), pa.array(["x" * 1_000_000]))
    data = pa.table({"a": np.zeros(90), "b/~": np.zeros(90), "n": np.zeros(90), "c": values})
    with pytest.raises(TooLarge, match="unpacks to more than"):
        decode(arrow(data, 1))
    assert faults(arrow(data))[0][0] == "/0/c"


def with_pairs(count: int, of_schema: bool) -> bytes:
    """A stream whose schema, or first batch, has metadata of so many pairs."""
    data, pairs = table(), {str(i): "y" for i in range(count)}
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, data.replace_schema_metadata(pairs if of_schema else None).schema) as writer:
        writer.write_batch(data.to_batches()[0], custom_metadata=pairs)
    return sink.getvalue()


@pytest.mark.parametrize("of_schema", [True, False])
def test_metadata_means_nothing_and_may_not_be_endless(of_schema: bool) -> None:
    assert len(decode(Body(Sent(ARROW), with_pairs(1000, of_schema))).matrix) == 3
    with pytest.raises(TooLarge, match="names and metadata take more than"):
        decode(Body(Sent(ARROW), with_pairs(70_000, of_schema)))


def test_names_that_many_fields_share_are_refused_before_pyarrow_copies_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(faults(Body(Sent(ARROW), shared_schema(100, 10_000)))) == 20
    monkeypatch.delattr(pa.ipc, "open_stream")
    with pytest.raises(TooLarge, match="names and metadata take more than"):
        decode(Body(Sent(ARROW), shared_schema(1000, 1_000_000)))


def test_a_dictionary_that_grows_is_refused() -> None:
    with pytest.raises(Malformed, match="a dictionary that grows"):
        decode(Body(Sent(ARROW), growing_dictionary(3)))
    assert decode(Body(Sent(ARROW), growing_dictionary(1))).matrix[:, 3].tolist() == [0]


def test_batches_without_rows_take_no_time() -> None:
    started = time.process_time()
    np.testing.assert_array_equal(decode(Body(Sent(ARROW), empty_batches(10_000))).matrix, MATRIX)
    assert time.process_time() - started < 2


def test_a_large_dictionary_is_looked_up_once_and_not_for_each_batch() -> None:
    texts = pa.array(["red", *["x"] * 90_000])
    values = pa.DictionaryArray.from_arrays(np.zeros(60, np.int32), texts)
    body = arrow(pa.table({"a": np.zeros(60), "b/~": np.zeros(60), "n": np.zeros(60), "c": values}), 1)
    started = time.process_time()
    assert decode(body).matrix[:, 3].tolist() == [0] * 60
    assert time.process_time() - started < 0.5


def test_a_text_that_columns_share_counts_for_each() -> None:
    columns = [{"name": f"c{i}", "type": "category", "categories": ["red"]} for i in range(20)]
    size = 2_000_000
    data = pa.table({column["name"]: ["x" * size if column is columns[0] else ""] for column in columns})
    # Offset and size of the first column's three buffers; then the others say that theirs are there too.
    shared = struct.pack("<6q", 0, 0, 0, 8, 8, size)
    before, _, after = as_stream(data).partition(shared)
    body = before + shared * 20 + after[19 * len(shared) :]
    with pytest.raises(TooLarge, match="unpacks to more than"):
        media.decode(release(columns=columns), Sent(ARROW), body, LIMITS)


@pytest.mark.parametrize("encode", [lambda texts: texts, lambda texts: texts.dictionary_encode()])
def test_texts_in_many_batches_are_the_same_as_in_one(encode: Any) -> None:
    texts = [[None, "green", "red", "blue", "red"][i % 5] for i in range(90)]
    data = pa.table({"a": np.zeros(90), "b/~": np.zeros(90), "n": np.zeros(90), "c": encode(pa.array(texts))})
    expected = np.array([[np.nan, 1, 0, 2, 0][i % 5] for i in range(90)], np.float32)
    for chunk in (None, 1, 7):
        np.testing.assert_array_equal(decode(arrow(data, chunk)).matrix[:, 3], expected)
