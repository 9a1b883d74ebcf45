"""The ledger: what the system has promised, kept outside it. A job is in it once its 202 has reached a client."""

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Entry:
    """One accepted job, and what may become of it.

    It is for `rows` rows of the model's samples from number `first` on, asked for at `time` (epoch seconds).
    """

    id: UUID
    model: str
    first: int
    rows: int
    time: float
    # When its 202 was there; epoch seconds.
    accepted: float = 0.0
    may_end: tuple[str, ...] = ("succeeded",)
    # What the client called it: whatever comes again under this name is the same job.
    name: str = ""
    # Jobs with the same text here run one after the other, in the order in which they were accepted.
    order: str = ""
    # Seconds after which it may expire.
    ttl: float | None = None
    # Not so for one that was fire and forget.
    keeps_result: bool = True
    # How often it was run again at somebody's wish, at the most.
    reruns: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """What may become of an accepted job from now on, because its client has asked for something more."""

    id: UUID
    may_end: tuple[str, ...]
    reruns: int = 0


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
        """How many lines are on the disk."""
        return self._durable

    def note(self, what: Entry | Change) -> None:
        """Append it; returns once it is on the disk. Clients that come together share one fsync."""
        with self._lock:
            self._lines.append(json.dumps(asdict(what), default=str).encode() + b"\n")
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
    """Read a ledger back: every entry, with the last change of its job."""
    with path.open() as lines:
        noted = [json.loads(line) for line in lines]
    for fields in noted:
        fields |= {"id": UUID(fields["id"]), "may_end": tuple(fields["may_end"])}
    changes = {fields["id"]: fields for fields in noted if "model" not in fields}
    for fields in noted:
        if "model" in fields:
            yield replace(Entry(**fields), **changes.get(fields["id"], {}))
