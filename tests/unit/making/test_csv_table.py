"""What the columns of a CSV are follows from what is in them, and what can't be learned from is said."""

from pathlib import Path

import numpy as np
import pytest

from workers.making import csv_table
from workers.making.table import DataError, Table

ROWS = 40


def csv_file(folder: Path, text: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(folder: Path, columns: dict[str, list[str]], target: str = "y", **said: object) -> tuple[Table, list[str]]:
    """Read a file with these columns, and `y` of two classes unless it is among them. Returns the table and notes."""
    columns = {"y": [("no", "yes")[i % 2] for i in range(ROWS)]} | columns
    lines = [",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))]
    notes: list[str] = []
    path = csv_file(folder, "\n".join(lines) + "\n")
    return csv_table.read(path, target, notes.append, **said), notes  # type: ignore[arg-type]


def rows(*cells: str) -> list[str]:
    return [cells[i % len(cells)] for i in range(ROWS)]


def test_numbers_whole_numbers_and_texts_become_columns_with_what_was_seen(tmp_path: Path) -> None:
    table, _ = read(
        tmp_path,
        {
            "price": rows("1.5", "-2e3", "7"),
            "count": rows("3", "1200", "8"),
            "big": rows("16777217", "1"),
            "city": rows("Ulm", "Bonn", "Ulm"),
        },
    )
    price, count, big, city = table.columns
    assert (price.type, price.range, price.missing) == ("float", (-100_000, 100_000), False)
    assert (count.type, count.range) == ("int", (0, 100_000))
    # float32 can't hold it, so the column can't promise whole numbers.
    assert big.type == "float"
    assert (city.type, city.categories) == ("category", ("Bonn", "Ulm"))
    assert table.matrix[:3].tolist() == [[1.5, 3, 16777216, 1], [-2000, 1200, 1, 0], [7, 8, 16777216, 1]]
    assert (table.matrix.dtype, table.labels, table.target[:3].tolist()) == (np.float32, ("no", "yes"), [0, 1, 0])


@pytest.mark.parametrize("word", ["", "NA", "nan", "NULL", "n/a", "?"])
def test_a_word_for_nothing_among_numbers_is_a_missing_value(tmp_path: Path, word: str) -> None:
    table, _ = read(tmp_path, {"a": rows("1", word, "3")})
    (a,) = table.columns
    assert (a.type, a.missing, np.isnan(table.matrix[:3, 0]).tolist()) == ("int", True, [False, True, False])


def test_in_a_column_of_texts_only_the_empty_one_is_missing(tmp_path: Path) -> None:
    table, _ = read(tmp_path, {"a": rows("NA", "", "x")})
    (a,) = table.columns
    assert (a.categories, a.missing, np.isnan(table.matrix[:3, 0]).tolist()) == (
        ("NA", "x"),
        True,
        [False, True, False],
    )


def test_what_teaches_nothing_is_left_out_with_the_reason(tmp_path: Path) -> None:
    table, notes = read(
        tmp_path,
        {
            "": rows("1", "2"),
            "id": [str(1000 + i) for i in range(ROWS)],
            "gaps": [str(1000 + i + i // 3) for i in range(ROWS)],
            "same": rows("7"),
            "word": rows("x"),
            "essay": rows("a" * 201, "b"),
            "asked": rows("1", "2"),
            "kept": rows("1", "2", "5"),
            "sorted": [str(3 * i) for i in range(ROWS)],
        },
        without=["asked"],
    )
    assert [column.name for column in table.columns] == ["kept", "sorted"]
    assert notes[1:] == [
        "left out: a column without a name",
        "left out: 'id' only counts the rows",
        "left out: 'gaps' only counts the rows",
        "left out: 'same' has the same value in every row",
        "left out: 'word' has the same text in every row",
        "left out: 'essay' has texts of several lines, or of more than 200 characters",
        "left out, as asked: 'asked'",
    ]


def test_names_and_dates_are_left_out_as_they_are_all_different(tmp_path: Path) -> None:
    many = 300
    lines = ["y,name,x", *(f"{i % 2},customer {i},{i % 7}" for i in range(many))]
    notes: list[str] = []
    table = csv_table.read(csv_file(tmp_path, "\n".join(lines)), "y", notes.append)
    assert [column.name for column in table.columns] == ["x"]
    assert notes[-1] == "left out: 'name' has 300 different texts, such as 'customer 0'"


@pytest.mark.parametrize(
    ("cells", "task", "labels"),
    [
        (rows("0", "1"), None, ("0", "1")),
        (rows("2.5", "1"), None, ("1", "2.5")),
        (rows("3", "1", "2"), None, ("1", "2", "3")),
        (rows("3", "1", "2"), "amount", ()),
        ([str(i) for i in range(ROWS)], None, ()),
        ([str(i) for i in range(ROWS)], "classes", tuple(map(str, range(ROWS)))),
        (rows("1.5", "2", "3"), None, ()),
        (rows("red", "green", "blue"), None, ("blue", "green", "red")),
    ],
    ids=lambda value: str(value)[:20],
)
def test_the_target_says_what_is_to_be_learned(
    tmp_path: Path, cells: list[str], task: str | None, labels: tuple[str, ...]
) -> None:
    table, _ = read(tmp_path, {"y": cells, "a": rows("1", "2", "5")}, task=task)
    assert table.labels == labels
    if labels:
        assert [labels[int(at)] for at in table.target] == cells
    else:
        assert table.target.tolist() == [float(cell) for cell in cells]


def test_rows_without_a_target_are_left_out_and_counted(tmp_path: Path) -> None:
    table, notes = read(tmp_path, {"y": ["", *rows("no", "yes")[1:]], "a": rows("1", "2", "5")})
    assert (len(table.matrix), len(table.target)) == (ROWS - 1, ROWS - 1)
    assert notes[0] == "left out: rows without 'y', 1 of 40"


def test_semicolons_decimal_commas_and_the_mark_of_a_spreadsheet_are_read(tmp_path: Path) -> None:
    lines = ["a;b;y", *(f'"1,{i}";"x\ny;{i % 2}";{i % 2}' for i in range(ROWS))]
    path = csv_file(tmp_path, b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    table = csv_table.read(path, "y", lambda line: None, without=["b"])
    assert table.columns[0].name == "a"
    assert table.matrix[:3, 0].tolist() == pytest.approx([1.0, 1.1, 1.2])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "data.csv:1: expected the columns' names"),
        (b"a,y\n", "data.csv has no rows"),
        (b"a,a,y\n1,2,3\n", "data.csv:1: the column 'a' is there twice"),
        (b"a,y\n1,2\n3\n", "row 3, counted from the names: expected 2 values, got 1"),
        (b"a,y\n1,2\n\xe9,3\n", "data.csv:3: not UTF-8"),
        (b"a,b\n1,2\n", "has no column 'y'; it has 'a', 'b'"),
        (b"a,y\n" + b"1,2\n" * 5, "5 rows have 'y'; 20 at least"),
        (b"a,y\n" + b"1,2\n" * 30, "'y' is '2' in every row"),
        (b"a,y\n" + b"1,red\n" * 30, "'y' is 'red' in every row"),
        (b"a,y\n" + b"1,2\n1,3\n" * 30, "no column is left"),
        (b"a,y\n" + b"1,2\n1e300,3\n" * 30, "row 2, column 'a': expected a number that fits float32, got 1e+300"),
        (b"a,y\n" + b"1,2\n2,inf\n" * 30, "row 2, column 'y': expected a number that fits float32"),
        (b"a,y\n" + b"".join(b"1,t%d\n" % i for i in range(200)), "'y' has 200 different values, too many for classes"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_can_not_be_learned_from_is_refused_with_the_place(tmp_path: Path, text: bytes, reason: str) -> None:
    with pytest.raises(DataError) as caught:
        csv_table.read(csv_file(tmp_path, text), "y", lambda line: None)
    assert reason in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.csv: No such file"):
        csv_table.read(tmp_path / "nowhere.csv", "y", lambda line: None)


def test_a_target_of_texts_is_no_amount(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'y' can't be an amount: 'no' is no number"):
        read(tmp_path, {"a": rows("1", "2")}, task="amount")
