"""Slow workers on demand: so a small machine can offer many times what they complete, or heap up a backlog."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import psutil

from tests.stack import Stack

PERIOD_SECONDS = 1.0
LOOK_SECONDS = 5.0


@contextlib.contextmanager
def stopped(stack: Stack) -> Iterator[None]:
    """Let no worker work until the end."""
    held = _children(stack)
    _each(held, psutil.Process.suspend)
    try:
        yield
    finally:
        _each(held, psutil.Process.resume)


class Brake:
    """Lets the workers work for a part of the time only, until the end of the context."""

    def __init__(self, stack: Stack, share: float) -> None:
        self._stack, self._share = stack, share
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="brake", daemon=True)

    def __enter__(self) -> "Brake":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        looked, children = float("-inf"), []
        while not self._stop.is_set():
            if time.monotonic() - looked > LOOK_SECONDS:
                children = _children(self._stack)
                looked = time.monotonic()
            # Always the whole period: it ends with everybody at work.
            _each(children, psutil.Process.suspend)
            time.sleep((1 - self._share) * PERIOD_SECONDS)
            _each(children, psutil.Process.resume)
            time.sleep(self._share * PERIOD_SECONDS)


def _children(stack: Stack) -> list[psutil.Process]:
    """Return the workers' processes that predict; their parents are spared, for they send the heartbeats."""
    everyone = stack.processes("workers.app worker")
    parents = {process.pid for process in everyone}
    return [process for process in everyone if process.ppid() in parents]


def _each(processes: list[psutil.Process], act: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            act(process)
