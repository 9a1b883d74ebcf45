"""A CSV of one's own as rows to learn from: what its columns are follows from what is in them."""

import csv
import io
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from pydantic import ValidationError

from workers.making.table import DataError, Table, known_missing, number_column
from workers.runtimes import Matrix
from workers.template.columns import EXACT_INTEGERS, Column

# Among numbers these are missing ones; in a column of texts they are texts like any other.
NO_NUMBER = pa.array(["", "na", "n/a", "nan", "null", "none", "?", "-"])
# More different texts are names, dates or sentences: a tree learns nothing from them.
MOST_CATEGORIES = 200
MOST_LABELS = 100
# A target of so few different whole numbers is taken for classes.
MOST_NUMBERED_CLASSES = 10
FEWEST_ROWS = 20

Tell = Callable[[str], None]
Values = npt.NDArray[np.float64]
# A file's texts by column.
Raw = dict[str, pa.Array]


class Target(NamedTuple):
    """What is to be learned: which rows have it, its value in each row, and its labels if they are classes."""

    kept: npt.NDArray[np.bool_]
    values: Values
    labels: tuple[str, ...]


def read(path: Path, target_name: str, tell: Tell, *, task: str | None = None, without: Collection[str] = ()) -> Table:
    """Return the file's rows; `target_name` is the column to learn. Tells what it makes of them. Raises DataError.

    `task`, classes or amount, says what the target is, where its numbers could be either; columns in `without` are
    left out, and so are those that teach nothing.
    """
    raw = cells(path)
    for name in (target_name, *without):
        if name not in raw:
            raise DataError(f"{path.name} has no column '{name}'; it has {', '.join(map(repr, raw))}")
    kept, values, labels = target(raw.pop(target_name), target_name, task, tell)
    columns: list[Column] = []
    features: list[Values] = []
    for name, texts in raw.items():
        if name in without:
            found: tuple[Column, Values] | str = f"left out, as asked: '{name}'"
        elif _counts_rows(texts):
            found = f"left out: '{name}' only counts the rows"
        else:
            found = _feature(name, texts.filter(pa.array(kept)))
        if isinstance(found, str):
            tell(found)
        else:
            columns.append(found[0])
            features.append(found[1])
    if not columns:
        raise DataError(f"{path.name}: no column is left that the target could be learned from")
    return Table(tuple(columns), np.column_stack(features).astype(np.float32), values[kept].astype(np.float32), labels)


def matrix(raw: Raw, columns: Collection[Column]) -> Matrix:
    """Return the values of columns that are known already. Raises DataError for what doesn't fit them."""
    values = []
    for column in columns:
        if column.name not in raw:
            raise DataError(f"the rows have no column '{column.name}', which the model takes")
        texts = raw[column.name]
        found = positions(texts, column.categories) if column.categories else numbers_in(texts)
        if found is None:
            raise DataError(f"the column '{column.name}' has other texts than numbers")
        unknown = np.isnan(found) & ~_bools(pc.equal(texts, "")) if column.categories else np.zeros(0, bool)
        if unknown.any():
            text = texts[int(unknown.argmax())].as_py()
            raise DataError(f"the column '{column.name}' has the text '{text}', which is none of its categories")
        check_finite(found, column.name)
        values.append(found)
    return np.column_stack(values).astype(np.float32)


def cells(path: Path) -> Raw:
    """Return the file's texts by column. Values are separated by `,`, `;` or tabs; UTF-8. Raises DataError."""
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path.name}:{line}: not UTF-8: {error.reason}; save it as UTF-8") from error
    separator = max(",;\t", key=text.partition("\n")[0].count)
    names = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
    twice = next((name for name in names if names.count(name) > 1), None)
    if not names or twice is not None:
        reason = "expected the columns' names" if not names else f"the column '{twice}' is there twice"
        raise DataError(f"{path.name}:1: {reason}")
    wrong: list[str] = []

    def remember(row: pa.csv.InvalidRow) -> str:
        wrong.append(
            f"{path.name}: row {row.number}, counted from the names: "
            f"expected {row.expected_columns} values, got {row.actual_columns}"
        )
        return "skip"

    try:
        table = pa.csv.read_csv(
            pa.BufferReader(content),
            # One thread: else the parser can't tell the number of a wrong row.
            pa.csv.ReadOptions(use_threads=False, block_size=max(1 << 20, len(content))),
            pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True, invalid_row_handler=remember),
            pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        raise DataError(f"{path.name}: not CSV: {error}") from error
    if wrong:
        raise DataError(wrong[0])
    if not table.num_rows:
        raise DataError(f"{path.name} has no rows")
    columns = {name: table.column(name).combine_chunks() for name in names}
    # Where `;` separates values, the comma may be a decimal one.
    return {name: _points(texts) if separator == ";" else texts for name, texts in columns.items()}


