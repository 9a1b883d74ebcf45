"""`make bench-batches`: batches on the full stack, measured as ratios in one run.

A worker process against the quickest script (`bench.streaming`) on the same core; two against one; memory at two sizes;
clients' requests beside a batch and alone; and kills, after which the output is the same to the bit. Needs about 5 GB.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from bench import batch_data
from bench.batch_runs import NICE, Batches, Kills, Node, Peak, Ran
from bench.load import cpu_seconds
from tests import services
from tests.stack import ROOT, Stack, running

SERVERS = {"postgresql": "postgres", "rabbitmq": "beam"}
WARM_UP_ROWS = 20_000
ONLINE_RATE = 20.0


class Bench:
    """A running stack without batch workers, and what is measured on it."""

    def __init__(self, batches: Batches, options: argparse.Namespace) -> None:
        self._batches = batches
        self._stack = batches.stack
        self._options = options
        self._table = self.table(options.rows)
        self._output = self._stack.folder / "script.parquet"
        self._warm_up = self.table(WARM_UP_ROWS)
        # The first core is for all that isn't pinned, as far as the system can choose.
        cores = sorted(os.sched_getaffinity(0))
        self._core, self._other_core = cores[-1], cores[0]

    def table(self, rows: int) -> Path:
        """Return the table of so many rows."""
        return batch_data.table(self._options.folder, rows)

    def speed(self) -> None:
        """Measure the script, one and two worker processes, in turns."""
        rounds: list[tuple[Script, Measured, Measured]] = []
        with Node(self._stack, 1, self._core) as first:
            self._warm(first)
            for number in range(self._options.rounds):
                script = self._script()
                one = self._measured(first)
                assert pq.read_table(self._output).equals(pq.read_table(one.ran.output)), "the outputs differ"
                with Node(self._stack, 2, self._other_core) as second:
                    self._warm(first, second)
                    two = self._measured(first, second)
                rounds.append((script, one, two))
                print(f"  round {number + 1}: script {script.seconds:.2f} s", flush=True)
                print(f"    one process: {one}\n    two: {two}", flush=True)
        print("a, b: rows/s, each process on a core of its own; ratios are medians of the rounds'")
        for name, seconds in (
            ("script", [script.seconds for script, _, _ in rounds]),
            ("one process, its chunks", [one.ran.chunks for _, one, _ in rounds]),
            ("one process, all", [one.ran.whole for _, one, _ in rounds]),
            ("two processes, their chunks", [two.ran.chunks for _, _, two in rounds]),
            ("two processes, all", [two.ran.whole for _, _, two in rounds]),
        ):
            print(f"  {name:<28} {self._options.rows / statistics.median(seconds):>10,.0f} rows/s")
        _ratio("one process : script, chunks", [s.seconds / one.ran.chunks for s, one, _ in rounds], "at least 0.90")
        _ratio("one process : script, all", [s.seconds / one.ran.whole for s, one, _ in rounds], "at least 0.90")
        _ratio("one process : script, CPU a row", [one.cpu / script.cpu for script, one, _ in rounds])
        _ratio("two : one, chunks", [one.ran.chunks / two.ran.chunks for _, one, two in rounds], "at least 1.80")
        # What the rest of the stack takes of their cores counts against them above, and not here.
        by_cpu = [2 * (one.cpu / two.cpu) * (two.working / one.working) for _, one, two in rounds]
        _ratio("two : one, with a core each to themselves, by CPU time and time at work", by_cpu, "at least 1.80")
        _ratio("two : one, all", [one.ran.whole / two.ran.whole for _, one, two in rounds])

    def memory(self) -> None:
        """Measure what a fresh worker process takes at most, for a fifth of the rows and for twice as many."""
        peaks = []
        for rows in (max(1, self._options.rows // 5), self._options.rows * 2):
            with Node(self._stack, 1) as node, Peak(node) as peak:
                self._batches.run(self.table(rows), self._options.chunk_rows)
            peaks.append(peak.bytes)
            print(f"c: {rows:>12,} rows: {peak.bytes / 2**20:.0f} MiB at most in the worker process (under 400)")
        _ratio("many rows : few", [peaks[1] / peaks[0]], "about 1")

    def online(self) -> None:
        """Measure clients' requests alone and beside batches, in turns."""
        alone: list[list[float]] = []
        beside: list[list[float]] = []
        with Node(self._stack, 1) as node:
            self._warm(node)
            self._requests(3.0)
            for _ in range(self._options.rounds):
                alone.append(self._requests(self._options.seconds))
                with _Repeated(self._run):
                    beside.append(self._requests(self._options.seconds))
        every = sum(alone, []), sum(beside, [])
        sent = "{:,} alone, {:,} beside a batch".format(*map(len, every))
        print(f"d: {ONLINE_RATE:g} requests/s of a row, waiting; {sent}, in {len(alone)} turns each")
        for share in (0.5, 0.95, 0.99):
            times = [_quantile(seconds, share) * 1000 for seconds in every]
            print(
                f"  p{share * 100:.0f}: alone {times[0]:.1f} ms, beside {times[1]:.1f} ms, {times[1] / times[0]:.2f} x"
            )
        turns = [_quantile(b, 0.99) / _quantile(a, 0.99) for a, b in zip(alone, beside, strict=True)]
        _ratio("p99 beside : alone, of the turns", turns, "at most 2")

    def kills(self) -> None:
        """Kill workers while batches run, and compare what they write with an undisturbed one's output."""
        kills, outputs = 0, []
        table = self.table(self._options.rows * 2)
        with Node(self._stack, 1) as first, Node(self._stack, 2) as second:
            undisturbed = self._batches.run(table, self._options.chunk_rows)
            while kills < self._options.kills:
                with Kills((first, second), self._options.kill_seconds) as killed:
                    outputs.append(self._batches.run(table, self._options.chunk_rows))
                kills += killed.number
        same = sum(ran.sha256 == undisturbed.sha256 for ran in outputs)
        longest = max(ran.whole for ran in outputs)
        print(f"e: {kills} kills, one every {self._options.kill_seconds:g} s, in {len(outputs)} runs:")
        print(f"  {same} outputs are identical to the undisturbed one")
        print(f"  {sum(ran.again for ran in outputs)} chunks ran again")
        print(f"  {longest:.1f} s at most, undisturbed {undisturbed.whole:.1f} s", flush=True)
        assert same == len(outputs), f"undisturbed {undisturbed.sha256}, disturbed {[ran.sha256 for ran in outputs]}"

    def _run(self) -> Ran:
        return self._batches.run(self._table, self._options.chunk_rows)

    def _warm(self, *nodes: Node) -> None:
        """Have each node load the model: batches of small chunks, until each has had some."""
        seen: frozenset[str] = frozenset()
        while not seen.issuperset(node.name for node in nodes):
            seen |= self._batches.run(self._warm_up, WARM_UP_ROWS // 20).nodes

    def _script(self) -> "Script":
        """Run the script on the first worker's core, as nice as it is."""
        model = batch_data.model_file(batch_data.store(self._options.folder))
        command = ["taskset", "-c", str(self._core), *NICE, sys.executable, "-m", "bench.streaming"]
        files = [str(self._table), str(model), str(self._output)]
        done = subprocess.run([*command, *files], cwd=ROOT, stdout=subprocess.PIPE, check=True)
        script = Script(**json.loads(done.stdout))
        assert script.rows == self._options.rows
        return script

    def _requests(self, seconds: float) -> list[float]:
        command = [sys.executable, "-m", "bench.paced", self._stack.url, self._stack.api_key]
        done = subprocess.run([*command, str(ONLINE_RATE), str(seconds)], cwd=ROOT, stdout=subprocess.PIPE, check=True)
        return list(json.loads(done.stdout))

    def _measured(self, *nodes: Node) -> "Measured":
        """Run a batch on these nodes."""
        stack, others, cpu = _of_stack(self._stack), _others(self._stack), sum(node.cpu_seconds() for node in nodes)
        ran = self._run()
        cpu = sum(node.cpu_seconds() for node in nodes) - cpu
        others = max(0.0, _others(self._stack) - others)
        stack = _of_stack(self._stack) - stack
        return Measured(
            *(ran, cpu),
            working=ran.working / ran.chunks / len(nodes),
            stack=(stack - cpu) / ran.whole,
            others=others / ran.whole,
        )


@dataclass(frozen=True, slots=True)
class Script:
    """What the script says of itself: seconds, those of its CPU, and rows."""

    seconds: float
    cpu: float
    rows: int


@dataclass(frozen=True, slots=True)
class Measured:
    """A batch; the CPU seconds of its workers; which share of the chunks' time they were at work; and how many cores
    the rest of the stack had meanwhile, and others, that are neither of the stack nor of the benchmark."""

    ran: Ran
    cpu: float
    working: float
    stack: float
    others: float

    def __str__(self) -> str:
        ran = self.ran
        return (
            f"{ran.whole:.2f} s = {ran.plan:.2f} to the first chunk + {ran.chunks:.2f} + {ran.merge:.2f} to the end; "
            f"at work {self.working:.1%}; the rest of the stack had {self.stack:.2f} cores, others {self.others:.2f}"
        )


class _Repeated:
    """Inside the block something runs again and again; leaving it waits for the last time to end."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                self._run()
        except Exception as error:
            self._error = error


def _of_stack(stack: Stack) -> float:
    """Return the CPU seconds so far of the stack and its servers."""
    return float(sum(cpu_seconds(stack, SERVERS).values()))


def _others(stack: Stack) -> float:
    """Return the CPU seconds so far of everything on this machine but the stack, its servers and this process."""
    own = psutil.Process().cpu_times()
    return _busy() - _of_stack(stack) - own.user - own.system


def _busy() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _ratio(name: str, values: Sequence[float], target: str = "") -> None:
    spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    print(f"  {name}: {statistics.median(values):.3f}{spread}{target and f'; aim: {target}'}", flush=True)


def _quantile(seconds: Sequence[float], share: float) -> float:
    return sorted(seconds)[int(len(seconds) * share)]


PARTS: dict[str, Callable[[Bench], None]] = {
    "speed": Bench.speed,
    "memory": Bench.memory,
    "online": Bench.online,
    "kills": Bench.kills,
}


def main() -> None:
    """Make what is missing, start the stack, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--chunk-rows", type=int, default=250_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30.0, help="of requests, alone and beside a batch, each round")
    parser.add_argument("--kills", type=int, default=10, help="at least so many")
    parser.add_argument("--kill-seconds", type=float, default=5.0)
    parser.add_argument("--folder", type=Path, default=ROOT / ".run" / "bench-batches", help="of tables and the model")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    cores = psutil.cpu_count()
    print(
        f"{options.rows:,} rows x {len(batch_data.COLUMNS)} columns, {batch_data.TREES} trees of depth "
        f"{batch_data.DEPTH}, {cores} cores, {psutil.cpu_percent(3) / 100 * (cores or 1):.2f} of them busy before",
        flush=True,
    )
    store = batch_data.store(options.folder)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        services.postgres_server() as postgres,
        services.rabbitmq_server() as node,
        services.database(postgres) as database,
        services.virtual_host(node) as broker,
        running(
            Stack(
                Path(folder) / "run",
                database_url=database,
                broker_url=broker,
                MODEL_STORE=str(store),
                DATA_FOLDERS=str(options.folder),
                # Batch workers are started here, on cores of their own.
                START_BATCH="0",
            )
        ) as stack,
    ):
        bench = Bench(Batches(stack, database), options)
        for part in options.parts:
            PARTS[part](bench)


if __name__ == "__main__":
    main()
