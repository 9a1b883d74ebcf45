"""Binary tensors of V2: the JSON's length in a header, raw data behind it."""

import json
import struct
from typing import Any

import numpy as np
import pytest

from tests.unit.builders import release
from tests.unit.formats.bodies import LIMITS, Body, as_binary, decode, faults, texts
from workers.formats import Decoded, Malformed, media, v2_binary
from workers.formats.media import Sent

A = ("a", "FP32", [2], np.array([1.5, -4], "<f4").tobytes())
B = ("b/~", "FP64", [2, 1], np.array([2.5, np.nan], "<f8").tobytes())
N = ("n", "UINT8", [2], b"\3\5")
C = ("c", "BYTES", [2], texts("blue", "red"))
SIZE = "/parameters/binary_data_size"


def test_tensors_are_read_in_the_order_of_the_json() -> None:
    expected = np.array([[1.5, 2.5, 3, 2], [-4, np.nan, 5, 0]], dtype=np.float32)
    for order in ([A, B, N, C], [C, N, B, A]):
        np.testing.assert_array_equal(decode(as_binary(order)).matrix, expected)


def test_json_and_binary_tensors_may_be_mixed() -> None:
    body = as_binary([A, N, C])
    length = int(body.sent.header_length or 0)
    data = json.loads(body.data[:length])
    data["inputs"].insert(1, {"name": "b/~", "datatype": "FP32", "shape": [2], "data": [2.5, None]})
    text = json.dumps(data).encode()
    for content_type in ("", "application/json", "application/octet-stream"):
        sent = Sent(content_type, str(len(text)))
        assert decode(Body(sent, text + body.data[length:])).matrix[0].tolist() == [1.5, 2.5, 3, 2]


@pytest.mark.parametrize("datatype", v2_binary.DTYPES)
def test_every_number_type_is_read_little_endian(datatype: str) -> None:
    model = release(columns=[{"name": "x"}])
    raw = np.array([1, 0], v2_binary.DTYPES[datatype]).tobytes()
    body = as_binary([("x", datatype, [2], raw)])
    assert media.decode(model, body.sent, body.data, LIMITS).matrix.tolist() == [[1], [0]]


def test_a_whole_table_may_be_one_tensor() -> None:
    model = release(columns=[{"name": "x"}, {"name": "y"}])
    body = as_binary([("any", "FP32", [2, 2], np.arange(4, dtype="<f4").tobytes())])
    assert media.decode(model, body.sent, body.data, LIMITS).matrix.tolist() == [[0, 1], [2, 3]]


def with_n(datatype: str, raw: bytes) -> list[Any]:
    return [A, B, ("n", datatype, [2], raw), C]


def with_c(raw: bytes) -> list[Any]:
    return [A, B, N, ("c", "BYTES", [2], raw)]


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


@pytest.mark.parametrize(
    ("tensors", "pointer", "detail"),
    [
        (with_n("INT64", struct.pack("<qq", 1, 2**60)), "/inputs/2/data/1", "row 1, column 'n': expected a whole"),
        (with_n("BOOL", b"\1\2"), "/inputs/2/data/1", "row 1, column 'n': expected a whole number that fits BOOL"),
        (
            [A, ("b/~", "FP32", [2], floats(1, np.inf)), N, C],
            "/inputs/1/data/1",
            "row 1, column 'b/~': expected a fini",
        ),
        (
            [("a", "FP32", [2], floats(np.nan, 1)), B, N, C],
            "/inputs/0/data/0",
            "row 0, column 'a': a value is required",
        ),
        (with_c(texts("red", "puce")), "/inputs/3/data/1", "row 1, column 'c': expected one of 'red'"),
        (with_c(texts("red") + b"\2\0\0\0\xff\xfe"), "/inputs/3/data/1", "row 1, column 'c': expected one of 'red'"),
        (with_n("UINT8", b"\3"), f"/inputs/2{SIZE}", "1 bytes, but 2 values of UINT8 need 2"),
        (with_n("UINT8", b"\3\3\3"), f"/inputs/2{SIZE}", "3 bytes, but 2 values of UINT8 need 2"),
        (with_c(texts("red")), f"/inputs/3{SIZE}", "expected 2 texts in 7 bytes"),
        (with_c(texts("red", "red", "red")), f"/inputs/3{SIZE}", "expected 2 texts in 21 bytes"),
        (with_c(texts("red") + b"\xff\xff\xff\xff"), f"/inputs/3{SIZE}", "expected 2 texts in 11 bytes"),
        (with_c(b"\0\0"), f"/inputs/3{SIZE}", "expected 2 texts in 2 bytes"),
        ([("any", "FP32", [100, 4], b"")], "/inputs/0/datatype", "column 'c' takes text"),
        ([A, B, C], "/inputs", "column 'n' is missing"),
    ],
)
def test_what_is_wrong_is_named(tensors: list[Any], pointer: str, detail: str) -> None:
    found = faults(as_binary(tensors))[0]
    assert found[0] == pointer
    assert found[1].startswith(detail)


