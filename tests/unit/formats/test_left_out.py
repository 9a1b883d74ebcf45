"""What a client leaves out, a value or a whole column: a default stands for it, or it is missing, in every format."""

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.builders import release
from tests.unit.formats.bodies import (
    ARROW,
    NPY,
    PARQUET,
    WIDE,
    Body,
    as_binary,
    as_npy,
    as_parquet,
    as_stream,
    decode,
    faults,
    texts,
)
from workers.formats import TooLarge, media
from workers.formats.media import Sent

RELEASE = release(
    columns=[
        {"name": "a"},
        {"name": "n", "type": "int", "range": [0, 9], "default": 3},
        {"name": "c", "type": "category", "categories": ["red", "green"], "default": "green"},
        {"name": "m", "missing": True},
        {"name": "both", "missing": True, "default": -1.5},
    ]
)
OPTIONAL = release(columns=[{"name": "x", "default": 2}, {"name": "y", "missing": True}])
NAN = float("nan")
# The column `a` alone, and all columns with one value and one that is left out in each.
ALONE = [[1, 3, 1, NAN, -1.5], [2, 3, 1, NAN, -1.5]]
HALF = [[1, 5, 0, 7, 8], [2, 3, 1, NAN, -1.5]]


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


def tensor(name: str, datatype: str, data: list[Any], *width: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data), *width], "data": data}


def of(sent: str, data: Any) -> Body:
    return Body(Sent(sent), data if isinstance(data, bytes) else json.dumps(data).encode(), release=RELEASE)


A = pa.table({"a": pa.array([1.0, 2.0])})
ALL = pa.table(
    {
        "m": pa.array([7, None], pa.float64()),
        "c": pa.array(["red", None]),
        "a": pa.array([1.0, 2.0]),
        "both": pa.array([8, None], pa.float32()),
        "n": pa.array([5, None], pa.int64()),
    }
)
FIELDS = np.array(
    [(1, NAN, "red", 7, 8), (2, NAN, "", NAN, NAN)],
    [("a", "f4"), ("n", "f8"), ("c", "U5"), ("m", "f4"), ("both", "f8")],
)
FIELDS["n"][0] = 5
RECORDS = [{"a": 1, "n": 5, "c": "red", "m": 7, "both": 8}, {"a": 2, "n": None, "c": None, "m": None, "both": None}]


@pytest.mark.parametrize(
    "body",
    [
        of(media.JSON, {"instances": [{"a": 1}, {"a": 2}]}),
        of(media.CSV, b"a\n1\n2\n"),
        of("", {"inputs": [tensor("a", "FP32", [1, 2])]}),
        of("", {"inputs": [tensor("a", "FP32", [1, 2], 1)]}),
        as_binary([("a", "FP32", [2], floats(1, 2))])._replace(release=RELEASE),
        of(ARROW, as_stream(A)),
        of(PARQUET, as_parquet(A)),
        of(NPY, as_npy(FIELDS[["a"]].astype([("a", "f4")]))),
    ],
    ids=["records", "csv", "v2", "v2 [rows, 1]", "v2 binary", "arrow", "parquet", "npy"],
)
def test_a_column_that_is_left_out_as_a_whole_has_its_default_or_is_missing(body: Body) -> None:
    np.testing.assert_array_equal(decode(body).matrix, np.array(ALONE, np.float32))


@pytest.mark.parametrize(
    "body",
    [
        of(media.JSON, {"instances": RECORDS}),
        of(media.JSON, {"instances": [RECORDS[0], {"a": 2}]}),
        of(media.JSON, {"instances": [[1, 5, "red", 7, 8], [2, None, None, None, None]]}),
        of(media.CSV, b"both,m,c,n,a\n8,7,red,5,1\n,NaN,,,2\n"),
        of(
            "",
            {
                "inputs": [
                    tensor("a", "FP32", [1, 2]),
                    tensor("n", "INT64", [5, None]),
                    tensor("c", "BYTES", ["red", None]),
                    tensor("m", "FP64", [7, None]),
                    tensor("both", "FP32", [8, None]),
                ]
            },
        ),
        of(ARROW, as_stream(ALL)),
        of(PARQUET, as_parquet(ALL)),
        of(NPY, as_npy(FIELDS)),
    ],
    ids=["records", "records without", "rows", "csv", "v2", "arrow", "parquet", "npy"],
)
def test_a_value_that_is_left_out_has_its_default_or_is_missing(body: Body) -> None:
    np.testing.assert_array_equal(decode(body).matrix, np.array(HALF, np.float32))


