"""`python -m tests.chaos.overload --minutes 10`: clients offer ten times what the workers complete, without a pause.

Each request must be answered with 202, 429 or 503, the latter two with Retry-After; what was accepted must be
completed; the memory of the processes must stay flat. The workers are held back, so a small machine can offer that.
"""

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from tests.chaos import checker, effects, evidence, ledger, samples
from tests.chaos.brake import Brake
from tests.chaos.flood import Answer, Flood
from tests.chaos.gauges import POSTGRESQL, Gauges, Reading
from tests.chaos.plot import line
from tests.chaos.servers import Servers
from tests.chaos.teams import team_key
from tests.stack import Stack, running

TIMES = 10
# What counts as an overload still, on a machine that is busy with something else too.
LEAST_TIMES = 7
ROWS = 32
# Of four teams the first sends more than half of all requests and meets its own limit; all meet that of the system.
SHARES = {"greedy": 6, "second": 2, "third": 1, "fourth": 1}
LIMITS = {"TEAM_QUOTA": "400", "MAX_OPEN_JOBS": "1000"}
CLIENTS = 64
# The part of the time in which the workers may work.
WORKER_SHARE = 0.03
# More than they complete, and little enough to leave them the processor.
MEASURE_RATE = 150.0
MEASURE_SECONDS = 15.0
DRAIN_SECONDS = 300.0
# From the second to the last fifth of the run; less than either of them is flat.
FLAT_PART, FLAT_MIB = 0.10, 30.0


def main() -> int:
    """Run it, print what came of it, and return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--folder", type=Path, help="keep data and logs here")
    parser.add_argument("--report", type=Path, help="write the figures as JSON to this file")
    options = parser.parse_args()
    # Whoever ends it, what it has started ends too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.ExitStack() as context:
        folder = options.folder or Path(context.enter_context(tempfile.TemporaryDirectory(prefix="overload-")))
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)
        servers = context.enter_context(Servers(folder))
        stack = Stack(folder / "run", database_url=servers.direct_database_url, broker_url=servers.node.url(), **LIMITS)
        context.enter_context(running(stack))
        effects.install(servers.direct_database_url)
        figures = overload(stack, servers, folder, options.minutes * 60)
    for text in figures["violations"]:
        print(f"    {text}")
    if options.report:
        options.report.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if figures["violations"] else 0


def overload(stack: Stack, servers: Servers, folder: Path, seconds: float) -> dict[str, Any]:
    """Measure what is completed, offer ten times that for `seconds`, let it drain, and return the figures."""
    keys = [key for team, share in SHARES.items() for key in [team_key(stack, team)] * share]
    path = folder / "ledger"
    with contextlib.ExitStack() as context:
        book = context.enter_context(ledger.Ledger(path))
        with Brake(stack, WORKER_SHARE):
            completes = _completion_rate(stack, servers, keys, book)
            print(f"completes {completes:,.0f} jobs/s, so {TIMES * completes:,.0f} are offered", flush=True)
            began = time.time()
            with (
                Gauges(stack, servers) as gauges,
                Flood(stack.url, keys, book, rate=TIMES * completes, clients=CLIENTS, rows=ROWS) as flood,
            ):
                time.sleep(seconds)
            ended = time.time()
    drained = evidence.wait_until_final(servers.direct_database_url, DRAIN_SECONDS)
    found = evidence.collect(ledger.read(path), servers.direct_database_url, servers.node)
    lasted = ended - began
    done = sum(1 for effect in found.effects if began < effect.written < ended) / lasted
    offered = len(flood.answers) / lasted
    answers = dict(flood.statuses())
    memory = growth(gauges.readings)
    times = sorted(answer.seconds for answer in flood.answers)
    print(f"{lasted:.0f} s: {offered:,.0f} requests/s offered, answers {answers}, {done:,.0f} jobs/s completed")
    print(
        f"answers within p50 {times[len(times) // 2] * 1000:.0f} ms, p99 {times[len(times) * 99 // 100] * 1000:.0f} ms"
    )
    print(f"accepted in all {len(found.entries):,}, the backlog was done {drained:.0f} s later")
    print(line("open jobs", [reading.open_jobs for reading in gauges.readings]))
    for group in memory:
        print(line(group, [reading.memory.get(group, 0.0) for reading in gauges.readings], " MiB"))
    violations = [
        *checker.violations(found, samples.expected),
        *_wrong_answers(flood.answers),
        *(
            f"memory: {group} grew from {early:.0f} to {late:.0f} MiB"
            for group, (early, late) in memory.items()
            # Of the database the same shared pages would be counted once for each connection.
            if group != POSTGRESQL and late - early > FLAT_MIB and late > early * (1 + FLAT_PART)
        ),
    ]
    if offered < LEAST_TIMES * completes:
        violations.append(f"no overload: {offered:.0f} requests/s came, {TIMES * completes:.0f} were wanted")
    for status in (429, 503):
        if not answers.get(status):
            violations.append(f"no overload: not one answer was {status}")
    return {
        "seconds": lasted,
        "completes": completes,
        "offered": offered,
        "answers": answers,
        "accepted": len(found.entries),
        "drain_seconds": drained,
        "memory_mib": memory,
        "open_jobs": [reading.open_jobs for reading in gauges.readings],
        "rss_mib": [reading.memory for reading in gauges.readings],
        "violations": violations,
    }


def growth(readings: list[Reading]) -> dict[str, tuple[float, float]]:
    """Return the mean memory of each group in the second fifth and in the last one, in MiB."""
    fifth = len(readings) // 5

    def mean(group: str, part: list[Reading]) -> float:
        return fmean(reading.memory.get(group, 0.0) for reading in part)

    groups = sorted({group for reading in readings for group in reading.memory})
    return {g: (mean(g, readings[fifth : 2 * fifth]), mean(g, readings[-fifth:])) for g in groups}


def _completion_rate(stack: Stack, servers: Servers, keys: list[str], book: ledger.Ledger) -> float:
    """Return how many jobs a second end while there is always one to do."""
    count = "SELECT count(*) FROM chaos_effect"
    with Flood(stack.url, keys, book, rate=MEASURE_RATE, clients=CLIENTS, rows=ROWS):
        time.sleep(MEASURE_SECONDS / 3)
        ((before,),) = evidence.query(servers.direct_database_url, count)
        time.sleep(MEASURE_SECONDS)
        ((after,),) = evidence.query(servers.direct_database_url, count)
    return float(after - before) / MEASURE_SECONDS


def _wrong_answers(answers: list[Answer]) -> Iterator[str]:
    for answer in answers:
        if answer.status not in (202, 429, 503):
            yield f"answer: {answer.status or 'none'} {answer.detail}"
        elif answer.status != 202 and not (answer.retry_after.isdigit() and int(answer.retry_after) >= 1):
            yield f"answer: {answer.status} with Retry-After '{answer.retry_after}'"


if __name__ == "__main__":
    sys.exit(main())
