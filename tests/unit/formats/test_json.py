"""The JSON formats: what is read, what is refused and with which pointer, and what answers look like."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.builders import OUTPUTS, release
from tests.unit.formats.bodies import LIMITS, MAX_ROWS, WIDE
from workers.formats import (
    Decoded,
    Fault,
    Invalid,
    Malformed,
    TooLarge,
    Unavailable,
    json_body,
    json_instances,
    json_v2,
)
from workers.outputs import encode_tensors, named_outputs
from workers.schema import MAX_FAULTS
from workers.template.output import Output

# The middle column may be missing, and its name needs escaping in a pointer.
RELEASE = release(
    columns=[
        {"name": "a", "range": [-100, 100]},
        {"name": "b/~", "missing": True},
        {"name": "n", "type": "int", "range": [0, 5]},
    ]
)
ROWS = [[1.5, 2.5, 3], [-4, None, 5]]
MATRIX = np.array([[1.5, 2.5, 3], [-4, np.nan, 5]], dtype=np.float32)


def decode(body: Any) -> Decoded:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return json_body.decode(RELEASE, raw, LIMITS)


def faults(body: Any) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        decode(body)
    return [(f.pointer, f.detail) for f in caught.value.faults]


def pointers(body: Any) -> list[str]:
    return [pointer for pointer, _ in faults(body)]


def table(data: Any = None, **changes: Any) -> dict[str, Any]:
    """A V2 request with the whole table in one tensor."""
    data = [value for row in ROWS for value in row] if data is None else data
    return {"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": data} | changes]}


def columns(**tensors: dict[str, Any]) -> dict[str, Any]:
    """A V2 request with a tensor for each column; `tensors` changes them by their first letter."""
    data = {"a": [1.5, -4], "b": [2.5, None], "n": [3, 5]}
    names = {"a": "a", "b": "b/~", "n": "n"}
    return {
        "inputs": [
            {"name": names[key], "shape": [2], "datatype": "FP64", "data": data[key]} | tensors.get(key, {})
            for key in data
        ]
    }


def without(body: dict[str, Any], index: int) -> dict[str, Any]:
    return {"inputs": [t for i, t in enumerate(body["inputs"]) if i != index]}


@pytest.mark.parametrize(
    "body",
    [
        {"instances": ROWS},
        {"instances": [dict(zip(["a", "b/~", "n"], row, strict=True)) for row in ROWS]},
        {"instances": [dict(zip(["n", "b/~", "a"], row[::-1], strict=True)) for row in ROWS]},
        table(),
        table(ROWS),
        table(datatype="FP64", name="a"),
        columns(),
        columns(a={"shape": [2, 1]}, n={"shape": [2, 1], "data": [[3], [5]], "datatype": "INT64"}),
        columns(n={"datatype": "UINT8"}),
        {"inputs": columns()["inputs"][::-1]},
        table() | {"parameters": {"binary_data_output": True}, "of the future": 1},
    ],
    ids=[
        "rows",
        "records",
        "records in another order",
        "one flat tensor",
        "one nested tensor",
        "one tensor with a column's name",
        "a tensor a column",
        "columns of two dimensions",
        "columns of several types",
        "columns in another order",
        "unknown keys",
    ],
)
def test_every_way_to_send_a_table_gives_the_same_matrix(body: dict[str, Any]) -> None:
    decoded = decode(body)
    np.testing.assert_array_equal(decoded.matrix, MATRIX)
    assert decoded.matrix.dtype == np.dtype("<f4")
    assert decoded.matrix.flags.c_contiguous
    assert decoded.format == ("v2" if "inputs" in body else "instances")


def test_the_id_and_the_wanted_outputs_are_kept() -> None:
    decoded = decode(table() | {"id": "mine", "outputs": [{"name": "label"}, {"name": "label", "parameters": {}}]})
    assert (decoded.id, decoded.outputs) == ("mine", ("label",))
    decoded = decode(table() | {"id": "", "outputs": []})
    assert (decoded.id, decoded.outputs) == ("", None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"instances": [[1, 2, 3]',
        b"[]",
        b"null",
        b'"inputs"',
        b'{"instances": "\xff"}',
        b"[" * 100_000,
        b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"instances": [[1' + b"0" * 5000 + b", 2, 3]]}",
        b"{'instances': [[1, 2, 3]]}",
        b'{"instances": [[1, 2, 3]]} x',
        b'{"instances": 5}',
        b'{"instances": {"a": 1}}',
        b'{"inputs": {}}',
        b'{"inputs": [1]}',
        b'{"inputs": null}',
    ],
    ids=lambda body: body[:30],
)
def test_what_can_not_be_read_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        decode(body)


@pytest.mark.parametrize("body", [{}, {"rows": ROWS}, {"instance": ROWS}])
def test_an_object_of_another_kind_is_refused(body: dict[str, Any]) -> None:
    assert faults(body) == [("", "expected 'inputs' (V2 tensors) or 'instances' (rows)")]


@pytest.mark.parametrize(
    ("row", "pointer", "detail"),
    [
        (["1", 2, 3], "/0", "column 'a': expected a number, got text"),
        ([True, 2, 3], "/0", "column 'a': expected a number, got a boolean"),
        ([[1], 2, 3], "/0", "column 'a': expected a number, got a list"),
        ([1, {"x": 1}, 3], "/1", "column 'b/~': expected a number, got an object"),
        ([None, 2, 3], "/0", "column 'a': a value is required, this column may not be missing"),
        ([10**400, 2, 3], "/0", "column 'a': expected a number that fits float32"),
        ([1, 10**39, 3], "/1", "column 'b/~': expected a finite number that fits float32"),
        ([1, 1e300, 3], "/1", "column 'b/~': expected a finite number that fits float32"),
        ([1, -float("inf"), 3], "/1", "column 'b/~': expected a finite number that fits float32"),
        ([101, 2, 3], "/0", "column 'a': 101 is outside the range -100 to 100"),
        ([1, 2, 3.5], "/2", "column 'n': expected a whole number of at most 16,777,216 in size, got 3.5"),
        ([1, 2, 6], "/2", "column 'n': 6 is outside the range 0 to 5"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_value_is_named_by_pointer_row_and_column(row: list[Any], pointer: str, detail: str) -> None:
    good = ROWS[0]
    column = int(pointer[1:])
    name = ["a", "b~1~0", "n"][column]
    detail = f"row 1, {detail}"
    assert faults({"instances": [good, row]}) == [(f"/instances/1/{column}", detail)]
    records = [dict(zip(["a", "b/~", "n"], values, strict=True)) for values in (good, row)]
    assert faults({"instances": records}) == [(f"/instances/1/{name}", detail)]
    assert faults(table([good, row])) == [(f"/inputs/0/data/1/{column}", detail)]
    if not isinstance(row[0], list):
        assert faults(table([*good, *row])) == [(f"/inputs/0/data/{3 + column}", detail)]
        by_column = {"inputs": [t | {"data": [good[i], row[i]]} for i, t in enumerate(columns()["inputs"])]}
        assert faults(by_column) == [(f"/inputs/{column}/data/1", detail)]
    nested = columns(n={"shape": [2, 1], "data": [[3], [9]]})
    assert pointers(nested) == ["/inputs/2/data/1/0"]


@pytest.mark.parametrize("number", [b"NaN", b"null"])
def test_nan_and_null_are_missing_values(number: bytes) -> None:
    matrix = decode(b'{"instances": [[1, ' + number + b", 3]]}").matrix
    assert np.isnan(matrix[0, 1])
    assert pointers(b'{"instances": [[' + number + b", 2, 3]]}") == ["/instances/0/0"]


@pytest.mark.parametrize("number", [b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"1" + b"0" * 400])
def test_numbers_beyond_float32_are_refused_with_their_place(number: bytes) -> None:
    assert pointers(b'{"instances": [[1, ' + number + b", 3]]}") == ["/instances/0/1"]


def test_numbers_too_small_for_float32_become_zero() -> None:
    assert decode(b'{"instances": [[1e-300, -1e-46, 3]]}').matrix.tolist() == [[0, 0, 3]]


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        ([], [("/instances", "at least one row is required")]),
        ([[1, 2]], [("/instances/0", "row 0: expected a list of 3 values, got 2")]),
        ([[1, 2, 3], [1, 2, 3, 4]], [("/instances/1", "row 1: expected a list of 3 values, got 4")]),
        ([1, 2, 3], [(f"/instances/{i}", f"row {i}: expected a list of 3 values, got int") for i in range(3)]),
        ([[1, 2, 3], {"a": 1}], [("/instances/1", "row 1: expected a list of 3 values, got an object")]),
        ([{"a": 1, "b/~": 2}], [("/instances/0/n", "row 0: column 'n' is missing")]),
        ([{"n": 1, "b/~": 2}], [("/instances/0/a", "row 0: column 'a' is missing")]),
        (
            [{"a": 1, "b/~": 2, "n": 3, "z/": 4}],
            [("/instances/0/z~1", "row 0: the model has no column 'z/'")],
        ),
        (
            [{"a": 1, "b/~": 2, "n": 3}, [1, 2, 3]],
            [("/instances/1", "row 1: expected an object as in row 0, got 3")],
        ),
        ([{"a": 1, "b/~": 2, "n": 3}, None], [("/instances/1", "row 1: expected an object as in row 0, got NoneType")]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_rows_of_another_shape_are_named(instances: list[Any], expected: list[tuple[str, str]]) -> None:
    assert faults({"instances": instances}) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"inputs": []}, ["/inputs"]),
        (table(shape=[3, 2]), ["/inputs/0/shape"]),
        (table(shape=[6]), ["/inputs/0/shape"]),
        (table(shape=[]), ["/inputs/0/shape"]),
        (table(shape=[1, 2, 3]), ["/inputs/0/shape"]),
        (table(shape=[0, 3], data=[]), ["/inputs/0/shape"]),
        (table(shape=[-1, 3]), ["/inputs/0/shape"]),
        (table(shape=[2.0, 3]), ["/inputs/0/shape"]),
        (table(shape=[True, 3]), ["/inputs/0/shape"]),
        (table(shape="2,3"), ["/inputs/0/shape"]),
        (table(shape=[2, 10**30]), ["/inputs/0/shape"]),
        (table([1, 2, 3]), ["/inputs/0/data"]),
        (table([[1, 2, 3]]), ["/inputs/0/data"]),
        (table([[1, 2, 3], [1, 2]]), ["/inputs/0/data"]),
        (table([[1, 2, 3], 4]), ["/inputs/0/data"]),
        (table([]), ["/inputs/0/data"]),
        (table("AAAA"), ["/inputs/0/data"]),
        (table(datatype="BYTES"), ["/inputs/0/datatype"]),
        (table(datatype="fp32"), ["/inputs/0/datatype"]),
        (table(datatype=None), ["/inputs/0/datatype"]),
        (table(datatype=[["FP32"]]), ["/inputs/0/datatype"]),
        (table(name=5), ["/inputs/0/name"]),
        ({"inputs": [{}]}, [f"/inputs/0/{field}" for field in ("name", "shape", "datatype", "data")]),
        (table(datatype="INT32"), ["/inputs/0/data/0", "/inputs/0/data/1"]),
        (columns(a={"name": "z"}), ["/inputs/0/name", "/inputs"]),
        (columns(a={"name": "n"}), ["/inputs/2/name", "/inputs"]),
        (columns(b={"shape": [3], "data": [1, 2, 3]}), ["/inputs/1/shape"]),
        (columns(b={"shape": [2, 2], "data": [1, 2, 3, 4]}), ["/inputs/1/shape"]),
        (columns(b={"data": [1, 2, 3]}), ["/inputs/1/data"]),
        (columns(n={"datatype": "INT64", "data": [1, 2.5]}), ["/inputs/2/data/1"]),
        (without(columns(), 0), ["/inputs"]),
        ({"inputs": columns()["inputs"][1:2]}, ["/inputs", "/inputs"]),
        (table() | {"id": 5}, ["/id"]),
        (table() | {"id": "x" * 256}, ["/id"]),
        (table() | {"id": "a\0"}, ["/id"]),
        (table() | {"id": "\ud800"}, ["/id"]),
        (table() | {"outputs": 0}, ["/outputs"]),
        (table() | {"outputs": {"name": "label"}}, ["/outputs"]),
        (table() | {"outputs": ["label"]}, ["/outputs/0"]),
        (table() | {"outputs": [{"name": "label"}, {"name": "logits"}, {}]}, ["/outputs/1/name", "/outputs/2/name"]),
        (table() | {"outputs": [{"name": "label", "parameters": 1}]}, ["/outputs/0/parameters"]),
        (
            table() | {"outputs": [{"name": "label", "parameters": {"binary_data": 1}}]},
            ["/outputs/0/parameters/binary_data"],
        ),
        (table() | {"parameters": {"binary_data_output": "yes"}}, ["/parameters/binary_data_output"]),
        (table(parameters={"binary_data_size": 24}), ["/inputs/0/parameters/binary_data_size"]),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else None,
)
def test_what_is_wrong_with_a_v2_request_is_pointed_at(body: dict[str, Any], expected: list[str]) -> None:
    assert pointers(body) == expected


def test_a_null_in_a_tensor_of_whole_numbers_is_a_missing_value() -> None:
    integers = columns(a={"data": [1, -4], "datatype": "INT8"}, b={"data": [2, None], "datatype": "INT8"})
    assert np.isnan(decode(integers).matrix[1, 1])


def test_binary_data_without_the_header_that_says_where_they_begin_are_refused() -> None:
    tensor = {key: value for key, value in table()["inputs"][0].items() if key != "data"}
    [(pointer, detail)] = faults({"inputs": [tensor | {"parameters": {"binary_data_size": 24}}]})
    assert pointer == "/inputs/0/parameters/binary_data_size"
    assert "Inference-Header-Content-Length" in detail


@pytest.mark.parametrize("name", ["shared_memory_region", "classification"])
def test_parameters_that_would_change_where_data_are_or_what_is_answered_are_not_available(name: str) -> None:
    with pytest.raises(Unavailable, match=name):
        decode(table(parameters={name: "x"}))
    with pytest.raises(Unavailable, match=name):
        decode(table() | {"outputs": [{"name": "label", "parameters": {name: 2}}]})


def test_booleans_are_read_as_0_and_1_where_the_datatype_says_so() -> None:
    assert decode(columns(a={"datatype": "BOOL", "data": [True, 0]})).matrix[:, 0].tolist() == [1, 0]
    assert pointers(columns(a={"datatype": "BOOL", "data": [True, 2]})) == ["/inputs/0/data/1"]
    assert pointers(columns(a={"data": [True, 0]})) == ["/inputs/0/data/0"]


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[1, 2, 3]] * (MAX_ROWS + 1)},
        {"instances": [5] * (MAX_ROWS + 1)},
        table(shape=[MAX_ROWS + 1, 3]),
        table(shape=[2**62, 3]),
        columns(b={"shape": [MAX_ROWS + 1]}),
    ],
    ids=["rows", "nonsense", "table", "huge", "column"],
)
def test_too_many_rows_are_too_large_before_anything_else(body: dict[str, Any]) -> None:
    with pytest.raises(TooLarge, match="one request may have 100"):
        decode(body)


def test_as_many_rows_as_allowed_are_read() -> None:
    assert decode({"instances": [[1, 2, 3]] * MAX_ROWS}).matrix.shape == (MAX_ROWS, 3)


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [["x", "x", "x"]] * 50},
        {"instances": [[101, 2, 3]] * 50},
        {"instances": [[1]] * 50},
        {"instances": [{"a": 1}] * 50},
        {"instances": [{f"x{i}": 1 for i in range(50)}]},
        table([101] * 150, shape=[50, 3]),
        table([1.5] * 150, shape=[50, 3], datatype="INT8"),
        {"inputs": [{"name": f"x{i}", "shape": [1], "datatype": "FP32", "data": [1]} for i in range(50)]},
        table() | {"outputs": [{}] * 50},
    ],
    ids=["types", "ranges", "widths", "missing", "unknown", "table", "fractions", "tensors", "outputs"],
)
def test_at_most_twenty_faults_are_named(body: dict[str, Any]) -> None:
    assert len(faults(body)) == MAX_FAULTS


CATEGORIES = [{"name": "x"}, {"name": "c", "type": "category", "categories": list("abcdef"), "missing": True}]


def test_a_category_is_sent_as_text_and_becomes_its_position() -> None:
    model = release(columns=CATEGORIES)
    tensors = [
        {"name": "c", "datatype": "BYTES", "shape": [3], "data": ["f", None, "a"]},
        {"name": "x", "datatype": "FP32", "shape": [3], "data": [1, 2, 3]},
    ]
    for body in (
        {"instances": [[1, "f"], [2, None], [3, "a"]]},
        {"instances": [{"c": "f", "x": 1}, {"c": None, "x": 2}, {"c": "a", "x": 3}]},
        {"inputs": tensors},
        {"inputs": [tensors[0] | {"shape": [3, 1], "data": [["f"], [None], ["a"]]}, tensors[1]]},
    ):
        matrix = json_body.decode(model, json.dumps(body).encode(), LIMITS).matrix
        np.testing.assert_array_equal(matrix, np.array([[1, 5], [2, np.nan], [3, 0]], dtype=np.float32))


@pytest.mark.parametrize("value", ["z", "A", "", 1, 0.0, True, [], {}, "\ud800"], ids=repr)
def test_anything_but_its_categories_is_refused_by_naming_the_first_ones(value: Any) -> None:
    model = release(columns=CATEGORIES)
    expected = "row 0, column 'c': expected one of 'a', 'b', 'c', 'd', 'e' … (6 in all)"
    with pytest.raises(Invalid) as caught:
        json_body.decode(model, json.dumps({"instances": [[1, value]]}).encode(), LIMITS)
    assert caught.value.faults == (Fault("/instances/0/1", expected),)


def test_a_tensor_s_datatype_has_to_be_the_one_of_its_column() -> None:
    model = release(columns=CATEGORIES)
    number = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}
    text = {"name": "c", "datatype": "BYTES", "shape": [1], "data": ["a"]}
    for inputs, pointer, reason in (
        ([number | {"name": "c"}, number], "/inputs/0/datatype", "column 'c' takes text: expected BYTES, got FP32"),
        ([text, text | {"name": "x"}], "/inputs/1/datatype", "column 'x' takes numbers"),
        ([number | {"shape": [1, 2], "data": [1, 2]}], "/inputs/0/datatype", "column 'c' takes text"),
    ):
        with pytest.raises(Invalid) as caught:
            json_body.decode(model, json.dumps({"inputs": inputs}).encode(), LIMITS)
        assert caught.value.faults[0].pointer == pointer
        assert caught.value.faults[0].detail.startswith(reason)


def test_a_table_of_nothing_but_categories_may_be_one_tensor() -> None:
    model = release(columns=[CATEGORIES[1], CATEGORIES[1] | {"name": "d"}])
    tensor = {"name": "any", "datatype": "BYTES", "shape": [2, 2], "data": [["a", "b"], [None, "f"]]}
    matrix = json_body.decode(model, json.dumps({"inputs": [tensor]}).encode(), LIMITS).matrix
    np.testing.assert_array_equal(matrix, np.array([[0, 1], [np.nan, 5]], dtype=np.float32))


def test_more_values_than_a_request_may_have_are_refused_before_they_are_read() -> None:
    wide = release(columns=[{"name": f"c{i}"} for i in range(300)])
    for body in (
        {"instances": [[]] * 10_000},
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [10_000, 300], "data": []}]},
    ):
        with pytest.raises(TooLarge, match="3,000,000 values"):
            json_body.decode(wide, json.dumps(body).encode(), WIDE)


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ('{"instances": [{"a": 1, "a": 2, "b/~": 1, "n": 1}]}', "a"),
        ('{"instances": [{"a": 1, "b/~": 1, "\\u0061" : 2, "n": 1}]}', "a"),
        ('{"instances": [[1, 2, 3]], "instances": [[4, 5, 6]]}', "instances"),
        ('{"instances": [[1, 2, 3]], "x:": {"y": [{"z": 1, "z": 1}]}}', "z"),
        ('{"x": ":", "instances": [[1, 2, 3]], "id": 1, "id": 2}', "id"),
        (
            '{"inputs": [{"name": "x", "shape": [1, 3], "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}',
            "shape",
        ),
        (
            '{"inputs": [], "parameters": {"binary_data_output": true, "binary_data_output": false}}',
            "binary_data_output",
        ),
        ('{"instances": [{"a": NaN, "a": 2, "b/~": 1, "n": 1}]}', "a"),
    ],
)
def test_a_key_that_is_twice_in_one_object_is_refused(body: str, key: str) -> None:
    assert faults(body.encode()) == [("", f"the key '{key}' is twice in one object")]


def test_colons_in_texts_and_keys_are_no_repeated_keys() -> None:
    model = release(columns=[{"name": "a:b"}, {"name": "c", "type": "category", "categories": ["x:y", '":']}])
    body = json.dumps({"instances": [{"a:b": 10**400, "c": "x:y"}, {"a:b": 2, "c": '":'}]}).replace("0" * 400, "")
    assert json_body.decode(model, body.encode(), LIMITS).matrix.tolist() == [[1, 0], [2, 1]]
    deep = '{"x:": ' + "[" * 900 + "{}" + "]" * 900 + ', "instances": [[1, 2, 3]]}'
    assert len(decode(deep.encode()).matrix) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[1, 2, 3], [0] * 1001]},
        {"instances": [{str(i): 0 for i in range(1001)}]},
        {"inputs": [{"name": str(i), "shape": [1], "datatype": "FP32", "data": [0]} for i in range(1001)]},
        {"inputs": [{"name": "x", "shape": [1, 1001], "datatype": "FP32", "data": [0] * 1001}]},
    ],
    ids=["rows", "records", "tensors", "table"],
)
def test_too_many_columns_are_too_large(body: Any) -> None:
    with pytest.raises(TooLarge, match="1,001 columns; one request may have 1,000"):
        decode(body)


def test_long_names_are_cut_where_they_are_repeated() -> None:
    long = "/" * 5000
    tensor = {"name": long, "shape": [1], "datatype": "FP32", "data": [1]}
    for body in ({"instances": [{long: 1}]}, {"inputs": [tensor] * 2}):
        for pointer, detail in faults(body):
            assert len(pointer) < 450 and len(detail) < 250


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
names = st.sampled_from(["a", "b/~", "n", "x", "inputs", "instances", "name", "shape", "datatype", "data", "id"])
anything = st.recursive(
    scalars | st.sampled_from(["FP32", "INT8", "a", "n"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=25,
)


def resolves(document: Any, pointer: str) -> bool:
    """Tell whether the pointer, or for something missing its parent, is in the document."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for position, part in enumerate(parts):
        try:
            document = document[int(part)] if isinstance(document, list) else document[part]
        except (KeyError, IndexError, ValueError, TypeError):
            return position == len(parts) - 1 and isinstance(document, dict)
    return True


