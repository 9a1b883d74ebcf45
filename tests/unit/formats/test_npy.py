"""NumPy's file format: plain and structured arrays; nothing of the header is believed or evaluated."""

import io
import struct
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest

from tests.unit.builders import release
from tests.unit.formats.bodies import LIMITS, MAX_ROWS, NPY, Body, as_npy, decode, faults, structured
from workers.formats import Decoded, Invalid, Malformed, TooLarge, media
from workers.formats.media import Sent

NUMBERS = release(columns=[{"name": "x"}, {"name": "y", "missing": True}, {"name": "n", "type": "int"}])


def npy(array: np.ndarray[Any, Any], version: tuple[int, int] | None = None) -> Body:
    return Body(Sent(NPY), as_npy(array, version))


def header(text: str, data: bytes = b"") -> Body:
    return Body(Sent(NPY), b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode("latin1") + data)


def numbers(array: Any) -> Decoded:
    return media.decode(NUMBERS, Sent(NPY), as_npy(np.asarray(array)), LIMITS)


@pytest.mark.parametrize(
    "dtype", ["<f4", ">f4", "<f8", ">f2", "i1", ">i2", "<i4", ">i8", "u1", "<u2", ">u4", "<u8", "?"]
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_plain_array_of_any_number_type_is_read_in_signature_order(dtype: str, order: Any) -> None:
    values = np.array([[1, 0, 1], [0, 1, 0]]).astype(dtype, order=order)
    assert numbers(values).matrix.tolist() == [[1, 0, 1], [0, 1, 0]]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_fields_of_a_structured_array_are_found_by_name(order: str, version: tuple[int, int]) -> None:
    array = structured(order)
    array["a"], array["n"] = [1.5, 2, 3], [7, 8, 9]
    expected = [[1.5, 0, 7, 0], [2, 0, 8, np.nan], [3, 0, 9, 2]]
    decoded = decode(npy(array, version))
    np.testing.assert_array_equal(decoded.matrix, np.array(expected, dtype=np.float32))
    assert decoded.format == "npy"


def test_names_that_numpy_escapes_are_found() -> None:
    model = release(columns=[{"name": "it's \\ é"}, {"name": '"'}])
    array = np.ones(2, dtype=[("it's \\ é", "f4"), ('"', "f4")])
    assert media.decode(model, Sent(NPY), as_npy(array), LIMITS).matrix.tolist() == [[1, 1]] * 2


def test_texts_as_bytes_are_read_too() -> None:
    model = release(columns=[{"name": "c", "type": "category", "categories": ["red"], "missing": True}])
    for array in (np.array([["red"], [""]], "S3"), np.array([["red"], [""]], "U8")):
        decoded = media.decode(model, Sent(NPY), as_npy(array), LIMITS)
        np.testing.assert_array_equal(decoded.matrix, np.array([[0], [np.nan]], np.float32))


@pytest.mark.parametrize(
    ("array", "pointer", "detail"),
    [
        (np.zeros((2, 2)), "", "expected [rows, 3], got [2, 2]"),
        (np.zeros(3), "", "expected [rows, 3], got [3]"),
        (np.array(1.0), "", "expected [rows, 3], got []"),
        (np.zeros((0, 3)), "", "at least one row is required"),
        (np.array([[1, 2, 2**53]], ">i8"), "/0/2", "row 0, column 'n': expected a whole number of at most 16,777,216"),
        (np.array([[1, 2, 2**64 - 1]], "u8"), "/0/2", "row 0, column 'n': expected a whole number"),
        (np.array([[1, 2, 3], [np.nan, 2, 3]]), "/1/0", "row 1, column 'x': a value is required"),
        (np.array([[1, -np.inf, 3]]), "/0/1", "row 0, column 'y': expected a finite number"),
        (np.array([[1, 1e300, 3]]), "/0/1", "row 0, column 'y': expected a finite number"),
        (np.array([["1", "2", "3"]]), "/x", "column 'x': expected numbers, got <U1"),
        (np.zeros(2, [("x", "f4"), ("y", "f4")]), "/n", "column 'n' is missing"),
        (np.zeros(2, [("x", "f4"), ("y", "f4"), ("n", "f4"), ("z", "f4")]), "/z", "the model has no column 'z'"),
        (np.zeros((2, 2), [("x", "f4"), ("y", "f4"), ("n", "f4")]), "", "expected [rows], got [2, 2]"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(array: np.ndarray[Any, Any], pointer: str, detail: str) -> None:
    with pytest.raises(Invalid) as caught:
        numbers(array)
    assert caught.value.faults[0].pointer == pointer
    assert caught.value.faults[0].detail.startswith(detail)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8"])
def test_every_kind_of_nan_is_a_missing_value(dtype: str) -> None:
    values = np.ones((2, 3), dtype)
    bits = values.view(dtype.replace("f", "u"))
    bits[0, 1] = np.array(np.inf, dtype).view(dtype.replace("f", "u")) + 1
    bits[1, 1] = np.iinfo(bits.dtype).max
    assert np.isnan(numbers(values).matrix[:, 1]).all()


def test_text_fields_are_pointed_at_by_name() -> None:
    array = structured()
    array["c"][1] = "puce"
    assert faults(npy(array)) == [("/1/c", "row 1, column 'c': expected one of 'red', 'green', 'blue'")]


def test_objects_are_never_read() -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return time.sleep, (60,)

    file = io.BytesIO()
    np.save(file, np.array([[Bomb()]], dtype=object), allow_pickle=True)
    with pytest.raises(Malformed, match="never objects"):
        decode(Body(Sent(NPY), file.getvalue()))


PLAIN = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }"


@pytest.mark.parametrize(
    "body",
    [
        Body(Sent(NPY), b""),
        Body(Sent(NPY), b"PK\3\4"),
        Body(Sent(NPY), b"\x93NUMPY"),
        Body(Sent(NPY), b"\x93NUMPY\1\0"),
        Body(Sent(NPY), b"\x93NUMPY\4\0" + bytes(100)),
        Body(Sent(NPY), b"\x93NUMPY\1\0\xff\xff{'descr'"),
        Body(Sent(NPY), b"\x93NUMPY\2\0\xff\xff\xff\xff{'descr'"),
        Body(Sent(NPY), b"\x93NUMPY\3\0\2\0\0\0\xff\xff"),
        header(""),
        header(PLAIN, bytes(47)),
        header(PLAIN, bytes(49)),
        header(PLAIN.replace("(3, 4)", "(3, 99999999999999999)"), bytes(48)),
        header(PLAIN.replace("(3, 4)", "(999999999999999999, 999999999999999999)"), bytes(48)),
        header(PLAIN.replace("(3, 4)", "(9999999999999999999999999,)"), bytes(48)),
        header(PLAIN.replace("(3, 4)", "(-3, 4)"), bytes(48)),
        header(PLAIN.replace("(3, 4)", "(3, 4, 1)"), bytes(48)),
        header(PLAIN.replace("(3, 4)", "(3,, 4)"), bytes(48)),
        header(PLAIN.replace("(3, 4)", "(3 3, 4)"), bytes(48)),
        header(PLAIN.replace("False", "__import__('time').sleep(9)"), bytes(48)),
        header(PLAIN.replace("'<f4'", "'<U0'"), b""),
        header(PLAIN.replace("'<f4'", "'<U999999999'"), bytes(48)),
        header(PLAIN.replace("'<f4'", "'<f3'"), bytes(48)),
        header(PLAIN.replace("'<f4'", "'<c8'"), bytes(96)),
        header(PLAIN.replace("'<f4'", "'<M8[ns]'"), bytes(96)),
        header(PLAIN.replace("'<f4'", "[('a', '<f4', (2,))]"), bytes(96)),
        header(PLAIN.replace("'<f4'", "[('a', [('b', '<f4')])]"), bytes(96)),
        header(PLAIN.replace("'<f4'", "[('a\\ud8', '<f4')]"), bytes(48)),
        header(PLAIN.replace("'<f4'", "[" + "(" * 5000), bytes(48)),
        header(PLAIN.replace("'<f4'", "[]"), b""),
        header("(" * 60_000),
        header("[" + "'" * 60_000),
    ],
    ids=lambda body: repr(body.data)[:70],
)
def test_what_can_not_be_read_is_malformed_and_takes_no_time(body: Body) -> None:
    started = time.process_time()
    with pytest.raises(Malformed):
        decode(body)
    assert time.process_time() - started < 1


def test_a_text_that_is_not_unicode_is_malformed() -> None:
    array = structured()
    raw = as_npy(array).replace("red".encode("utf-32-le"), b"\xff" * 12)
    with pytest.raises(Malformed, match="isn't Unicode"):
        decode(Body(Sent(NPY), raw))
    model = release(columns=[{"name": "c", "type": "category", "categories": ["red"]}])
    with pytest.raises(Malformed, match="isn't ASCII"):
        media.decode(model, Sent(NPY), as_npy(np.array([["é".encode()]])), LIMITS)


def test_a_field_that_is_given_twice_is_pointed_at() -> None:
    text = PLAIN.replace("'<f4'", "[('a', '<f4'), ('a', '<f4')]")
    assert faults(header(text, bytes(96))) == [("/a", "column 'a' is sent twice")]
    assert faults(header(PLAIN.replace("'<f4'", "[('', '<f4')]"), bytes(48)))[0][0] == "/"


def test_a_boolean_that_is_neither_0_nor_1_is_malformed() -> None:
    text = PLAIN.replace("'<f4'", "'|b1'").replace("(3, 4)", "(1, 3)")
    assert media.decode(NUMBERS, Sent(NPY), header(text, b"\1\0\1").data, LIMITS).matrix.tolist() == [[1, 0, 1]]
    with pytest.raises(Malformed, match="column 'y' has a boolean that is neither 0 nor 1"):
        media.decode(NUMBERS, Sent(NPY), header(text, b"\1\2\1").data, LIMITS)
    fields = PLAIN.replace("'<f4'", "[('x', '|b1'), ('y', '|b1'), ('n', '|i1')]").replace("(3, 4)", "(1,)")
    with pytest.raises(Malformed, match="column 'x' has a boolean"):
        media.decode(NUMBERS, Sent(NPY), header(fields, b"\xff\1\1").data, LIMITS)


def test_fields_whose_sizes_overflow_in_numpy_are_malformed() -> None:
    # 2**32 + 8 bytes a row, of which NumPy's 32 bits leave 8: it read far outside of the body.
    names = [f"c{i}" for i in range(108)]
    kinds = ["<f8", *["<U9999999"] * 107]
    left = 2**32 - 4 * 9999999 * 107
    fields = ", ".join(f"('{name}', '{kind}')" for name, kind in zip(names, kinds, strict=True))
    text = PLAIN.replace("'<f4'", f"[{fields}, ('last', '<U{left // 4}')]").replace("(3, 4)", "(1,)")
    model = release(columns=[{"name": "c0"}, *({"name": name} for name in [*names[1:], "last"])])
    with pytest.raises(Malformed, match="8 bytes of data; shape and type in the npy header need 4,294,967,304"):
        media.decode(model, Sent(NPY), header(text, bytes(8)).data, LIMITS)


def test_a_long_text_as_bytes_takes_no_more_memory_than_it_has() -> None:
    model = release(columns=[{"name": "c", "type": "category", "categories": ["red"]}])
    tracemalloc.start()
    with pytest.raises(Invalid):
        media.decode(model, Sent(NPY), as_npy(np.array([[b"x" * 1_000_000], [b"red"]])), LIMITS)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_too_many_columns_are_too_large() -> None:
    for array in (np.zeros((1, 1001), "u1"), np.zeros(1, [(f"c{i}", "u1") for i in range(1001)])):
        with pytest.raises(TooLarge, match="1,001 columns; one request may have 1,000"):
            numbers(array)


def test_too_many_rows_are_too_large() -> None:
    with pytest.raises(TooLarge, match="one request may have 100"):
        numbers(np.zeros((MAX_ROWS + 1, 3)))
