"""`python -m tests.chaos.deliveries`: couriers and recorders are killed at random while results go to a receiver.

Each job names the receiver as its webhook. What it has on disk is compared with the jobs that were accepted: every end
must have come, under one id, with one body.
"""

import argparse
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos import samples, victims
from tests.chaos.evidence import query
from tests.chaos.progress import Progress
from tests.chaos.receiver import received, receiving
from tests.chaos.system import running_system
from tests.stack import Stack, wait_for

# Half of the kills are the courier's.
VICTIMS = {"courier": 2, "recorder": 1, "recorder child": 1}
VARIABLES = {"WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8", "WEBHOOK_TIMEOUT_SECONDS": "3"}
MODEL = "wine"
# Between something that has arrived and the kill.
MOST_SECONDS = 0.5
# For a killed process to be there again, and to get something through.
BACK_WITHIN_SECONDS = 120.0
# After the last kill: a lease, and the pauses between some tries.
PATIENCE_SECONDS = 300.0
MOST_OF_A_BULK = 500


@dataclass(frozen=True)
class Report:
    """What a run has shown."""

    seed: int
    deliveries: int
    kills: Counter[str]
    # Events that never came, the most ids under which one came, and how often one came again.
    missing: int
    most_ids: int
    repeats: int
    seconds: float
    violations: list[str]

    def text(self) -> str:
        """Return the report for people."""
        hits = ", ".join(f"{count} × {victim}" for victim, count in sorted(self.kills.items()))
        return "\n".join(
            [
                f"seed {self.seed}: {self.deliveries} deliveries, {self.kills.total()} kills ({hits}),"
                f" {self.seconds:.0f} s",
                f"  events missing: {self.missing}; ids per event: {self.most_ids}; repeats: {self.repeats}",
                *(f"VIOLATION {line}" for line in self.violations[:20]),
                f"{len(self.violations)} violations",
            ]
        )

    def as_json(self) -> str:
        """Return the figures as one line of JSON."""
        return json.dumps({**self.__dict__, "kills": dict(self.kills), "seconds": round(self.seconds, 1)})


def killed_run(
    stack: Stack, database: str, log: Path, *, seed: int, deliveries: int, kills: int, tell: Callable[[str], None]
) -> Report:
    """Submit so many jobs, kill meanwhile, wait until everything has been delivered, and check what has come."""
    chance = random.Random(seed)
    names, weights = list(VICTIMS), list(VICTIMS.values())
    planned = chance.choices(names, weights, k=kills)
    jobs: list[str] = []
    begun = time.monotonic()
    with receiving(log) as url:
        for number, victim in enumerate([*planned, None]):
            seen = len(received(log))
            jobs += _submit(stack, url, deliveries * (number + 1) // (kills + 1) - len(jobs))
            tell(f"{len(jobs)}/{deliveries} jobs, {number}/{kills} kills, {seen} calls")
            if victim is not None:
                # Who has done nothing yet since it was started again is not killed: it would be no new window.
                wait_for(lambda seen=seen: len(received(log)) > seen, BACK_WITHIN_SECONDS, stack.logs)
                time.sleep(chance.uniform(0.0, MOST_SECONDS))
                _kill(stack, victim, chance)
        wait_for(lambda: _open(database) == 0, PATIENCE_SECONDS, stack.logs)
    seconds = time.monotonic() - begun
    return _report(seed, Counter(planned), jobs, received(log), query(database, _LEDGER), seconds)


_LEDGER = "SELECT job_id::text, event_id, state FROM deliveries_delivery WHERE job_id IS NOT NULL"


def _open(database: str) -> int:
    sql = (
        "SELECT (SELECT count(*) FROM jobs_job WHERE finished_at IS NULL)"
        " + (SELECT count(*) FROM deliveries_delivery WHERE finished_at IS NULL)"
    )
    ((count,),) = query(database, sql)
    return int(count)


def _submit(stack: Stack, url: str, count: int) -> list[str]:
    """Have jobs accepted that name the receiver. Returns their ids."""
    ids: list[str] = []
    while len(ids) < count:
        rows = samples.numbers(MODEL, len(ids), min(MOST_OF_A_BULK, count - len(ids))).tolist()
        answer = stack.client.post(
            "/api/jobs/bulk/", json={"jobs": [{"model": MODEL, "rows": [row], "webhook": url} for row in rows]}
        )
        assert answer.status_code == 200, answer.text
        results = answer.json()["results"]
        assert {each["status"] for each in results} == {202}, results
        ids += [each["Id"] for each in results]
    return ids


def _kill(stack: Stack, victim: str, chance: random.Random) -> None:
    found: list[Any] = []

    def is_there() -> bool:
        found[:] = victims.processes(stack)[victim]
        return bool(found)

    wait_for(is_there, BACK_WITHIN_SECONDS, stack.logs)
    chance.choice(found).kill()


def _report(
    seed: int,
    kills: Counter[str],
    jobs: list[str],
    calls: list[tuple[str, str]],
    ledger: list[tuple[Any, ...]],
    seconds: float,
) -> Report:
    ids: dict[str, set[str]] = {job: set() for job in jobs}
    digests: dict[str, set[str]] = {}
    violations = []
    for event_id, digest in calls:
        job = event_id.removeprefix("job-").rpartition("-")[0]
        if job not in ids:
            violations.append(f"made up: {event_id} tells of no job that was accepted")
            continue
        ids[job].add(event_id)
        digests.setdefault(event_id, set()).add(digest)
    violations += [f"missing: the end of job {job} never came" for job, found in ids.items() if not found]
    violations += [f"several ids: job {job}: {sorted(found)}" for job, found in ids.items() if len(found) > 1]
    violations += [f"several bodies: {event_id}" for event_id, found in digests.items() if len(found) > 1]
    rows = {job: (event_id, state) for job, event_id, state in ledger if job in ids}
    if len(rows) != len(jobs) or sum(job in ids for job, *_ in ledger) != len(jobs):
        violations.append(f"ledger: {len(rows)} jobs have a delivery, expected one for each of {len(jobs)}")
    violations += [
        f"ledger: job {job}: {event_id} is {state}, and {sorted(ids[job])} has come"
        for job, (event_id, state) in rows.items()
        if state != "delivered" or ids[job] != {event_id}
    ]
    return Report(
        seed=seed,
        deliveries=len(jobs),
        kills=kills,
        missing=sum(not found for found in ids.values()),
        most_ids=max(len(found) for found in ids.values()),
        repeats=len(calls) - len(set(calls)),
        seconds=seconds,
        violations=violations,
    )


def main() -> int:
    """Read the command line, run, print, and tell by the exit status whether every event came under one id."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--deliveries", type=int, default=2_000)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--folder", type=Path, help="keep logs and data here")
    parser.add_argument("--report", type=Path, help="append the figures to this file, as a line of JSON")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"seed {options.seed}", flush=True)
    progress = Progress()
    with running_system(folder=options.folder, **VARIABLES) as system:
        report = killed_run(
            system.stack,
            system.database,
            system.stack.folder / "received",
            seed=options.seed,
            deliveries=options.deliveries,
            kills=options.kills,
            tell=progress.tell,
        )
    progress.end()
    print(report.text())
    if options.report:
        with options.report.open("a") as file:
            file.write(report.as_json() + "\n")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