def decodes_or_is_refused(body: Any) -> None:
    raw = json.dumps(body).encode()
    try:
        decoded = decode(raw)
    except (Malformed, TooLarge, Unavailable):
        return
    except Invalid as error:
        assert 1 <= len(error.faults) <= MAX_FAULTS
        assert all(resolves(json.loads(raw), fault.pointer) for fault in error.faults), error.faults
    else:
        assert RELEASE.schema.faults(decoded.matrix) == []


@given(anything)
def test_any_json_is_decoded_or_refused_with_a_pointer_into_it(body: Any) -> None:
    decodes_or_is_refused(body)


@given(anything)
def test_any_instances_are_decoded_or_refused_with_a_pointer_into_them(instances: Any) -> None:
    decodes_or_is_refused({"instances": instances})


@given(st.data())
def test_any_change_of_a_v2_request_is_decoded_or_refused_with_a_pointer_into_it(data: st.DataObject) -> None:
    body = data.draw(st.sampled_from([table(), table(ROWS), columns()])) | {"id": "x", "outputs": [{"name": "label"}]}
    tensors = [dict(t) for t in body["inputs"]]
    tensor = data.draw(st.sampled_from(tensors))
    tensor[data.draw(st.sampled_from(["name", "shape", "datatype", "data", "parameters"]))] = data.draw(anything)
    body |= {"inputs": tensors} | data.draw(st.dictionaries(st.sampled_from(["id", "outputs"]), anything, max_size=1))
    decodes_or_is_refused(body)


