"""The check of values against a signature: at the door by the portal, and once more by the worker."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.manifest import Column

MAX_FAULTS = 20
# float32 holds every whole number up to here; beyond, two different ids could become one.
EXACT_INTEGERS = 2**24
# What stands in a matrix for a text that is none of its column's categories; `faults` refuses it.
UNKNOWN = -1.0
# So many categories are named to somebody who sent another one.
NAMED = 5


@dataclass(frozen=True, slots=True)
class CellFault:
    """One value that is wrong: its row and column (from 0) and what was expected."""

    row: int
    column: int
    reason: str


class Schema:
    """A signature in the form in which a whole matrix is checked at once.

    A category is its position in the column's list; `codes` and `cells` translate.
    """

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self.names = tuple(c.name for c in columns)
        self.index = {name: i for i, name in enumerate(self.names)}
        self.categories = {i: c.categories for i, c in enumerate(columns) if c.categories}
        self._codes = {i: {text: float(n) for n, text in enumerate(texts)} for i, texts in self.categories.items()}
        self._missing = np.array([c.missing for c in columns])
        self._whole = np.array([c.type != "float" for c in columns])
        ranges = [(0, len(c.categories) - 1) if c.categories else c.range or (-np.inf, np.inf) for c in columns]
        # As float32, like the values: so the worker, which has only float32, can't disagree about a value on the bound.
        self._low = np.array([low for low, _ in ranges], dtype=np.float32)
        self._high = np.array([high for _, high in ranges], dtype=np.float32)

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

        Columns are found by name (KeyError), categories by text: their positions may differ.
        """
        values = np.empty((len(matrix), len(self.names)), dtype=np.float64)
        for column, name in enumerate(self.names):
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
        absent = np.isnan(values)
        with np.errstate(over="ignore", invalid="ignore"):
            single = values.astype(np.float32)
            infinite = np.isinf(single)
            fraction = self._whole & ((values != np.floor(values)) | (np.abs(values) > EXACT_INTEGERS))
            outside = (single < self._low) | (single > self._high)
        forbidden = absent & ~self._missing
        wrong = forbidden | ((infinite | fraction | outside) & ~absent)
        if not wrong.any():
            return []
        faults = []
        for row, column in np.argwhere(wrong)[:MAX_FAULTS]:
            if forbidden[row, column]:
                reason = "a value is required, this column may not be missing"
            elif column in self.categories:
                reason = _one_of(self.categories[column])
            elif infinite[row, column]:
                reason = "expected a finite number that fits float32"
            elif fraction[row, column]:
                reason = f"expected a whole number of at most {EXACT_INTEGERS:,} in size, got {values[row, column]:g}"
            else:
                low, high = self._low[column], self._high[column]
                # Nine digits tell any two float32 apart.
                reason = f"{values[row, column]:.9g} is outside the range {low:g} to {high:g}"
            faults.append(CellFault(int(row), int(column), reason))
        return faults


def _one_of(texts: tuple[str, ...]) -> str:
    more = f" … ({len(texts):,} in all)" if len(texts) > NAMED else ""
    return "expected one of " + ", ".join(f"'{text}'" for text in texts[:NAMED]) + more
