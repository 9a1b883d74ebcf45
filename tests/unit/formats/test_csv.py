"""CSV: what is read, what is refused and with which pointer."""

import time

import numpy as np
import pytest

from tests.unit.builders import release
from tests.unit.formats.bodies import LIMITS, MAX_ROWS, WIDE, Body, decode, faults
from workers.formats import MAX_VALUES, Invalid, Malformed, TooLarge, UnknownType, media
from workers.formats.media import Sent

HEAD = "a,b/~,n,c\n"
MATRIX = np.array([[1.5, np.nan, 3, 0], [-20, 0.25, 4, np.nan]], dtype=np.float32)


def csv(text: str | bytes, content_type: str = "text/csv") -> Body:
    return Body(Sent(content_type), text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    "body",
    [
        csv(HEAD + "1.5,,3,red\n-2e1,.25,4,\n"),
        csv(HEAD + "1.5,,3,red\r\n-2e1,.25,4,"),
        csv(HEAD + "1.5,,3,red\r-2e1,.25,4,\r\r\n\n"),
        csv(HEAD + "1.5,NaN,3,red\n -20 ,+0.25,4.0,\n", 'Text/CSV; Charset="UTF-8"; header=present'),
        csv("\ufeff" + HEAD + "1.5,,3,red\n-20,.25,4,\n", "text/csv;charset=utf-8"),
        csv('"c","n","b/~","a"\n"red","3","","1.5"\n"","4","0.25","-20"\n'),
    ],
    ids=["lines", "no last end", "old Macs", "spaces and signs", "mark", "quotes and another order"],
)
def test_every_way_to_write_a_table_gives_the_same_matrix(body: Body) -> None:
    decoded = decode(body)
    np.testing.assert_array_equal(decoded.matrix, MATRIX)
    assert decoded.format == "csv"


def test_names_and_texts_may_hold_commas_quotes_and_line_ends() -> None:
    model = release(columns=[{"name": 'x, "y"'}, {"name": "c", "type": "category", "categories": ['a,"b"', "é"]}])
    body = '"x, ""y""",c\n1,"a,""b"""\n"2",é\n'.encode()
    assert media.decode(model, Sent("text/csv"), body, LIMITS).matrix.tolist() == [[1, 0], [2, 1]]
    with pytest.raises(Malformed, match="line 2"):
        media.decode(model, Sent("text/csv"), b'"x, ""y""",c\n1,"a', LIMITS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD, [("", "at least one row is required")]),
        ("a,b/~,c\n1,2,red\n", [("/n", "column 'n' is missing")]),
        (
            "a,b/~,n,c,x/,a\n",
            [("/x~1", "the model has no column 'x/'"), ("/a", "column 'a' is sent twice")],
        ),
        ("A,b/~,n,c\n", [("/A", "the model has no column 'A'"), ("/a", "column 'a' is missing")]),
        ("a;b/~;n;c\n", [("/a;b~1~0;n;c", "the model has no column 'a;b/~;n;c'")]),
        (HEAD + "1,2,3,red\n1,2,3\n", [("/1", "row 1: expected 4 values, got 3")]),
        (HEAD + "1,2,3,red\n\n1,2,3,red\n", [("/1", "row 1: expected 4 values, got 0")]),
        (HEAD + ",2,3,red\n", [("/0/a", "row 0, column 'a': a value is required, this column may not be missing")]),
        (HEAD + "101,2,3,red\n", [("/0/a", "row 0, column 'a': 101 is outside the range -100 to 100")]),
        (HEAD + "1,inf,3,red\n", [("/0/b~1~0", "row 0, column 'b/~': expected a finite number that fits float32")]),
        (HEAD + "1,1e39,3,red\n", [("/0/b~1~0", "row 0, column 'b/~': expected a finite number that fits float32")]),
        (HEAD + "1,2,3,puce\n", [("/0/c", "row 0, column 'c': expected one of 'red', 'green', 'blue'")]),
    ],
)
def test_what_is_wrong_is_named_by_pointer_row_and_column(text: str, expected: list[tuple[str, str]]) -> None:
    assert faults(csv(text))[: len(expected)] == expected


