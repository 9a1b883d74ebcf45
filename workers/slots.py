"""A number of places that all processes of one worker share: each is a file, taken by a lock on it.

The lock ends with the process, whatever ends it.
"""

import fcntl
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from workers import troubles

LOOK_SECONDS = 0.02


class NoSlot(RuntimeError):
    """No place became free in time."""


@contextmanager
def taken(name: str, count: int, seconds: float) -> Iterator[None]:
    """Hold one of `count` places of that name; waits for one so many seconds. Raises NoSlot."""
    end = time.monotonic() + seconds
    files = [_folder() / f"{name}.slot.{number}" for number in range(count)]
    with ExitStack() as stack:
        while not any(_take(file, stack) for file in files):
            if time.monotonic() > end:
                raise NoSlot(f"all {count} calls that may be under way at once were so for {seconds:g} s")
            time.sleep(LOOK_SECONDS)
        yield


def _take(file: Path, stack: ExitStack) -> bool:
    held = file.open("a")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        return False
    stack.enter_context(held)
    return True


def _folder() -> Path:
    return troubles.folder() or Path(_own().name)


@cache
def _own() -> "tempfile.TemporaryDirectory[str]":
    """Return a folder for a process without a parent that shares one, such as a command."""
    return tempfile.TemporaryDirectory(prefix="inference-slots-")
