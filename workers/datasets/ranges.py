"""Cutting files into ranges. A range's source is `{"parts": [...]}`, each part some rows of one file."""

from collections.abc import Sequence
from typing import Any

from workers.datasets import DatasetError, Range

# The plan's result is one message, and RabbitMQ 4 takes 16 MiB; a range is some 160 bytes there.
MAX_RANGES = 25_000
# A row group of up to so many rows may be cut anywhere: reading it from its start costs little.
FREE_ROWS = 65_536
# A larger one is cut into so many pieces, as reading the last one means reading all of it, if only for throwing away …
MAX_PIECES = 2
# … unless they would take a worker too long.
MAX_PIECE_ROWS = 1_000_000


class Ranges:
    """The ranges that were made so far, of files that follow on one another."""

    def __init__(self, chunk_rows: int) -> None:
        if chunk_rows < 1:
            raise DatasetError(f"expected at least 1 row in a chunk, got {chunk_rows:,}")
        self.rows = 0
        self.made: list[Range] = []
        self._chunk_rows = chunk_rows
        self._parts: list[dict[str, Any]] = []
        self._open_rows = 0

    @property
    def room(self) -> int:
        """How many rows the range that is being made may still take; never none."""
        return self._chunk_rows - self._open_rows

    def add(self, part: dict[str, Any], rows: int) -> None:
        """Add rows of a file; with the last for which there is room the range is complete."""
        self._parts.append(part)
        self._open_rows += rows
        self.rows += rows
        if self._open_rows >= self._chunk_rows:
            self.close()

    def close(self) -> None:
        """Complete the range that is being made, if there is one. Raises DatasetError for too many."""
        if not self._open_rows:
            return
        if len(self.made) >= MAX_RANGES:
            raise DatasetError(f"the data set makes more than {MAX_RANGES:,} chunks; ask for more rows in each")
        first = self.rows - self._open_rows
        self.made.append(Range(len(self.made), first, self._open_rows, {"parts": self._parts}))
        self._parts, self._open_rows = [], 0

    def add_groups(self, file: dict[str, Any], groups: Sequence[int]) -> None:
        """Add a file of row groups (or record batches), given the number of rows of each.

        The parts are `file` with `groups`, from the first to before the last one; `skip`, the rows to leave out at
        their start; and `rows`.
        """
        for group, rows in enumerate(groups):
            if rows <= FREE_ROWS or rows <= self.room:
                skip = 0
                while skip < rows:
                    taken = min(self.room, rows - skip)
                    self._add_group(file, group, skip, taken)
                    skip += taken
            else:
                self.close()
                pieces = max(min(round(rows / self._chunk_rows), MAX_PIECES), -(-rows // MAX_PIECE_ROWS), 1)
                for piece in range(pieces):
                    skip, end = rows * piece // pieces, rows * (piece + 1) // pieces
                    self._add_group(file, group, skip, end - skip)
                    self.close()

    def _add_group(self, file: dict[str, Any], group: int, skip: int, rows: int) -> None:
        last = self._parts[-1] if self._parts else None
        if last and last["file"] == file["file"] and last["groups"][1] == group:
            # A range goes from group to group without a gap: what comes here starts where the last part ended.
            last["groups"][1] = group + 1
            last["rows"] += rows
            self._parts.pop()
            self.add(last, rows)
        else:
            self.add(file | {"groups": [group, group + 1], "skip": skip, "rows": rows}, rows)
