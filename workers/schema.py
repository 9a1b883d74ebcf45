"""The check of values against a signature: at the door by the portal, and once more by the worker."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from workers.template.columns import EXACT_INTEGERS, Column

MAX_FAULTS = 20
# What stands in a matrix for a text that is none of its column's categories; `faults` refuses it.
UNKNOWN = -1.0
# So many categories are named to somebody who sent another one.
NAMED = 5
# So many rows as one line: NumPy is ten times as quick along long lines as along those of 28 columns.
FOLDED = 64


@dataclass(frozen=True, slots=True)
class CellFault:
    """One value that is wrong: its row and column (from 0) and what was expected."""

    row: int
    column: int
    reason: str


class _Wrong(NamedTuple):
    """Where values are wrong, rows x columns: `cells` for any reason, the others for this one."""

    forbidden: npt.NDArray[np.bool_]
    infinite: npt.NDArray[np.bool_]
    fraction: npt.NDArray[np.bool_]
    cells: npt.NDArray[np.bool_]


class Schema:
    """A signature in the form in which a whole matrix is checked at once.

    A category is its position in the column's list; `codes` and `cells` translate. `required` are the columns that
    can't be left out: the others may be missing, or have a default.
    """

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self.names = tuple(c.name for c in columns)
        self.index = {name: i for i, name in enumerate(self.names)}
        self.categories = {i: c.categories for i, c in enumerate(columns) if c.categories}
        # The columns of whole numbers, categories aside.
        self.integers = frozenset(i for i, c in enumerate(columns) if c.type == "int")
        self._codes = {i: {text: float(n) for n, text in enumerate(texts)} for i, texts in self.categories.items()}
        self.required = tuple(c.name for c in columns if not c.missing and c.default is None)
        defaults = [np.nan if c.default is None else self._value(i, c.default) for i, c in enumerate(columns)]
        self._defaults = np.array(defaults, dtype=np.float64)
        self._missing = np.array([c.missing for c in columns])
        self._whole = np.array([c.type != "float" for c in columns])
        ranges = [(0, len(c.categories) - 1) if c.categories else c.range or (-np.inf, np.inf) for c in columns]
        # As float32, like the values: so the worker, which has only float32, can't disagree about a value on the bound.
        self._low = np.array([low for low, _ in ranges], dtype=np.float32)
        self._high = np.array([high for _, high in ranges], dtype=np.float32)

    def _value(self, column: int, value: float | str) -> float:
        return self._codes[column][value] if isinstance(value, str) else value

    def filled(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return `values` (rows x columns) with the columns' defaults in the place of missing ones."""
        return values if np.isnan(self._defaults).all() else np.where(np.isnan(values), self._defaults, values)

    def fill(self, values: npt.NDArray[np.float32]) -> None:
        """Do what `filled` does, within a large matrix."""
        for column in np.flatnonzero(~np.isnan(self._defaults)):
            cells = values[:, column]
            cells[np.isnan(cells)] = self._defaults[column]

    def code(self, column: int, value: Any) -> float:
        """Return what stands for a value of a category column: NaN for None and NaN, UNKNOWN for all but its texts."""
        if isinstance(value, str):
            return self._codes[column].get(value, UNKNOWN)
        return np.nan if value is None or (isinstance(value, float) and value != value) else UNKNOWN

    def codes(self, column: int, values: Iterable[Any]) -> npt.NDArray[np.float64]:
        """Return `code` of each value."""
        return np.array([self.code(column, value) for value in values], dtype=np.float64)

    def could_be_of(self, matrix: npt.NDArray[np.float32]) -> bool:
        """Tell whether a matrix that was stored may be of this signature: as wide, and all its categories known."""
        return matrix.shape[1] == len(self.names) and not any(
            (matrix[:, column] >= len(texts)).any() for column, texts in self.categories.items()
        )

    def cells(self, row: npt.NDArray[np.float32]) -> list[Any]:
        """Return one row of a matrix as a client sends it: float32 (NaN is missing), categories as text or None."""
        cells: list[Any] = list(row)
        for column, texts in self.categories.items():
            cells[column] = None if np.isnan(row[column]) else texts[int(row[column])]
        return cells

    def taken_over(self, matrix: npt.NDArray[np.float32], old: "Schema") -> npt.NDArray[np.float64]:
        """Return a matrix of another version's signature as float64 in this one's columns, to be checked by `faults`.

        Columns are found by name (KeyError for one that is required), categories by text: their positions may differ.
        """
        values = np.full((len(matrix), len(self.names)), np.nan)
        for column, name in enumerate(self.names):
            if name not in old.index and name not in self.required:
                continue
            at = old.index[name]
            values[:, column] = matrix[:, at]
            texts = old.categories.get(at)
            if texts != self.categories.get(column):
                values[:, column] = self._translated(column, matrix[:, at], texts)
        return values

    def _translated(
        self, column: int, old: npt.NDArray[np.float32], texts: tuple[str, ...] | None
    ) -> npt.NDArray[np.float64]:
        """Return a column of which at least one side is a category; what has no counterpart here is a fault."""
        present = ~np.isnan(old)
        result = np.where(present, UNKNOWN if column in self.categories else np.inf, np.nan)
        if texts is not None and column in self.categories:
            result[present] = self.codes(column, texts)[old[present].astype(np.intp)]
        return result

    def faults(self, values: npt.NDArray[np.floating]) -> list[CellFault]:
        """Return what is wrong with `values` (rows x columns, NaN is missing), at most MAX_FAULTS, row by row."""
        wrong = self._wrong(values, slice(None))
        if not wrong.cells.any():
            return []
        return [
            CellFault(int(row), int(column), self._reason(wrong, values, row, column, column))
            for row, column in np.argwhere(wrong.cells)[:MAX_FAULTS]
        ]

    def bad_rows(self, matrix: npt.NDArray[np.float32]) -> list[CellFault]:
        """Return for every row with a fault its first one, in the order of the rows.

        It costs a tenth of what `faults` does where all is well, as that is most of a large data set.
        """
        columns = self._doubtful(matrix)
        if not columns.size:
            return []
        values = matrix[:, columns]
        wrong = self._wrong(values, columns)
        rows = np.flatnonzero(wrong.cells.any(axis=1))
        firsts = wrong.cells[rows].argmax(axis=1)
        return [
            CellFault(int(row), int(columns[at]), self._reason(wrong, values, row, at, columns[at]))
            for row, at in zip(rows, firsts, strict=True)
        ]

    def _doubtful(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
        """Return the columns that `_wrong` has to look at: in all others extremes show that nothing is wrong."""
        if not len(matrix):
            return np.zeros(0, dtype=np.intp)
        # Unlike fmin, minimum gives NaN where there is one.
        low = _extreme(np.minimum, matrix)
        gaps = np.isnan(low)
        if gaps.any():
            low, high = _extreme(np.fmin, matrix), _extreme(np.fmax, matrix)
        else:
            high = _extreme(np.maximum, matrix)
        sound = (low >= self._low) & (high <= self._high) & np.isfinite(low) & np.isfinite(high) & ~self._whole
        return np.flatnonzero(~sound | (gaps & ~self._missing))

    def _wrong(self, values: npt.NDArray[np.floating], columns: slice | npt.NDArray[np.intp]) -> _Wrong:
        """Return where the values of these of the columns are wrong."""
        absent = np.isnan(values)
        with np.errstate(over="ignore", invalid="ignore"):
            single = values.astype(np.float32)
            infinite = np.isinf(single)
            fraction = self._whole[columns] & ((values != np.floor(values)) | (np.abs(values) > EXACT_INTEGERS))
            outside = (single < self._low[columns]) | (single > self._high[columns])
        forbidden = absent & ~self._missing[columns]
        return _Wrong(forbidden, infinite, fraction, forbidden | ((infinite | fraction | outside) & ~absent))

    def _reason(
        self, wrong: _Wrong, values: npt.NDArray[np.floating], row: np.intp, at: np.intp, column: np.intp
    ) -> str:
        """Return what was expected of a wrong cell: in `values` at `at`, in the signature `column`."""
        if wrong.forbidden[row, at]:
            return "a value is required, this column may not be missing"
        if column in self.categories:
            return _one_of(self.categories[int(column)])
        if wrong.infinite[row, at]:
            return "expected a finite number that fits float32"
        if wrong.fraction[row, at]:
            return no_whole_number(values[row, at])
        # Nine digits tell any two float32 apart.
        return f"{values[row, at]:.9g} is outside the range {self._low[column]:g} to {self._high[column]:g}"


def _extreme(function: np.ufunc, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return what a function such as `minimum` makes of each column."""
    folded = len(matrix) - len(matrix) % FOLDED
    if folded:
        lines = function.reduce(matrix[:folded].reshape(len(matrix) // FOLDED, -1), axis=0)
        matrix = np.concatenate([lines.reshape(FOLDED, -1), matrix[folded:]])
    found: npt.NDArray[np.float32] = function.reduce(matrix, axis=0)
    return found


def no_whole_number(value: float) -> str:
    """Return what is wrong with a value in a column of whole numbers."""
    return f"expected a whole number of at most {EXACT_INTEGERS:,} in size, got {value:g}"


def _one_of(texts: tuple[str, ...]) -> str:
    more = f" … ({len(texts):,} in all)" if len(texts) > NAMED else ""
    return "expected one of " + ", ".join(f"'{text}'" for text in texts[:NAMED]) + more