@pytest.mark.parametrize("size", [-1, 2.5, True, "8", [8], 10**12])
def test_a_size_that_is_none_is_refused(size: Any) -> None:
    body = as_binary([A])
    text = json.dumps(json.loads(body.data[: int(body.sent.header_length or 0)])).replace("8}", f"{json.dumps(size)}}}")
    sent = Sent("", str(len(text)))
    if size == 10**12:
        with pytest.raises(Malformed, match="sum up to 1,000"):
            decode(Body(sent, text.encode() + A[3]))
    else:
        assert faults(Body(sent, text.encode() + A[3]))[0][0] == f"/inputs/0{SIZE}"


def test_bytes_that_belong_to_no_tensor_are_malformed() -> None:
    body = as_binary([A, B, N, C])
    for data in (body.data + b"x", body.data[:-1], body.data[: int(body.sent.header_length or 0)]):
        with pytest.raises(Malformed, match="bytes follow the JSON"):
            decode(body._replace(data=data))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("100000", "but the body has"),
        ("0", "not JSON"),
        ("5", "not JSON"),
        *((text, "isn't a number") for text in ("", "-1", "1e2", "٣")),
    ],
)
def test_a_wrong_length_of_the_json_is_malformed(header: str, reason: str) -> None:
    body = as_binary([A, B, N, C])
    with pytest.raises(Malformed, match=reason):
        decode(body._replace(sent=Sent("", header)))


def test_rows_are_no_tensors() -> None:
    text = b'{"instances": [[1, 2, 3, "red"]]}'
    assert faults(Body(Sent("", str(len(text))), text))[0][0] == ""


def test_a_length_of_the_json_goes_with_v2_only() -> None:
    with pytest.raises(Malformed, match="goes with V2 tensors only"):
        decode(Body(Sent("text/csv", "5"), b"a,b/~,n,c\n1,2,3,red\n"))


@pytest.mark.parametrize(
    ("more", "outputs", "binary"),
    [
        ({}, None, ()),
        ({"parameters": {"binary_data_output": True}}, None, ("probability", "label")),
        ({"outputs": [{"name": "label", "parameters": {"binary_data": True}}]}, ("label",), ("label",)),
        (
            {
                "outputs": [{"name": "label", "parameters": {"binary_data": False}}, {"name": "probability"}],
                "parameters": {"binary_data_output": True},
            },
            ("label", "probability"),
            ("probability",),
        ),
    ],
)
def test_which_outputs_are_wanted_and_how_is_kept(
    more: dict[str, Any], outputs: tuple[str, ...] | None, binary: tuple[str, ...]
) -> None:
    decoded: Decoded = decode(as_binary([A, B, N, C], id="mine", **more))
    assert decoded.reply == {"format": "v2", "id": "mine", "outputs": outputs, "binary": binary}
