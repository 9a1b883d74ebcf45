"""Line ends are found where Python's csv module sees them."""

import csv
import io

from hypothesis import example, given
from hypothesis import strategies as st

from workers.datasets.csv_lines import Lines


def ends(text: bytes, step: int, quote: str = '"') -> tuple[list[int], bool]:
    lines = Lines(",", quote)
    found: list[int] = []
    for start in range(0, len(text), step):
        found += (lines.ends(text[start : start + step]) + start).tolist()
    return found, lines.in_quotes


def by_csv(text: str) -> list[int]:
    """Where csv's records end; LF is the only line end in the texts."""
    source = io.StringIO(text, newline="\n")
    at, found = 0, []
    taken = []

    def lines() -> object:
        for line in source:
            taken.append(len(line))
            yield line

    for _ in csv.reader(lines()):  # type: ignore[arg-type]
        at = sum(taken)
        found.append(at)
    return found


@given(st.text(alphabet='a,"\n ', max_size=40), st.integers(1, 41))
@example('"a""b\n"\nc', 1)
@example('a"b\nc"\n', 3)
@example('"a"b"\n"\n', 2)
@example('""\n"""\n"\n', 1)
def test_they_are_those_of_the_csv_module_whatever_the_blocks(text: str, step: int) -> None:
    text += "\n"
    found, in_quotes = ends(text.encode(), step)
    expected = by_csv(text)
    # csv takes a value whose quotes don't close for one that ends with the text.
    assert found == (expected[:-1] if in_quotes else expected)


def test_without_quotes_each_line_end_counts() -> None:
    assert ends(b'"a\nb"\n', 2, quote="") == ([3, 6], False)


def test_crlf_ends_a_line_once() -> None:
    assert ends(b'a,"x\r\ny"\r\nb\r\n', 1)[0] == [10, 13]