cells = st.tuples(
    st.floats(-120, 120) | st.sampled_from([100, -100, 100.000001, 100.0000001]),
    st.floats() | st.none(),
    st.integers(-1, 6) | st.floats(0, 5),
)


@given(st.lists(cells.map(list), min_size=1, max_size=5))
def test_what_the_portal_accepts_the_worker_accepts(rows: list[list[Any]]) -> None:
    decodes_or_is_refused({"instances": rows})


single = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("kind", ["two", "three", "number"])
@given(data=st.data())
def test_answers_hold_exactly_the_model_s_float32_values(kind: str, data: st.DataObject) -> None:
    output = Output.model_validate(OUTPUTS[kind])
    width = max(1, len(output.labels)) if kind != "two" else 1
    rows = data.draw(st.lists(st.lists(single, min_size=width, max_size=width), min_size=1, max_size=5))
    raw = np.array(rows, dtype=np.float32)
    tensors = encode_tensors(output.tensors, named_outputs(output, raw), slice(0, len(rows))).encode()

    answer = json.loads(json_v2.encode("m", "1", "my id", tensors))
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("m", "1", "my id")
    first = answer["outputs"][0]
    assert first["shape"] == (list(raw.shape) if output.kind == "multiclass" else [len(rows)])
    np.testing.assert_array_equal(np.array(first["data"], dtype=np.float32).reshape(raw.shape), raw)

    predictions = json.loads(json_instances.encode(tensors))["predictions"]
    values = [p if kind == "number" else p["probability"] for p in predictions]
    np.testing.assert_array_equal(np.array(values, dtype=np.float32).reshape(raw.shape), raw)


def test_instances_are_answered_with_the_value_of_the_only_output_or_with_all_of_them() -> None:
    probability = {"name": "probability", "datatype": "FP32", "shape": [2], "data": [0.25, 0.75]}
    label = {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["no", "yes"]}
    assert json.loads(json_instances.encode(orjson.dumps([probability]))) == {"predictions": [0.25, 0.75]}
    assert json.loads(json_instances.encode(orjson.dumps([probability, label]))) == {
        "predictions": [{"probability": 0.25, "label": "no"}, {"probability": 0.75, "label": "yes"}]
    }


def test_the_metadata_names_each_column_and_output() -> None:
    metadata = json_v2.metadata(RELEASE.manifest, ["1", "2"])
    assert metadata["versions"] == ["1", "2"]
    assert metadata["inputs"][2] == {"name": "n", "datatype": "INT64", "shape": [-1]}
    assert metadata["outputs"] == [
        {"name": "probability", "datatype": "FP32", "shape": [-1]},
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
    ]


def test_an_invalid_request_says_all_its_faults() -> None:
    assert str(Invalid(Fault("/a", "x"), Fault("/b", "y"))) == "/a: x; /b: y"
