"""`python -m tests.chaos.faults --times 3`: every fault of the table hits a working system, one after the other.

While only the broker is hit every submission must be accepted; while the database is hit it may be refused. Afterwards
everything accepted must have ended, with the right prediction, once, and the queues must be empty.
"""

import argparse
import contextlib
import json
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.chaos.broken import FAULTS
from tests.chaos.trial import Ground, Outcome, ground


def main() -> int:
    """Try the faults, print a line for each, and return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--clients", type=int, default=2, help="each submits about seven jobs a second")
    parser.add_argument("--only", default="", help="only faults whose name contains this")
    parser.add_argument("--folder", type=Path, help="keep data and logs here")
    parser.add_argument("--report", type=Path, help="write the outcomes as JSON to this file")
    options = parser.parse_args()
    # Whoever ends it, what it has started ends too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    names = [name for name in FAULTS if options.only in name]
    if not names:
        parser.error(f"no fault is called {options.only}; there are: {', '.join(FAULTS)}")
    with contextlib.ExitStack() as context:
        folder = options.folder or Path(context.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        folder.mkdir(parents=True, exist_ok=True)
        hit = context.enter_context(ground(folder, disks=True))
        outcomes = [
            outcome for number in range(options.times) for outcome in _round(hit, names, number + 1, options.clients)
        ]
    broken = sum(len(outcome.violations) for outcome in outcomes)
    accepted = sum(outcome.accepted for outcome in outcomes)
    print(f"{len(outcomes)} faults, {accepted} jobs accepted, {broken} violations")
    if options.report:
        options.report.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    return 1 if broken else 0


def _round(hit: Ground, names: list[str], number: int, clients: int) -> list[Outcome]:
    outcomes = []
    for name in names:
        outcome = hit.trial(name, FAULTS[name], clients=clients)
        print(
            f"{number} {name:<24} {outcome.fault_seconds:5.1f} s  {outcome.accepted:4} accepted, all final after "
            f"{outcome.recovery_seconds:5.1f} s, at most {outcome.most_attempts} attempts, answers {outcome.answers}, "
            f"{len(outcome.violations)} violations",
            flush=True,
        )
        for line in outcome.violations:
            print(f"    {line}", flush=True)
        outcomes.append(outcome)
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
