"""The ledger: what the system has promised, kept outside it. A job is in it once its 202 has reached a client."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Entry:
    """One accepted job: `rows` rows of the model's samples from number `first` on, asked for at `time` (epoch)."""

    id: UUID
    model: str
    first: int
    rows: int
    time: float


class Ledger:
    """An append-only file that many clients write; a context manager."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lock = threading.Lock()
        self._disk = threading.Lock()
        self._lines: list[bytes] = []
        self._noted = 0
        self._durable = 0

    @property
    def count(self) -> int:
        """How many entries are on the disk."""
        return self._durable

    def note(self, entry: Entry) -> None:
        """Append the entry; returns once it is on the disk. Clients that come together share one fsync."""
        with self._lock:
            line = f"{entry.id} {entry.model} {entry.first} {entry.rows} {entry.time!r}\n"
            self._lines.append(line.encode())
            self._noted += 1
            mine = self._noted
        with self._disk:
            if self._durable >= mine:
                return
            with self._lock:
                lines, self._lines = self._lines, []
                last = self._noted
            os.write(self._file, b"".join(lines))
            os.fsync(self._file)
            self._durable = last

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)


def read(path: Path) -> Iterator[Entry]:
    """Read a ledger back."""
    with path.open() as lines:
        for line in lines:
            job_id, model, first, rows, time = line.split()
            yield Entry(UUID(job_id), model, int(first), int(rows), float(time))
