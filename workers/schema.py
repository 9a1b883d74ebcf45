"""The check of values against a signature: at the door by the portal, and once more by the worker."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workers.manifest import Column

MAX_FAULTS = 20
# float32 holds every whole number up to here; beyond, two different ids could become one.
EXACT_INTEGERS = 2**24


@dataclass(frozen=True, slots=True)
class CellFault:
    """One value that is wrong: its row and column (from 0) and what was expected."""

    row: int
    column: int
    reason: str


class Schema:
    """A signature in the form in which a whole matrix is checked at once."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self.names = tuple(c.name for c in columns)
        self.index = {name: i for i, name in enumerate(self.names)}
        self._missing = np.array([c.missing for c in columns])
        self._whole = np.array([c.type == "int" for c in columns])
        # As float32, like the values: so the worker, which has only float32, can't disagree about a value on the bound.
        self._low = np.array([c.range[0] if c.range else -np.inf for c in columns], dtype=np.float32)
        self._high = np.array([c.range[1] if c.range else np.inf for c in columns], dtype=np.float32)

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
