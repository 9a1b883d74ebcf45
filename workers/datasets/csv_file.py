"""CSV files: the pass that counts the rows and finds the ranges. `csv_block` reads the rows of one.

The file is UTF-8 that isn't packed (`csv_text` makes it). Lines end in LF or CRLF; line ends at the end of the file
mean nothing.
"""

import codecs
import csv
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from workers.datasets import Block, DatasetError, Input, place
from workers.datasets.columns import Constants, Wanted
from workers.datasets.csv_block import Reader
from workers.datasets.csv_lines import Lines
from workers.datasets.ranges import Ranges
from workers.datasets.troubles import reaching

BLOCK_BYTES = 4 * 1024 * 1024
# What is read at once of the first line.
HEAD_BYTES = 64 * 1024
# A longer line is more likely a quote that nobody closed.
MAX_LINE_BYTES = 16 * 1024 * 1024


class Head(NamedTuple):
    """The names of the columns, and the byte at which the first row starts."""

    names: list[str]
    start: int


def head(uri: str, data: Input, signature: tuple[str, ...]) -> Head:
    """Return a file's columns. Raises DatasetError for an empty file, or none of CSV."""
    with reaching(uri), place.open_input(uri) as source:
        line = _first_line(uri, source, data)
    mark = len(codecs.BOM_UTF8) if line.startswith(codecs.BOM_UTF8) else 0
    try:
        text = line[mark:].decode()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{uri}: the first line is not {data.encoding}: {error.reason}") from error
    if not text.strip("\r\n"):
        raise DatasetError(f"{uri}: the first line is empty")
    cells = _cells(uri, text, data)
    if data.header:
        return Head(cells, len(line))
    if len(cells) != len(signature):
        raise DatasetError(
            f"{uri}: without a header the columns are the model's {len(signature):,}, the first line has {len(cells):,}"
        )
    return Head(list(signature), mark)


def _first_line(uri: str, source: BinaryIO, data: Input) -> bytes:
    lines = Lines(data.delimiter, data.quote)
    line = b""
    # A mark of UTF-8 would hide a quote behind it.
    mark = source.read(len(codecs.BOM_UTF8))
    if mark != codecs.BOM_UTF8:
        source.seek(0)
        mark = b""
    while len(line) <= MAX_LINE_BYTES and (block := source.read(HEAD_BYTES)):
        ends = lines.ends(block)
        if ends.size:
            return mark + line + block[: int(ends[0])]
        line += block
    if not line:
        raise DatasetError(f"{uri} is empty")
    if lines.in_quotes or len(line) > MAX_LINE_BYTES:
        raise DatasetError(f"{uri}: the first line doesn't end; is it CSV, and are its quotes closed?")
    return mark + line


def _cells(uri: str, text: str, data: Input) -> list[str]:
    reader = csv.reader(
        [text],
        delimiter=data.delimiter,
        quotechar=data.quote or None,
        quoting=csv.QUOTE_MINIMAL if data.quote else csv.QUOTE_NONE,
    )
    try:
        return next(reader, [])
    except csv.Error as error:
        raise DatasetError(f"{uri}: the first line is not CSV: {error}; lines end in LF or CRLF") from error


def add_ranges(part: dict[str, Any], data: Input, first: Head, ranges: Ranges) -> None:
    """Go through a file and add its rows to the ranges: parts like `part`, with `start` and `end` in bytes.

    Raises DatasetError for text that isn't UTF-8, quotes that don't close, and a last line that isn't whole.
    """
    uri = part["file"]
    with reaching(uri), place.open_input(uri) as source:
        end = _end(source, first.start)
        lines = Lines(data.delimiter, data.quote)
        text = _Text(uri, data.encoding)
        source.seek(first.start)
        at = line_start = begin = first.start
        # Rows since `begin`, and in the file.
        count = rows = 0
        while at < end:
            block = source.read(min(BLOCK_BYTES, end - at))
            if not block:
                raise DatasetError(f"{uri} became shorter while it was read")
            text.check(block, rows)
            ends = lines.ends(block) + at
            at += len(block)
            used = 0
            while len(ends) - used >= ranges.room - count:
                used += ranges.room - count
                stop = int(ends[used - 1])
                ranges.add(part | {"start": begin, "end": stop}, ranges.room)
                begin, count = stop, 0
            count += len(ends) - used
            rows += len(ends)
            line_start = int(ends[-1]) if ends.size else line_start
            if at - line_start > MAX_LINE_BYTES:
                raise DatasetError(f"{uri}: row {rows:,} (from 0) doesn't end; are its quotes closed?")
        text.check(b"", rows, final=True)
        if lines.in_quotes:
            raise DatasetError(f"{uri} ends in the middle of row {rows:,} (from 0), inside of quotes")
        if begin < end:
            if end == source.size():
                _check_last(uri, source.read_at(end - line_start, line_start), rows, data, len(first.names))
            ranges.add(part | {"start": begin, "end": end}, count + 1)


def _end(source: Any, start: int) -> int:
    """Return where the last row ends, without the line ends behind it."""
    end = int(source.size())
    while end > start:
        size = min(BLOCK_BYTES, end - start)
        kept = source.read_at(size, end - size).rstrip(b"\r\n")
        end += len(kept) - size
        if kept:
            break
    return end


def _check_last(uri: str, line: bytes, row: int, data: Input, width: int) -> None:
    """Raise DatasetError for a last line that has no line end and too few values: the rest of the file is lacking."""
    cells = len(_cells(uri, line.decode(errors="replace"), data))
    if cells < width:
        raise DatasetError(
            f"{uri} ends in the middle of row {row:,} (from 0), with {cells:,} of {width:,} values and no line end"
        )


class _Text:
    """Checks that blocks are UTF-8."""

    def __init__(self, uri: str, encoding: str) -> None:
        self._uri = uri
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def check(self, block: bytes, rows: int, *, final: bool = False) -> None:
        if block.isascii() and not self._decoder.getstate()[0]:
            return
        try:
            self._decoder.decode(block, final)
        except UnicodeDecodeError as error:
            row = rows + block.count(b"\n", 0, error.start)
            wrong = error.object[error.start]
            raise DatasetError(
                f"{self._uri} is not {self._encoding}: {error.reason}, the byte 0x{wrong:02x} near row {row:,} (from 0)"
            ) from error


def blocks(part: dict[str, Any], data: Input, wanted: Wanted, constants: Constants, batch_rows: int) -> Iterator[Block]:
    """Yield the rows of a part. Raises DatasetError, Unreachable."""
    uri, at, end = part["file"], part["start"], part["end"]
    reader = Reader(head(uri, data, wanted.schema.names).names, data, wanted, constants)
    lines = Lines(data.delimiter, data.quote)
    with reaching(uri), place.open_input(uri) as source:
        source.seek(at)
        rest = b""
        while at < end:
            block = source.read(min(BLOCK_BYTES, end - at))
            if not block:
                raise DatasetError(f"{uri} became shorter while it was read")
            at += len(block)
            ends = lines.ends(block) + len(rest)
            text = rest + block
            if at == end and not (ends.size and ends[-1] == len(text)):
                ends = np.append(ends, len(text))
            begin = 0
            for first in range(0, len(ends), batch_rows):
                taken = ends[first : first + batch_rows]
                stop = int(taken[-1])
                yield reader.block(text[begin:stop], taken - begin)
                begin = stop
            rest = text[begin:]
