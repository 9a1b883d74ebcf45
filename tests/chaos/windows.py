"""`python -m tests.chaos.windows`: a process is killed in every window between two steps, each of them many times.

The windows are found in the source, so that none is forgotten: every place that calls `failpoint`.
"""

import argparse
import json
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

from kombu import Connection

from tests.chaos import evidence, ledger
from tests.chaos.asks import mixed
from tests.chaos.load import Load
from tests.chaos.progress import Progress
from tests.chaos.system import STACKS, System, running_system
from tests.stack import ROOT
from workers import topology
from workers.contract import INFER, Bundle, JobItem

JOBS_A_SECOND = 10.0
TEAMS = 2
# For all windows together: seconds to start with, and for each time that each of them shall fire.
START_SECONDS = 90.0
WINDOW_SECONDS = 4.0
PATIENCE_SECONDS = 120.0
# No lease ends unless a message is lost; a claim ends soon, so that a dead dispatcher's jobs go on.
LEASES = {"LEASE_SECONDS": "120", "CLAIM_SECONDS": "2"}
LOOK_SECONDS = 1.0
# How many passes of a hundred a window lets end in a kill, so that work goes on between two of them: what is passed
# rarely is hit more often.
PERCENT = {
    "burial": 50,
    "sweep": 25,
    "rerun": 50,
    "worker.loading": 25,
    "worker.before_report": 100,
    "worker.after_report": 100,
}
USUAL_PERCENT = 10


# Of batches and of deliveries, which no job goes through: their own tests kill there (`tests/unit/steps`,
# `tests/integration/test_batches_crashes.py`, `test_courier_process.py`, `test_subscribers.py`).
ELSEWHERE = (
    "batches.",
    "courier.",
    "announcer.",
    *(f"worker.{when}_{what}" for when in ("before", "after") for what in ("part", "merged")),
)


def windows() -> list[str]:
    """Return the names of all failpoints in the source on the way of a job."""
    sources = [path for folder in ("inference_portal", "workers") for path in sorted((ROOT / folder).rglob("*.py"))]
    found = {name for path in sources for name in re.findall(r'failpoint\("([\w.]+)"', path.read_text())}
    return sorted(name for name in found if not name.startswith(ELSEWHERE))


def fired(run_dir: Path, window: str) -> int:
    """Return how often a window has fired."""
    return len(list(run_dir.glob(f"failpoint.{window}.*")))


def kill_in_windows(
    names: Sequence[str],
    times: int,
    *,
    action: str = "kill",
    besides: str = "",
    kind: str = "full",
    folder: Path | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> list[str]:
    """Open each of these windows so often, in one system under load, `besides` other failpoints. Returns violations.

    The load is a mix, so that what only a rerun passes is passed too.
    """
    failpoints = ",".join([*(f"{name}={action}*{times}%{_percent(name)}" for name in names), *filter(None, [besides])])
    with running_system(kind, teams=TEAMS, folder=folder, FAILPOINTS=failpoints, **LEASES) as system:
        seconds = START_SECONDS + WINDOW_SECONDS * times * len(names)
        letters = DeadLetters(system) if any(name.startswith("burial.") for name in names) else None
        moments = [n / JOBS_A_SECOND for n in range(int(seconds * JOBS_A_SECOND))]
        with Load(system, moments, mixed(0, len(moments), TEAMS)) as load:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                counts = {name: fired(system.stack.folder, name) for name in names}
                missing = ", ".join(name for name, count in counts.items() if count < times)
                tell(f"{sum(counts.values())} of {times * len(names)}; still to come: {missing}")
                if all(count == times for count in counts.values()):
                    break
                if letters is not None and any(counts[n] < times for n in names if n.startswith("burial.")):
                    letters.send()
                time.sleep(LOOK_SECONDS)
        found = [
            f"not opened: the window {name} fired {fired(system.stack.folder, name)} times, not {times}"
            for name in names
            if fired(system.stack.folder, name) != times
        ]
        garbage = letters.garbage if letters else 0
        found += load.violations
        found += system.check(PATIENCE_SECONDS, broker_alone=kind == "full", parked=garbage)
        return found + system.stop()


def _percent(window: str) -> int:
    return next((percent for name, percent in PERCENT.items() if window.startswith(name)), USUAL_PERCENT)


class DeadLetters:
    """Puts messages where RabbitMQ puts what it has given up."""

    def __init__(self, system: System) -> None:
        self.garbage = 0
        self._system = system

    def send(self) -> None:
        """Send the bundle of the job that was accepted last, and something that nobody can read."""
        assert self._system.node is not None
        # Without the broker's word some of them would be lost here.
        options = {"confirm_publish": True}
        with (
            Connection(self._system.node.url(), transport_options=options) as connection,
            connection.Producer() as producer,
        ):
            kept = [entry for entry in ledger.read(self._system.ledger_path) if entry.keeps_result]
            for entry in kept[-1:]:
                headers = {"task": INFER, "id": str(uuid4())}
                body = [[self._bundle(str(entry.id))], {}, {}]
                producer.publish(body, serializer="json", headers=headers, exchange=topology.DEAD, routing_key="x")
            text = f"nobody can read this: {uuid4()}"
            producer.publish(text, serializer=None, exchange=topology.DEAD, routing_key="x")
            self.garbage += 1

    def _bundle(self, job: str) -> dict[str, object]:
        columns = "model, version, sha256, attempt, rows, input"
        sql = f"SELECT {columns} FROM jobs_job WHERE id = '{job}'"
        ((model, version, sha256, attempt, rows, data),) = evidence.query(self._system.database, sql)
        bundle = Bundle(
            id=str(uuid4()),
            model=model,
            version=version,
            sha256=sha256,
            columns=len(data) // 4 // rows,
            jobs=(JobItem(job, attempt, rows),),
            data=bytes(data),
        )
        return bundle.to_message()


def main() -> int:
    """Open all windows, print what happened, and tell by the exit status whether all promises were kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--stack", choices=STACKS, default="full")
    parser.add_argument("--action", default="kill", help="or stop:<seconds>")
    parser.add_argument("--only", nargs="*", help="these windows only")
    parser.add_argument("--folder", type=Path, help="keep logs and data here")
    parser.add_argument("--report", type=Path, help="append the figures to this file, as a line of JSON")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    names = options.only or windows()
    start = time.monotonic()
    progress = Progress()
    found = kill_in_windows(
        names, options.times, action=options.action, kind=options.stack, folder=options.folder, tell=progress.tell
    )
    progress.end()
    seconds = time.monotonic() - start
    for line in found:
        print(f"VIOLATION {line}")
    what = f"{len(names)} windows, {options.times} times each, {options.action}"
    print(f"{what}: {len(found)} violations, {seconds:.0f} s")
    if options.report:
        figures = {
            "action": options.action,
            "times": options.times,
            "windows": list(names),
            "seconds": round(seconds, 1),
            "violations": found,
        }
        with options.report.open("a") as file:
            file.write(json.dumps(figures) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
