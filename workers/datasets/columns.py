"""The columns that a run needs of a data set: are they there, and what stands in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workers.arrow_values import codes, is_number, is_text
from workers.datasets import Block, DatasetError, RowFault
from workers.schema import Schema, no_whole_number
from workers.template.columns import EXACT_INTEGERS

# So many faults, or names of columns, stand in one message.
MAX_NAMED = 20
# So many rows of the matrix fit the processor's cache while they are filled column by column.
STEP_ROWS = 4096

# The values of the columns that a folder's name gives (`day=2024-05-01`), None for a missing one.
Constants = Mapping[str, str | None]
Numbers = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run needs: the model's columns, and those that the output repeats."""

    schema: Schema
    keep: tuple[str, ...]

    def named(self, names: Sequence[str]) -> list[str]:
        """Return those of the names that are needed, each once."""
        needed = {*self.schema.names, *self.keep}
        return [name for name in dict.fromkeys(names) if name in needed]

    def categories(self, names: Sequence[str]) -> list[str]:
        """Return those of the names of which only the codes are needed."""
        indices = ((name, self.schema.index.get(name)) for name in names if name not in self.keep)
        return [name for name, index in indices if index in self.schema.categories]

    def check(self, uri: str, names: Sequence[str], types: Mapping[str, pa.DataType]) -> None:
        """Raise DatasetError for columns that are missing, repeated or of a type that can't be read.

        `names` are the columns of the file and its folders, `types` the types of those that have one.
        """
        there = set(names)
        faults = [f"the column '{name}' is missing" for name in self.schema.required if name not in there]
        faults += [f"the column '{name}', which is to be kept, is missing" for name in self.keep if name not in there]
        if faults:
            more = " …" if len(names) > MAX_NAMED else ""
            faults.append(f"it has {', '.join(map(repr, names[:MAX_NAMED]))}{more}")
        elif self.schema.names and not there & set(self.schema.names):
            faults.append(f"there is no column of the model's, such as '{self.schema.names[0]}'")
        faults += [f"the column '{name}' is there twice" for name in self.named(names) if names.count(name) > 1]
        faults += [f"the column '{name}' is to be kept twice" for name in set(self.keep) if self.keep.count(name) > 1]
        for column, name in enumerate(self.schema.names):
            kind = types.get(name)
            texts = column in self.schema.categories
            if kind is not None and not (pa.types.is_null(kind) or (is_text(kind) if texts else is_number(kind))):
                expected = "texts" if texts else "numbers"
                faults.append(f"the column '{name}': expected {expected}, got the type {str(kind)[:100]}")
        if faults:
            more = " …" if len(faults) > MAX_NAMED else ""
            raise DatasetError(f"{uri}: {'; '.join(faults[:MAX_NAMED])}{more}")

    def check_constants(self, uri: str, constants: Constants) -> None:
        """Raise DatasetError for what a folder's name gives to a column of numbers and is none."""
        for name, text in constants.items():
            column = self.schema.index.get(name)
            if text is not None and column is not None and column not in self.schema.categories:
                try:
                    float(text)
                except ValueError:
                    raise DatasetError(
                        f"{uri}: the column '{name}': expected a number in the folder's name, got '{text[:40]}'"
                    ) from None

    def block(self, rows: int, arrays: Mapping[str, pa.Array], constants: Constants) -> Block:
        """Return the rows of some columns as a block."""
        faults: dict[int, RowFault] = {}
        columns = []
        for column, name in enumerate(self.schema.names):
            if name in arrays:
                columns.append(self._numbers(column, arrays[name], faults))
            else:
                columns.append(np.broadcast_to(self._constant(column, constants.get(name), rows, faults), rows))
        return self.filled(columns, self.kept(rows, arrays, constants), faults)

    def filled(self, columns: Sequence[Numbers], kept: pa.Table, faults: Mapping[int, RowFault]) -> Block:
        """Return a block of columns in the signature's order."""
        values = np.empty((len(columns[0]), len(columns)), dtype=np.float32)
        # Beyond float32 is infinity, which the signature's check refuses.
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(values), STEP_ROWS):
                end = start + STEP_ROWS
                for column, numbers in enumerate(columns):
                    values[start:end, column] = numbers[start:end]
        self.schema.fill(values)
        if faults:
            values[list(faults)] = np.nan
        return Block(values, kept, [faults[row] for row in sorted(faults)])

    def kept(self, rows: int, arrays: Mapping[str, pa.Array], constants: Constants) -> pa.Table:
        """Return the columns that the output repeats."""
        kept = [
            arrays[name] if name in arrays else pa.repeat(pa.scalar(constants.get(name), pa.string()), rows)
            for name in self.keep
        ]
        return pa.table(kept, names=list(self.keep))

    def _numbers(self, column: int, array: pa.Array, faults: dict[int, RowFault]) -> Numbers:
        if column in self.schema.categories:
            return codes(array, self.schema.categories[column])
        numbers = to_numpy(array)
        if column in self.schema.integers:
            self.check_whole(column, numbers, faults)
        return numbers

    def check_whole(self, column: int, numbers: Numbers, faults: dict[int, RowFault]) -> None:
        """Find the values that aren't whole, or too large, of a column of whole numbers.

        float32 might make right ones of them, so that the signature's check couldn't see it.
        """
        if numbers.dtype == np.float32 or numbers.dtype == np.bool_:
            return
        large = (numbers > EXACT_INTEGERS) | (numbers < -EXACT_INTEGERS)
        if numbers.dtype.kind == "f":
            large |= (numbers != np.floor(numbers)) & ~np.isnan(numbers)
        for row in np.flatnonzero(large).tolist():
            fault = RowFault(row, self.schema.names[column], no_whole_number(float(numbers[row])))
            faults.setdefault(row, fault)

    def _constant(self, column: int, text: str | None, rows: int, faults: dict[int, RowFault]) -> np.float32:
        if text is None:
            return np.float32(np.nan)
        if column in self.schema.categories:
            return np.float32(self.schema.code(column, text))
        number = np.array([float(text)])
        if column in self.schema.integers:
            found: dict[int, RowFault] = {}
            self.check_whole(column, number, found)
            for fault in found.values():
                for row in range(rows):
                    faults.setdefault(row, RowFault(row, fault.column, fault.reason))
        with np.errstate(over="ignore"):
            return np.float32(number[0])


def to_numpy(array: pa.Array) -> Numbers:
    """Return numbers as numpy has them, without a copy where it can be; null is NaN."""
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan, dtype=np.float32)
    if array.null_count and not pa.types.is_floating(array.type):
        # Not safe=True, which refuses integers beyond 2**53: what the column takes is for the schema to say.
        array = array.cast(pa.float64(), safe=False)
    numbers: Numbers = array.to_numpy(zero_copy_only=False)
    return numbers
