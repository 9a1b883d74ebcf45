"""What the system's processes use, group by group, read from outside while it works."""

import contextlib
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from types import TracebackType

import psutil
import psycopg

from tests.chaos.servers import Servers
from tests.stack import Stack

# group -> what its processes' command lines contain
GROUPS = {
    "portal": "granian",
    "dispatcher": "manage.py dispatch",
    "recorder": "-n recorder@",
    "workers": "workers.app worker",
}
RABBITMQ = "rabbitmq"
POSTGRESQL = "postgresql"
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """One moment: resident memory of each group in MiB, CPU seconds of each so far, open jobs in the database."""

    time: float
    memory: dict[str, float]
    cpu: dict[str, float]
    open_jobs: int


class Gauges:
    """Takes a reading every few seconds until the end of the context."""

    def __init__(self, stack: Stack, servers: Servers, *, seconds: float = 2.0) -> None:
        self.readings: list[Reading] = []
        self._stack, self._servers, self._seconds = stack, servers, seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gauges", daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> "Gauges":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            with psycopg.connect(self._servers.direct_database_url, autocommit=True) as connection:
                while not self._stop.wait(self._seconds):
                    row = connection.execute("SELECT count(*) FROM jobs_job WHERE finished_at IS NULL").fetchone()
                    assert row is not None
                    memory, cpu = usage(self._stack, self._servers)
                    self.readings.append(Reading(time.monotonic(), memory, cpu, row[0]))
        except BaseException as error:
            self._error = error


def usage(stack: Stack, servers: Servers) -> tuple[dict[str, float], dict[str, float]]:
    """Return the resident memory (MiB) and the CPU seconds of each group now."""
    memory: defaultdict[str, float] = defaultdict(float)
    cpu: defaultdict[str, float] = defaultdict(float)
    members = [(RABBITMQ, process) for process in servers.node.virtual_machines()]
    members += [(POSTGRESQL, process) for process in servers.postgres.processes()]
    for process in stack.processes():
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            members += [(group, process) for group, words in GROUPS.items() if words in command]
    for group, process in members:
        with contextlib.suppress(psutil.Error):
            memory[group] += process.memory_info().rss / MIB
            times = process.cpu_times()
            cpu[group] += times.user + times.system
    return dict(memory), dict(cpu)