def test_a_table_of_one_tensor_has_defaults_for_its_missing_values() -> None:
    body = of("", {"inputs": [tensor("t", "FP32", [[None, 1], [4, None]], 2)]})._replace(release=OPTIONAL)
    np.testing.assert_array_equal(decode(body).matrix, np.array([[2, 1], [4, NAN]], np.float32))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (of(media.JSON, {"instances": [{"n": 1}, {}]}), ("/instances/0/a", "row 0: column 'a' is missing")),
        (of(media.JSON, {"instances": [{"a": 1, "N": 1}]}), ("/instances/0/N", "row 0: the model has no column 'N'")),
        (of(media.CSV, b"n\n1\n"), ("/a", "column 'a' is missing")),
        (of("", {"inputs": [tensor("c", "BYTES", ["red"])]}), ("/inputs", "column 'a' is missing")),
        (of(ARROW, as_stream(ALL.drop_columns("a"))), ("/a", "column 'a' is missing")),
        (of(media.CSV, b"a,n\n1\n"), ("/0", "row 0: expected 2 values, got 1")),
        (of(media.CSV, b"n,a\n10,1\n"), ("/0/n", "row 0, column 'n': 10 is outside the range 0 to 9")),
        (of(media.CSV, b"a\n\n"), ("", "at least one row is required")),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, tuple) else None,
)
def test_what_may_not_be_left_out_is_named(body: Body, expected: tuple[str, str]) -> None:
    assert faults(body)[0] == expected


@pytest.mark.parametrize(
    ("sent", "data"), [(media.CSV, b"\n1\n2\n"), (ARROW, as_stream(pa.table({}))), (PARQUET, as_parquet(pa.table({})))]
)
def test_a_table_without_any_column_has_no_rows_either(sent: str, data: bytes) -> None:
    assert faults(Body(Sent(sent), data, release=OPTIONAL))[0][1] in (
        "at least one column is required, such as 'x'",
        "the model has no column ''",
    )


def test_arrow_batches_of_rows_without_columns_are_refused() -> None:
    sink = io.BytesIO()
    batch = pa.RecordBatch.from_struct_array(pa.array([{}] * 5, pa.struct([])))
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    found = faults(Body(Sent(ARROW), sink.getvalue(), release=OPTIONAL))
    assert found == [("", "at least one column is required, such as 'x'")]


def test_records_without_a_column_are_rows_of_defaults() -> None:
    body = Body(Sent(media.JSON), b'{"instances": [{}, {"y": 1}]}', release=OPTIONAL)
    np.testing.assert_array_equal(decode(body).matrix, np.array([[2, NAN], [2, 1]], np.float32))


def test_columns_that_are_left_out_count_as_values() -> None:
    wide = release(columns=[{"name": f"x{i}", "missing": True} for i in range(10_000)])
    body = b"x0\n" + b"1\n" * 300
    with pytest.raises(TooLarge, match="more than the 209 rows of 10,000 columns"):
        media.decode(wide, Sent(media.CSV), body, WIDE)


def test_a_text_of_no_category_is_no_missing_value() -> None:
    body = as_binary([("a", "FP32", [1], floats(1)), ("c", "BYTES", [1], texts("puce"))])._replace(release=RELEASE)
    assert faults(body) == [("/inputs/1/data/0", "row 0, column 'c': expected one of 'red', 'green'")]
