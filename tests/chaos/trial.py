"""One fault, or many, under a light load, and what came of it."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import psycopg

from tests import services
from tests.chaos import checker, effects, evidence, ledger, samples
from tests.chaos.broken import DELAY_SECONDS, Effect, Fault
from tests.chaos.servers import DATABASE, Servers
from tests.chaos.submitters import Submission, Submitters
from tests.stack import Stack, running

QUIET_SECONDS = 2.0
# After a fault's end: for the first answer without a refusal, and for the end of everything.
ANSWERS_AGAIN_SECONDS = 15.0
PATIENCE_SECONDS = 240.0
# What the log of effects may need while the disk is full.
EFFECTS_ROOM = 20_000


@dataclass(slots=True)
class Outcome:
    """What one fault did."""

    fault: str
    accepted: int = 0
    # Answers by status; 0: none came.
    answers: dict[int, int] = field(default_factory=dict)
    # Of the fault itself, until the server was whole again.
    fault_seconds: float = 0.0
    # From its end until everything that had been accepted by then was final.
    recovery_seconds: float = 0.0
    most_attempts: int = 0
    violations: list[str] = field(default_factory=list)


class Ground:
    """A running system on servers that can be broken, with a ledger beside it."""

    def __init__(self, folder: Path, stack: Stack, servers: Servers) -> None:
        self.stack, self.servers = stack, servers
        self._ledger_path = folder / "ledger"
        # Each is told once.
        self._told: set[str] = set()

    def trial(self, name: str, fault: Fault, *, clients: int = 2, quiet: float = QUIET_SECONDS) -> Outcome:
        """Let the fault hit, wait until all is final, and check everything."""
        with ledger.Ledger(self._ledger_path) as book:
            with Submitters(self.stack, book, clients=clients) as load:
                time.sleep(quiet)
                begin = time.time()
                with fault.broken(self.servers):
                    broken = time.time()
                    time.sleep(fault.seconds)
                    healing = time.time()
                end = time.time()
                recovery = self._wait_until_final(end)
                time.sleep(quiet)
            self._wait_until_final(time.time())
        found = evidence.collect(ledger.read(self._ledger_path), self.servers.direct_database_url, self.servers.node)
        violations = [
            *checker.violations(found, samples.expected),
            *_refusals(load.submissions, fault, end),
            *_without_effect(load.submissions, fault, (begin, broken, healing, end), found),
        ]
        new = [line for line in violations if line not in self._told]
        self._told.update(new)
        ids = {submission.id for submission in load.submissions if submission.id is not None}
        return Outcome(
            fault=name,
            accepted=len(ids),
            answers=dict(Counter(submission.status for submission in load.submissions)),
            fault_seconds=round(end - begin, 1),
            recovery_seconds=round(recovery, 1),
            most_attempts=max((found.jobs[job].attempt for job in ids if job in found.jobs), default=0),
            violations=new,
        )

    def _wait_until_final(self, accepted_before: float) -> float:
        """Return after how many seconds nothing was open any more that had been accepted before that time."""
        start = time.monotonic()
        sql = "SELECT count(*) FROM jobs_job WHERE finished_at IS NULL AND accepted_at < to_timestamp(%s)"
        with psycopg.connect(self.servers.direct_database_url, autocommit=True) as connection:
            while time.monotonic() - start < PATIENCE_SECONDS:
                if connection.execute(sql, [accepted_before]).fetchone() == (0,):
                    break
                time.sleep(0.05)
        return time.monotonic() - start


@contextlib.contextmanager
def ground(folder: Path, *, disks: bool = False, **variables: str) -> Iterator[Ground]:
    """Start servers and system in the folder; variables are its environment. Nothing runs afterwards."""
    # PostgreSQL runs as a user of its own, who must be able to pass.
    folder.chmod(0o711)
    store = samples.store_copy(folder / "store", timeout_seconds=5.0)
    with Servers(folder, disks=disks) as servers:
        services.make_database(servers.postgres.url, DATABASE)
        stack = Stack(
            folder / "run",
            database_url=servers.database_url,
            broker_url=servers.broker_url,
            MODEL_STORE=str(store),
            **variables,
        )
        with running(stack):
            effects.install(servers.direct_database_url)
            _make_room(servers.direct_database_url)
            yield Ground(folder, stack, servers)


def _make_room(database: str) -> None:
    """Give the log of effects free pages, so that it goes on when the disk is full."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ALTER TABLE chaos_effect SET (vacuum_truncate = off)")
        connection.execute(
            "INSERT INTO chaos_effect (job, attempt, old_state, new_state, written)"
            " SELECT gen_random_uuid(), 1, 'queued', 'succeeded', 0 FROM generate_series(1, %s)",
            [EFFECTS_ROOM],
        )
        connection.execute("DELETE FROM chaos_effect")
        connection.execute("VACUUM chaos_effect")


def _refusals(submissions: list[Submission], fault: Fault, end: float) -> Iterator[str]:
    for submission in submissions:
        what = f"{submission.status or 'no answer'} {submission.detail} {submission.sent - end:+.1f} s from its end"
        if submission.status == 202:
            continue
        if not fault.may_refuse:
            yield f"refused: only the broker was hit, and a submission got {what}"
        elif submission.status not in (0, 503):
            yield f"refused: a submission got {what}"
        elif submission.sent > end + ANSWERS_AGAIN_SECONDS:
            yield f"refused: long after the fault a submission got {what}"
        elif submission.status == 503 and not submission.retry_after:
            yield "refused: a 503 without Retry-After"


def _without_effect(
    submissions: list[Submission], fault: Fault, times: tuple[float, float, float, float], found: checker.Evidence
) -> Iterator[str]:
    """Tell when the fault was not to be seen: then this trial has shown nothing."""
    begin, broken, healing, end = times
    ended = {effect.job: effect.written for effect in found.effects}
    accepted = [s for s in submissions if s.id is not None and broken + fault.grace < s.sent < healing - 0.5]

    def missing(what: str) -> str:
        return f"no effect: the fault was to be seen by '{fault.effect}', and {what}"

    match fault.effect:
        case Effect.STALLS:
            if not accepted:
                yield missing("nothing was accepted meanwhile")
            if early := [s.id for s in accepted if ended.get(_id(s), end) < healing]:
                yield missing(f"{len(early)} of {len(accepted)} ended")
        case Effect.REFUSES:
            # A refusal may take a while: what was sent before counts too.
            waited = [s for s in submissions if s.answered > broken + fault.grace and s.sent < healing - 0.5]
            if not waited:
                yield missing("nothing was submitted meanwhile")
            if early := [s.id for s in waited if s.status == 202 and s.answered < healing]:
                yield missing(f"{len(early)} of {len(waited)} were accepted")
        case Effect.DISTURBS:
            if all(s.status == 202 for s in submissions if begin < s.answered):
                yield missing("every submission was accepted")
        case Effect.SLOWS:
            seconds = [ended[_id(s)] - s.sent for s in accepted if _id(s) in ended]
            if not seconds or min(seconds) < DELAY_SECONDS:
                yield missing(f"the quickest of {len(seconds)} took {min(seconds, default=0):.2f} s")


def _id(submission: Submission) -> UUID:
    assert submission.id is not None
    return submission.id