def _points(texts: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(texts, r"^(-?\d+),(\d+)$", r"\1.\2")


def target(texts: pa.Array, name: str, task: str | None, tell: Tell) -> Target:
    """Return the target, classes or an amount as `task` or its values have it. Raises DataError."""
    numbers = numbers_in(texts)
    absent = np.isnan(numbers) if numbers is not None else _bools(pc.equal(texts, ""))
    kept = ~absent
    if absent.any():
        tell(f"left out: rows without '{name}', {absent.sum():,} of {len(absent):,}")
    if kept.sum() < FEWEST_ROWS:
        raise DataError(f"{kept.sum():,} rows have '{name}'; {FEWEST_ROWS} at least are needed to learn anything")
    if numbers is not None:
        check_finite(numbers, name)
        different = np.unique(numbers[kept])
        few = len(different) <= (MOST_NUMBERED_CLASSES if (different == np.floor(different)).all() else 2)
        if task == "amount" or (task is None and not few):
            if len(different) == 1:
                raise DataError(f"'{name}' is {different[0]:g} in every row: there is nothing to learn")
            tell(f"'{name}' is an amount, from {different[0]:g} to {different[-1]:g}")
            return Target(kept, numbers, ())
        labels = [f"{number:.9g}" for number in different]
        values = np.searchsorted(different, numbers).astype(np.float64)
    else:
        if task == "amount":
            raise DataError(f"'{name}' can't be an amount: '{_first_text(texts)}' is no number")
        labels = sorted(set(texts.filter(pa.array(kept)).to_pylist()))
        values = positions(texts, tuple(labels))
    if len(labels) > MOST_LABELS:
        raise DataError(f"'{name}' has {len(labels):,} different values, too many for classes: is it the right column?")
    if len(labels) < 2:
        raise DataError(f"'{name}' is '{labels[0]}' in every row: there is nothing to learn")
    shown = ", ".join(f"'{label}'" for label in labels[:10]) + (" …" if len(labels) > 10 else "")
    hint = "; if it is an amount, say --task amount" if numbers is not None and len(labels) > 2 and task is None else ""
    tell(f"'{name}' has {len(labels)} classes: {shown}{hint}")
    return Target(kept, values, tuple(labels))


def _feature(name: str, texts: pa.Array) -> tuple[Column, Values] | str:
    """Return a column and its values, or why it is left out."""
    numbers = numbers_in(texts)
    if not name:
        return "left out: a column without a name"
    if numbers is not None:
        check_finite(numbers, name)
        present = numbers[~np.isnan(numbers)]
        if len(np.unique(present)) < 2:
            return f"left out: '{name}' has the same value in every row"
        return number_column(name, numbers, whole=written_whole(texts, numbers)), numbers
    distinct = sorted(set(pc.unique(texts).to_pylist()) - {""})
    if len(distinct) > MOST_CATEGORIES:
        return f"left out: '{name}' has {len(distinct):,} different texts, such as '{distinct[0][:40]}'"
    if len(distinct) < 2:
        return f"left out: '{name}' has the same text in every row"
    values = positions(texts, tuple(distinct))
    try:
        return known_missing(Column(name=name, type="category", categories=tuple(distinct)), values), values
    except ValidationError:
        return f"left out: '{name}' has texts of several lines, or of more than 200 characters"


def _counts_rows(texts: pa.Array) -> bool:
    """Tell whether the numbers rise from row to row, with few gaps, as they are left where rows were taken away."""
    numbers = numbers_in(texts)
    if numbers is None or (numbers != np.floor(numbers)).any():
        return False
    return bool((np.diff(numbers) > 0).all()) and numbers[-1] - numbers[0] < 2 * len(numbers)


def numbers_in(texts: pa.Array) -> Values | None:
    """Return numbers, NaN for missing ones; None if there are other texts, or nothing but missing ones."""
    absent = _absent(texts)
    if pc.all(absent).as_py():
        return None
    try:
        present = pc.if_else(absent, pa.scalar(None, pa.string()), pc.utf8_trim_whitespace(texts))
        found = pc.cast(present, pa.float64())
    except pa.ArrowInvalid:
        return None
    values: Values = found.to_numpy(zero_copy_only=False)
    return values


def written_whole(texts: pa.Array, values: Values) -> bool:
    """Tell whether the numbers are written without a point, and are whole ones that float32 holds."""
    present = values[~np.isnan(values)]
    if (present != np.floor(present)).any() or np.abs(present).max() > EXACT_INTEGERS:
        return False
    return bool(pc.all(pc.or_(_absent(texts), pc.match_substring_regex(texts, r"^\s*-?\d+\s*$"))).as_py())


def _absent(texts: pa.Array) -> pa.Array:
    return pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(texts)), value_set=NO_NUMBER)


def positions(texts: pa.Array, distinct: tuple[str, ...]) -> Values:
    """Return where each text stands among `distinct`, NaN for none."""
    at = pc.cast(pc.index_in(texts, value_set=pa.array(distinct, pa.string())), pa.float64())
    values: Values = at.to_numpy(zero_copy_only=False)
    return values


def check_finite(numbers: Values, name: str) -> None:
    """Raise DataError for the first number that is too large for float32, or infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        infinite = np.isinf(numbers.astype(np.float32))
    if infinite.any():
        row = int(infinite.argmax()) + 1
        raise DataError(f"row {row}, column '{name}': expected a number that fits float32, got {numbers[row - 1]:g}")


def _first_text(texts: pa.Array) -> str:
    return next(str(text) for text in texts.to_pylist() if text and numbers_in(pa.array([text])) is None)


def _bools(array: pa.Array) -> npt.NDArray[np.bool_]:
    values: npt.NDArray[np.bool_] = array.to_numpy(zero_copy_only=False)
    return values
