"""`python -m tests.chaos.fairness`: nine teams send a request now and then while a tenth has 10,000 jobs waiting.

The figure is the p95 of the nine while the backlog lasts, divided by their p95 before: 2 or less is the target.
"""

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tests.chaos import brake, checker, effects, evidence, ledger, samples
from tests.chaos.flood import Flood
from tests.chaos.gauges import usage
from tests.chaos.servers import Servers
from tests.chaos.stages import stages
from tests.chaos.teams import team_key
from tests.chaos.visitors import Visit, Visitors
from tests.stack import Stack, running

TARGET = 2.0
TEAMS = 9
VISITOR = "visitor"
FLOODER = "flooder"
VISITS_A_SECOND = 2.0
ALONE_SECONDS = 30.0
MODEL = "wine"
OTHER_MODEL = "breast_cancer"
FLOOD_CLIENTS = 16
DRAIN_SECONDS = 600.0


def main() -> int:
    """Measure, print the ratios, and return 1 if one is above the target or something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000, help="of the tenth team")
    parser.add_argument("--rows", type=int, default=32, help="of each of those jobs")
    parser.add_argument("--folder", type=Path, help="keep data and logs here")
    parser.add_argument("--report", type=Path, help="write the figures as JSON to this file")
    options = parser.parse_args()
    # Whoever ends it, what it has started ends too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.ExitStack() as context:
        folder = options.folder or Path(context.enter_context(tempfile.TemporaryDirectory(prefix="fairness-")))
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)
        servers = context.enter_context(Servers(folder))
        stack = Stack(folder / "run", database_url=servers.direct_database_url, broker_url=servers.node.url())
        context.enter_context(running(stack))
        effects.install(servers.direct_database_url)
        book = context.enter_context(ledger.Ledger(folder / "ledger"))
        keys = [team_key(stack, f"{VISITOR}-{number + 1}") for number in range(TEAMS)]
        measurement = Measurement(stack, servers, book, keys, team_key(stack, FLOODER))
        report = {
            name: measurement.measure(name, model, options.jobs, options.rows)
            for name, model in (("the same model", MODEL), ("another model", OTHER_MODEL))
        }
        found = evidence.collect(ledger.read(folder / "ledger"), servers.direct_database_url, servers.node)
    violations = [
        *(line for figures in report.values() for line in figures["violations"]),
        *checker.violations(found, samples.expected),
    ]
    for text in violations:
        print(f"    {text}")
    if options.report:
        options.report.write_text(json.dumps(report | {"violations": violations}, indent=1) + "\n")
    return 1 if violations else 0


@dataclass(frozen=True, slots=True)
class Phase:
    """What the nine teams met while something lasted."""

    seconds: float
    visits: list[Visit]
    # How many cores each group used in the mean; `others` have nothing to do with this run, and spoil it.
    cores: dict[str, float]
    # Median and p95 of each stage of their jobs' way, in seconds.
    way: dict[str, tuple[float, float]]

    def percentile(self, percent: int) -> float:
        """Return the seconds within which so many percent of the requests were answered."""
        seconds = sorted(visit.seconds for visit in self.visits)
        return seconds[min(len(seconds) - 1, len(seconds) * percent // 100)]

    def describe(self) -> str:
        """Return it as three lines of text."""
        figures = ", ".join(f"p{p} {self.percentile(p) * 1000:.0f} ms" for p in (50, 95, 99))
        way = ", ".join(f"{stage} {p50 * 1000:.0f} and {p95 * 1000:.0f} ms" for stage, (p50, p95) in self.way.items())
        cores = ", ".join(f"{group} {used:.2f}" for group, used in self.cores.items())
        return (
            f"{len(self.visits):4} requests of the nine teams: {figures}\n"
            f"          their way (p50 and p95): {way}\n          cores: {cores}"
        )


class Measurement:
    """A running system, the keys of the nine teams and that of the tenth."""

    def __init__(self, stack: Stack, servers: Servers, book: ledger.Ledger, keys: Sequence[str], flooder: str) -> None:
        self._stack, self._servers, self._book = stack, servers, book
        self._keys, self._flooder = keys, flooder

    def measure(self, name: str, flood_model: str, jobs: int, rows: int) -> dict[str, Any]:
        """Measure the nine alone and then beside the backlog of the tenth."""
        alone = self._phase(lambda: time.sleep(ALONE_SECONDS))
        with brake.stopped(self._stack):
            flood = Flood(
                self._stack.url,
                [self._flooder],
                self._book,
                rate=float("inf"),
                clients=FLOOD_CLIENTS,
                rows=rows,
                model=flood_model,
                total=jobs,
            )
            with flood:
                flood.join()
        beside = self._phase(self._until_drained)
        ratio = beside.percentile(95) / alone.percentile(95)
        print(f"flood of {name}: {jobs:,} jobs of {rows} rows, done in {beside.seconds:.1f} s")
        print(f"  alone  {alone.describe()}")
        print(f"  beside {beside.describe()}")
        print(f"  p95 ratio {ratio:.2f}, target {TARGET:g}", flush=True)
        visits = [*alone.visits, *beside.visits]
        violations = [f"answer: {visit.status}" for visit in visits if visit.status != 200]
        if (accepted := flood.statuses()[202]) != jobs:
            violations.append(f"no flood: {accepted} of {jobs} were accepted")
        if ratio > TARGET:
            violations.append(f"unfair: beside a flood of {name} the others' p95 is {ratio:.2f} times that alone")
        phases = {
            title: {
                "p50": phase.percentile(50),
                "p95": phase.percentile(95),
                "p99": phase.percentile(99),
                "requests": len(phase.visits),
                "seconds": phase.seconds,
                "cores": phase.cores,
                "way": phase.way,
            }
            for title, phase in (("alone", alone), ("beside", beside))
        }
        return {"ratio": ratio, **phases, "violations": violations}

    def _phase(self, lasts: Callable[[], None]) -> Phase:
        """Let the nine teams come for as long as that lasts."""
        psutil.cpu_percent()
        _, before = usage(self._stack, self._servers)
        began, own = time.time(), time.process_time()
        with Visitors(self._stack.url, self._keys, rate=VISITS_A_SECOND, model=MODEL) as visitors:
            lasts()
            ended = time.monotonic()
        seconds = time.time() - began
        _, after = usage(self._stack, self._servers)
        cores = {group: (after[group] - before.get(group, 0.0)) / seconds for group in after}
        cores["clients"] = (time.process_time() - own) / seconds
        cores["others"] = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1) - sum(cores.values())
        way = stages(self._servers.direct_database_url, f"key {VISITOR}%", began, time.time())
        return Phase(seconds, [visit for visit in visitors.visits if visit.due < ended], cores, way)

    def _until_drained(self) -> None:
        """Wait until nothing of the tenth team is open."""
        began = time.monotonic()
        sql = """
            SELECT count(*) FROM jobs_job JOIN accounts_team ON accounts_team.id = team_id
            WHERE finished_at IS NULL AND accounts_team.name = %s
        """
        with psycopg.connect(self._servers.direct_database_url, autocommit=True) as connection:
            while connection.execute(sql, [FLOODER]).fetchone() != (0,):
                if time.monotonic() - began > DRAIN_SECONDS:
                    raise AssertionError(f"the backlog is still there after {DRAIN_SECONDS} s")
                time.sleep(0.25)


if __name__ == "__main__":
    sys.exit(main())
