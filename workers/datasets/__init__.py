"""Data sets: where they lie, how they are cut into ranges and read, and how results are written.

pyarrow takes 40 MB: this module does without it until something is planned or read.
"""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from workers.schema import Schema

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["parquet", "csv", "arrow"]
# A file as it was when the run was planned: [uri, size, version].
Fingerprint = Sequence[Any]


class DatasetError(ValueError):
    """What is wrong with a data set or its place, in words for its owner: it stays wrong, however often one tries."""


class Unreachable(OSError):
    """The storage doesn't answer; it may later."""


class Input(BaseModel):
    """A data set, as its owner names it. With `auto` the name of the file, or of a folder's files, says the format.

    `delimiter`, `quote` (empty: no value is in quotes), `encoding` and `header` are for CSV. Without a header the
    columns are the signature's, in their order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    uri: str
    format: Literal["auto", Kind] = "auto"
    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    header: bool = True

    @field_validator("delimiter", "quote")
    @classmethod
    def _is_a_character(cls, value: str) -> str:
        if len(value) > 1 or not value.isascii() or value in ("\n", "\r", "\0"):
            raise ValueError("expected one character of ASCII that is no line end")
        return value

    @field_validator("encoding")
    @classmethod
    def _is_an_encoding(cls, value: str) -> str:
        try:
            # Python also has codecs that aren't of text, such as zip.
            "".encode(value)
        except LookupError:
            raise ValueError(f"the encoding '{value[:40]}' isn't known; expected one such as utf-8 or cp1252") from None
        return "utf-8" if codecs.lookup(value).name in ("utf-8", "utf-8-sig", "ascii") else value

    @model_validator(mode="after")
    def _delimiter_is_no_quote(self) -> Self:
        if not self.delimiter or self.delimiter == self.quote:
            raise ValueError("delimiter is one character, another one than quote")
        return self


@dataclass(frozen=True, slots=True)
class Range:
    """Rows that are read together, from the row `first` (from 0) on. `source` is JSON, for `read` alone to know."""

    number: int
    first: int
    rows: int
    source: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is in a data set, and how it is cut. `files` are those that were planned, and that `read` insists on."""

    rows: int
    columns: list[str]
    ranges: list[Range]
    files: list[Fingerprint]


@dataclass(frozen=True, slots=True)
class RowFault:
    """Why a row can't be read: its number within the block (from 0), the column ("" for the whole row), the reason."""

    row: int
    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of a data set. The values (rows x columns) are in the signature's order.

    NaN is a missing value that has no default, and all of a row with a fault; a category is its code, UNKNOWN for a
    text that is none. `kept` are the columns that the output repeats; without any, Arrow says that it has no rows.
    There is at most one fault a row.
    """

    values: npt.NDArray[np.float32]
    kept: "pa.Table"
    faults: list[RowFault]


def plan(data: Input, schema: Schema, keep: Sequence[str], chunk_rows: int, spool: str) -> Plan:
    """Look through a data set and cut it into ranges of `chunk_rows` rows.

    A large row group of a file makes ranges of its own, as reading from its middle on means reading its start too (see
    `workers.datasets.ranges`). What can't be read in ranges as it is (compressed CSV, other encodings than UTF-8, Arrow
    streams) is first written in another form into the folder `spool`.

    Raises DatasetError for what a run would fail on: no rows, columns that are missing or of a wrong type, a file that
    ends in the middle, text of another encoding, files that differ. Raises Unreachable.
    """
    from workers.datasets import planning

    return planning.plan(data, schema, keep, chunk_rows, spool)


def read(
    data: Input,
    files: Sequence[Fingerprint],
    source: dict[str, Any],
    schema: Schema,
    keep: Sequence[str],
    batch_rows: int = 65_536,
) -> Iterator[Block]:
    """Yield the rows of a range in blocks of at most `batch_rows`; the arguments are those of `plan`, and its results.

    Raises DatasetError when a file isn't the one that was planned, or can't be read; Unreachable.
    """
    from workers.datasets import reading

    return reading.read(data, files, source, schema, keep, batch_rows)
