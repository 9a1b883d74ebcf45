"""Some lines of CSV as a block. What is wrong with one line, or a cell of it, is a fault of that row alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from workers.datasets import Block, Input, RowFault
from workers.datasets.columns import Constants, Wanted
from workers.datasets.csv_lines import Places

# What pyarrow reads as a number, spaces around it aside.
_NUMBER = r"(?i)^[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|nan|inf|infinity)$"
_BLANKS = " \t"
MAX_SHOWN = 30


class Reader:
    """Reads blocks of lines of one file, whose columns are `names`."""

    def __init__(self, names: Sequence[str], data: Input, wanted: Wanted, constants: Constants) -> None:
        self._wanted = wanted
        self._constants = constants
        self._data = data
        self._width = len(names)
        # Columns go by their number: names that aren't needed may be repeated.
        numbers = [str(i) for i in range(len(names))]
        self._names = {str(names.index(name)): name for name in wanted.named(names)}
        self._numbers = numbers
        texts = {number: pa.string() for number in self._names} or {numbers[0]: pa.string()}
        # The number of rows comes with a column.
        self._as_texts = self._options(texts)
        self._as_values = self._options(texts | self._types())

    def _types(self) -> dict[str, pa.DataType]:
        """Return the types of the columns of which not the text is needed."""
        schema, types = self._wanted.schema, {}
        for number, name in self._names.items():
            if name in self._wanted.keep:
                continue
            column = schema.index[name]
            if column in schema.categories:
                types[number] = pa.dictionary(pa.int32(), pa.string())
            else:
                types[number] = self._type(column)
        return types

    def _type(self, column: int) -> pa.DataType:
        # Of whole numbers it must be seen whether float32 holds them.
        return pa.float64() if column in self._wanted.schema.integers else pa.float32()

    def _options(self, types: Mapping[str, pa.DataType]) -> Any:
        return pa.csv.ConvertOptions(
            column_types=types, include_columns=list(types), null_values=[""], strings_can_be_null=True
        )

    def block(self, text: bytes, ends: Places) -> Block:
        """Return the rows of some lines; `ends` are the places behind each of them."""
        found = self._table(text, self._as_values)
        if found is None:
            # There is a cell that is no number. As texts all cells can be read.
            found = self._table(text, self._as_texts)
        if found is None or found[0].num_rows + len(found[1]) != len(ends):
            return self._halved(text, ends)
        table, wrong = found
        faults = {row: RowFault(row, "", reason) for row, reason in wrong.items()}
        if self._width > 1:
            faults |= {row: RowFault(row, "", "the line is empty") for row in _empty(text, ends)}
        block = self._values(table)
        return block if not faults else _with_faults(block, faults, set(wrong), len(ends))

    def _table(self, text: bytes, options: Any) -> tuple[pa.Table, dict[int, str]] | None:
        """Return the lines as a table, without those that have too few or too many values, which are told.

        None for lines that can't be read so.
        """
        wrong: dict[int, str] = {}

        def remember(line: Any) -> str:
            wrong[line.number - 1] = f"expected {line.expected_columns} values, got {line.actual_columns}"
            return "skip"

        # One thread: else the parser can't tell the number of a wrong line.
        reading = pa.csv.ReadOptions(use_threads=False, column_names=self._numbers, block_size=len(text) + 1)
        parsing = pa.csv.ParseOptions(
            delimiter=self._data.delimiter,
            quote_char=self._data.quote or False,
            newlines_in_values=bool(self._data.quote) and self._data.quote.encode() in text,
            ignore_empty_lines=False,
            invalid_row_handler=remember,
        )
        try:
            return pa.csv.read_csv(pa.BufferReader(text), reading, parsing, options), wrong
        except pa.ArrowInvalid:
            return None

    def _values(self, table: pa.Table) -> Block:
        """Return a table's rows. Numbers may be texts, of which each is looked at."""
        wanted, schema = self._wanted, self._wanted.schema
        arrays = {self._names[n]: _joined(table.column(n)) for n in table.column_names if n in self._names}
        faults: dict[int, RowFault] = {}
        typed = {}
        for column, name in enumerate(schema.names):
            if name in arrays and column not in schema.categories and pa.types.is_string(arrays[name].type):
                typed[name] = self._parsed(column, arrays[name], faults)
        block = wanted.block(table.num_rows, arrays | typed, self._constants)
        kept = wanted.kept(table.num_rows, arrays, self._constants)
        # The fault of the first column counts.
        for fault in block.faults:
            other = faults.get(fault.row)
            if other is None or schema.index[fault.column] < schema.index[other.column]:
                faults[fault.row] = fault
        block.values[list(faults)] = np.nan
        return Block(block.values, kept, [faults[row] for row in sorted(faults)])

    def _parsed(self, column: int, texts: pa.Array, faults: dict[int, RowFault]) -> pa.Array:
        """Return texts as numbers, null for those that are none."""
        trimmed = pc.utf8_trim(texts, characters=_BLANKS)
        right = pc.match_substring_regex(trimmed, _NUMBER)
        for row in np.flatnonzero(_bools(pc.invert(right).fill_null(False))).tolist():
            text = texts[row].as_py()
            shown = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
            name = self._wanted.schema.names[column]
            faults.setdefault(row, RowFault(row, name, f"expected a number, got '{shown}'"))
        return pc.if_else(right, trimmed, None).cast(self._type(column))

    def _halved(self, text: bytes, ends: Places) -> Block:
        """Return lines of which some aren't one row to pyarrow; they are found by halving."""
        if len(ends) == 1:
            kept = self._wanted.kept(1, {}, self._constants)
            values = np.full((1, len(self._wanted.schema.names)), np.nan, dtype=np.float32)
            reason = f"the line can't be read as {self._width} values; is there a CR that ends no line?"
            return Block(values, kept, [RowFault(0, "", reason)])
        half = len(ends) // 2
        middle = int(ends[half - 1])
        first, second = self.block(text[:middle], ends[:half]), self.block(text[middle:], ends[half:] - middle)
        faults = [RowFault(fault.row + half, fault.column, fault.reason) for fault in second.faults]
        return Block(
            np.concatenate([first.values, second.values]),
            pa.concat_tables([first.kept, second.kept]),
            first.faults + faults,
        )


def _joined(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _bools(array: pa.Array) -> npt.NDArray[np.bool_]:
    values: npt.NDArray[np.bool_] = array.to_numpy(zero_copy_only=False)
    return values


def _empty(text: bytes, ends: Places) -> list[int]:
    """Return the lines without anything in them."""
    starts = np.concatenate([[0], ends[:-1]])
    short = np.flatnonzero(ends - starts <= 2).tolist()
    return [row for row in short if not text[starts[row] : ends[row]].strip(b"\r\n")]


def _with_faults(block: Block, faults: Mapping[int, RowFault], left_out: set[int], rows: int) -> Block:
    """Return the block with rows for the lines that were left out, and with their faults and others of whole rows."""
    there = np.ones(rows, dtype=bool)
    there[list(left_out)] = False
    places = np.flatnonzero(there)
    values = np.full((rows, block.values.shape[1]), np.nan, dtype=np.float32)
    values[places] = block.values
    values[list(faults)] = np.nan
    sources = np.zeros(rows, dtype=np.int64)
    sources[places] = np.arange(len(places))
    kept = block.kept.take(pa.array(sources, mask=~there))
    found = {int(places[fault.row]): fault for fault in block.faults}
    all_faults = {row: RowFault(row, fault.column, fault.reason) for row, fault in found.items()} | dict(faults)
    return Block(values, kept, [all_faults[row] for row in sorted(all_faults)])
