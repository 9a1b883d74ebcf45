"""`python -m tests.chaos.run`: the whole system under load while processes and servers are killed at random."""

import argparse
import json
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import checker, evidence, ledger, samples
from tests.chaos.asks import mixed
from tests.chaos.load import Load, moments
from tests.chaos.monkey import SERVER_EVERY, Blow, Monkey, plan
from tests.chaos.progress import Progress
from tests.chaos.recovery import Spread, as_json, recovery
from tests.chaos.system import STACKS, System, running_system

# Between two blows: a process needs about as long to start again.
BLOW_SECONDS = 1.8
# After the last blow: every job is final by then.
PATIENCE_SECONDS = 120.0
# On the full stack longer than a job waits behind all that is killed, frozen and slow, so that a lease ends only for a
# message that was lost. The embedded broker forgets what a killed process had taken: there the lease is the way back.
LEASE_SECONDS = {"full": 120.0, "embedded": 45.0}
CLAIM_SECONDS = 5.0
TEAMS = 3
# As the models are shipped.
ATTEMPTS = 3
BACKOFF_SECONDS = 1.0


@dataclass(frozen=True)
class Report:
    """What a run has shown."""

    seed: int
    kind: str
    accepted: int
    refused: int
    broken: int
    blows: list[Blow]
    seconds: float
    settled: float
    rows: int
    kinds: Counter[str]
    ends: Counter[str]
    # Of one job, the most failures that its model's policy has counted.
    most_failures: int
    attempts: Counter[str]
    recovery: dict[str, Spread]
    violations: list[str]

    @property
    def struck(self) -> Counter[tuple[str, str]]:
        """How often each victim was hit, by the act."""
        return Counter((blow.victim, blow.act) for blow in self.blows if blow.struck is not None)

    def text(self) -> str:
        """Return the report for people."""
        kills = sum(blow.kills for blow in self.blows if blow.struck is not None)
        hits = ", ".join(f"{count} × {victim} {act}" for (victim, act), count in sorted(self.struck.items()))
        failed, kinds, ends = (
            ", ".join(f"{count} × {what}" for what, count in counted.most_common()) or "none"
            for counted in (self.attempts, self.kinds, self.ends)
        )
        lines = [
            f"seed {self.seed}, {self.kind} stack: {self.accepted} jobs accepted in {self.seconds:.0f} s",
            f"  {kills} kills, {self.struck.total() - kills} freezes: {hits}",
            f"  requests not accepted: {self.refused} refused, {self.broken} broken; {self.rows} rows in the database",
            f"  asked for: {kinds}",
            f"  ended: {ends}",
            f"  failed attempts: {failed}; counted for one job at most {self.most_failures} of {ATTEMPTS}",
            f"  all jobs final {self.settled:.1f} s after the last blow",
            *(f"  {name}: {spread}" for name, spread in self.recovery.items()),
            *(f"VIOLATION {line}" for line in self.violations),
            f"{len(self.violations)} violations",
        ]
        return "\n".join(lines)

    def as_json(self) -> str:
        """Return the figures as one line of JSON."""
        figures = {
            "seed": self.seed,
            "stack": self.kind,
            "accepted": self.accepted,
            "refused": self.refused,
            "broken": self.broken,
            "blows": {f"{victim}: {act}": count for (victim, act), count in sorted(self.struck.items())},
            "seconds": round(self.seconds, 1),
            "settled": round(self.settled, 1),
            "rows": self.rows,
            "asked_for": dict(self.kinds),
            "ended": dict(self.ends),
            "failed_attempts": dict(self.attempts),
            "most_failures": self.most_failures,
            "recovery": as_json(self.recovery),
            "violations": self.violations,
        }
        return json.dumps(figures)


def random_run(
    *,
    seed: int,
    jobs: int,
    blows: int,
    seconds: float,
    server_every: int = SERVER_EVERY,
    kind: str = "full",
    show: bool = False,
    folder: Path | None = None,
) -> Report:
    """Run the system for so long under so many jobs and blows, let it come to rest, and check everything.

    On the full stack dispatcher and recorder are there twice.
    """
    leases = {"LEASE_SECONDS": str(LEASE_SECONDS[kind]), "CLAIM_SECONDS": str(CLAIM_SECONDS)}
    planned = plan(seed, blows, seconds, server_every=server_every if kind == "full" else 0)
    policy = {"attempts": ATTEMPTS, "backoff_seconds": BACKOFF_SECONDS}
    with running_system(kind, teams=TEAMS, doubled=True, folder=folder, **policy, **leases) as system:
        return _under_fire(system, planned, seed, jobs, seconds, kind, Progress(show=show))


def _under_fire(
    system: System, planned: list[Blow], seed: int, jobs: int, seconds: float, kind: str, progress: Progress
) -> Report:
    start = time.monotonic()
    monkey = Monkey(system, planned, seed)

    def tick() -> None:
        progress.tell(f"{load.accepted}/{jobs} jobs, {monkey.struck}/{len(planned)} blows")

    times = moments(seed, jobs, seconds, [blow.after for blow in planned])
    with Load(system, times, mixed(seed, jobs, len(system.keys))) as load:
        monkey.run(tick)
        end = time.monotonic() + PATIENCE_SECONDS
        while not load.is_done and time.monotonic() < end:
            load.wait(0.2)
            tick()
    lasted = time.monotonic() - start
    found = [*load.violations, *monkey.violations]
    if load.accepted < jobs:
        found.append(f"refused: only {load.accepted} of {jobs} jobs were accepted")
    settled = evidence.wait_until_final(system.database, PATIENCE_SECONDS)
    progress.end()
    seen = system.evidence()
    return Report(
        seed=seed,
        kind=kind,
        accepted=load.accepted,
        refused=load.refused,
        broken=load.broken,
        blows=planned,
        seconds=lasted,
        settled=settled,
        rows=len(seen.jobs),
        kinds=load.kinds,
        ends=Counter(job.state for job in seen.jobs.values()),
        most_failures=max((job.failures for job in seen.jobs.values()), default=0),
        attempts=Counter(attempt.code for attempt in seen.attempts),
        recovery=recovery(planned, list(ledger.read(system.ledger_path)), seen.effects),
        violations=[
            *found,
            *checker.violations(seen, samples.expected, broker_alone=kind == "full"),
            *system.stop(),
        ],
    )


def main() -> int:
    """Read the command line, run, print, and tell by the exit status whether all promises were kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=300, help="blows, of which a quarter are freezes")
    parser.add_argument("--seconds", type=float, help=f"how long the blows go on (default: {BLOW_SECONDS} a blow)")
    parser.add_argument("--stack", choices=STACKS, default="full")
    parser.add_argument("--folder", type=Path, help="keep logs and data here")
    parser.add_argument("--report", type=Path, help="append the figures to this file, as a line of JSON")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"seed {options.seed}", flush=True)
    try:
        report = random_run(
            seed=options.seed,
            jobs=options.jobs,
            blows=options.kills,
            seconds=options.seconds or BLOW_SECONDS * options.kills,
            kind=options.stack,
            show=True,
            folder=options.folder,
        )
    except KeyboardInterrupt:
        print("\nstopped; nothing was checked")
        return 130
    print(report.text())
    if options.report:
        with options.report.open("a") as file:
            file.write(report.as_json() + "\n")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