@pytest.mark.parametrize("cell", ["x", "1_000", "٣", "0x10", "true", "1 2", '"1,5"', "--1", "١٢", " ", "x" * 100])
def test_what_is_no_number_is_shown(cell: str) -> None:
    [(pointer, detail)] = faults(csv(HEAD + f"{cell},2,3,red\n"))
    assert pointer == "/0/a"
    assert detail.startswith("row 0, column 'a': expected a number, got '")
    assert len(detail) < 90


@pytest.mark.parametrize("number", ["16777217", "1.5", "1" + "0" * 300, "99999999999999999999"])
def test_a_column_of_whole_numbers_takes_no_number_that_would_change(number: str) -> None:
    assert faults(csv(HEAD + f"1,2,{number},red\n"))[0][0] == "/0/n"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (csv(""), "the body is empty"),
        (csv("\n\n"), "the body is empty"),
        (csv(HEAD + '1,2,3,"red'), "line 2: unexpected end of data"),
        (csv(HEAD + '1,2,3,"red"x\n'), "line 2: ',' expected after '\"'"),
        (csv(HEAD + "1" * 200_000), "field larger than field limit"),
        (csv(b"a,b\xff"), "not UTF-8"),
        (csv(HEAD.encode() + b"1,2,3,\xc3\x28"), "not UTF-8"),
        (csv((HEAD + "1,2,3,red").encode("utf-16")), "not UTF-8"),
    ],
)
def test_what_can_not_be_read_is_malformed(body: Body, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        decode(body)


@pytest.mark.parametrize(
    "content_type", ["text/csv; charset=latin-1", "text/csv;charset=utf-16", "text/csv;header=absent"]
)
def test_another_charset_or_no_header_row_is_refused_clearly(content_type: str) -> None:
    with pytest.raises(UnknownType, match="isn't read here; send"):
        decode(csv(HEAD + "1,2,3,red\n", content_type))


def test_too_many_rows_are_too_large() -> None:
    assert len(decode(csv(HEAD + "1,2,3,red\n" * MAX_ROWS)).matrix) == MAX_ROWS
    with pytest.raises(TooLarge, match="more than the 100 rows"):
        decode(csv(HEAD + "1,2,3,red\n" * (MAX_ROWS + 1)))


def test_more_values_than_a_request_may_have_are_refused_while_they_are_read() -> None:
    wide = release(columns=[{"name": f"c{i}"} for i in range(400)])
    head, line = ",".join(wide.schema.names), ",".join("1" * 400)
    body = "\n".join([head, *[line] * (MAX_VALUES // 400 + 1)]).encode()
    with pytest.raises(TooLarge, match="more than the 5,242 rows of 400 columns"):
        media.decode(wide, Sent("text/csv"), body, WIDE)


def test_too_many_columns_are_too_large() -> None:
    with pytest.raises(TooLarge, match="1,000,000 columns; one request may have 1,000"):
        decode(csv(",".join(f"x{i}" for i in range(1_000_000))))


def test_a_row_of_ten_thousand_faults_takes_no_time() -> None:
    wide = release(columns=[{"name": f"c{i}"} for i in range(10_000)])
    body = ",".join(wide.schema.names) + "\n" + ",".join("x" * 10_000)
    started = time.process_time()
    with pytest.raises(Invalid) as caught:
        media.decode(wide, Sent("text/csv"), body.encode(), WIDE)
    assert len(caught.value.faults) == 20
    assert time.process_time() - started < 1


def test_a_long_name_is_cut_where_it_is_repeated() -> None:
    pointer, detail = faults(csv("é" * 50_000 + "," + HEAD))[0]
    assert pointer == "/" + "é" * 200 + "…"
    assert detail == "the model has no column '" + "é" * 200 + "…'"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (",".join(f"x{i}" for i in range(1_000)), 20),
        (HEAD + "x,x,x,x\n" * 50, 20),
        (HEAD + "," * 1_000_000, 1),
    ],
    ids=["names", "values", "one row"],
)
def test_at_most_twenty_faults_are_named(text: str, count: int) -> None:
    assert len(faults(csv(text))) == count
