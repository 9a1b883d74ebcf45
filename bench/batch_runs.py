"""Worker processes that the benchmark starts, stops and kills, and batches with the times of all that they did."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from bench.batch_data import MODEL
from tests.stack import ROOT, Stack, wait_for

# As deploy/supervisord.conf has it.
QUEUES = "inference.batch,inference.batch.isolated"
NICE = ("nice", "-n", "10")
START_SECONDS = 60.0
SAMPLE_SECONDS = 0.02
# Looking takes a part of what is measured; when a batch ended is in the database.
LOOK_SECONDS = 1.0
_TIMES = """
    SELECT batch.created_at, MIN(job.started_at), MAX(job.finished_at), batch.finished_at,
           SUM(job.finished_at - job.started_at),
           COUNT(*) FILTER (WHERE job.attempt > 1), ARRAY_AGG(DISTINCT split_part(job.worker, '@', 1))
    FROM batches_batch AS batch JOIN jobs_job AS job ON job.batch_id = batch.id AND job.step = 'chunk'
    WHERE batch.id = %s GROUP BY batch.id
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """A batch that succeeded: its output, and the seconds from when it was asked for to when it had ended.

    They are the sum of those until the first chunk is begun (`plan`), until the last one is recorded, and until the end
    (`merge`). `working` is the sum of the times of the single chunks, `again` how many had more than one attempt, and
    `nodes` who did some.
    """

    rows: int
    output: Path
    sha256: str
    plan: float
    chunks: float
    merge: float
    working: float
    again: int
    nodes: frozenset[str]

    @property
    def whole(self) -> float:
        """The sum."""
        return self.plan + self.chunks + self.merge


class Node:
    """A worker of the batch lane with one process, on one core if `core` says which."""

    def __init__(self, stack: Stack, number: int, core: int | None = None) -> None:
        self._stack = stack
        self.name = f"batch{number}"
        self._pin = () if core is None else ("taskset", "-c", str(core))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it is ready when its child is there."""
        command = [*self._pin, *NICE, sys.executable, "-m", "celery", "-A", "workers.app", "worker"]
        options = ["-n", f"{self.name}@%h", "-Q", QUEUES, "-c", "1", "--without-gossip", "--without-mingle"]
        (supervisor,) = self._stack.supervisors
        with (self._stack.folder / "logs" / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *options], cwd=ROOT, env=supervisor.environ(), stdout=log, stderr=log, start_new_session=True
            )
        # To Linux each session may be a group of its own (sched(7), "autogroup"), and `nice` counts within it only.
        # The system's own worker is in its supervisor's session.
        with contextlib.suppress(OSError):
            Path(f"/proc/{self._process.pid}/autogroup").write_text(NICE[-1])
        wait_for(lambda: self.child() is not None, START_SECONDS, self._stack.logs)

    def child(self) -> psutil.Process | None:
        """Return the process that predicts, if it lives."""
        with contextlib.suppress(psutil.Error):
            if self._process is not None and self._process.poll() is None:
                children = psutil.Process(self._process.pid).children()
                return next((child for child in children if child.status() != psutil.STATUS_ZOMBIE), None)
        return None

    def cpu_seconds(self) -> float:
        """Return the CPU seconds so far of its two processes."""
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        times = [process.cpu_times() for process in (parent, *parent.children())]
        return float(sum(each.user + each.system for each in times))

    def kill(self, *, whole: bool) -> None:
        """SIGKILL its child, or the `whole` of it, which is then started again as a supervisor would."""
        assert self._process is not None
        if not whole:
            if child := self.child():
                with contextlib.suppress(psutil.Error):
                    child.kill()
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        self.start()

    def stop(self) -> None:
        """Let it end what it does, then stop it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)

    def __enter__(self) -> "Node":
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()


class Batches:
    """Runs batches of the benchmark's model on a stack, one after the other."""

    def __init__(self, stack: Stack, database: str) -> None:
        self.stack = stack
        self._database = database.replace("postgres://", "postgresql://", 1)

    def start(self, table: Path, chunk_rows: int) -> str:
        """Ask for a batch. Returns its id."""
        asked = {"model": MODEL, "version": "1", "input": {"uri": f"file://{table}"}, "chunk_rows": chunk_rows}
        answer = self.stack.client.post("/api/batches/", json=asked)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def end(self, batch: str, seconds: float = 1800.0) -> Ran:
        """Wait for a batch. Raises AssertionError unless it succeeds in time."""
        end = time.monotonic() + seconds
        while (found := self.stack.client.get(f"/api/batches/{batch}/").json())["finished_at"] is None:
            assert time.monotonic() < end, f"{found}\n{self.stack.logs()}"
            time.sleep(LOOK_SECONDS)
        assert found["state"] == "succeeded", f"{found}\n{self.stack.logs()}"
        with psycopg.connect(self._database) as connection:
            row = connection.execute(_TIMES, [batch]).fetchone()
        assert row is not None
        created, first, last, ended, working, again, nodes = row
        output = found["receipt"]["output"]
        return Ran(
            rows=output["rows"],
            output=self.stack.folder / "data" / output["uri"].removeprefix("store://"),
            sha256=output["sha256"],
            plan=(first - created).total_seconds(),
            chunks=(last - first).total_seconds(),
            merge=(ended - last).total_seconds(),
            working=working.total_seconds(),
            again=again,
            nodes=frozenset(nodes),
        )

    def run(self, table: Path, chunk_rows: int) -> Ran:
        """Run a batch to its end."""
        return self.end(self.start(table, chunk_rows))


class Peak:
    """The most memory (RSS, bytes) that a node's child has had inside the block, looked at every few milliseconds."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.bytes = 0

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        child = None
        while not self._stop.wait(SAMPLE_SECONDS):
            # At first it may be one that its parent needs for a moment only.
            if child is None or not child.is_running():
                child = self._node.child()
            with contextlib.suppress(psutil.Error):
                self.bytes = max(self.bytes, 0 if child is None else child.memory_info().rss)


class Kills:
    """Inside the block nodes are killed every so many seconds, in turn a child alone and a worker as a whole."""

    def __init__(self, nodes: Sequence[Node], seconds: float) -> None:
        self._nodes = nodes
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._kill)
        self.number = 0

    def __enter__(self) -> "Kills":
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join()

    def _kill(self) -> None:
        while not self._stop.wait(self._seconds):
            self._nodes[self.number // 2 % len(self._nodes)].kill(whole=self.number % 2 == 1)
            self.number += 1
