"""For each bug the shortest way to provoke it. Without the bug, the same keeps every promise.

Nothing here hangs on how fast the machine is: what must have happened is waited for, and what must not happen is given
far more time than it needs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from kombu import Connection

from tests.chaos import evidence, victims
from tests.chaos.load import Load
from tests.chaos.system import System, running_system
from tests.chaos.windows import fired
from tests.stack import wait_for
from workers import topology

FOLDER = Path(__file__).parent
JOBS = 10
ACCEPTED_WITHIN_SECONDS = 90.0
# What is right ends long before; only what is wrong may take so long.
PATIENCE_SECONDS = 300.0
# For what a bug lets happen and is seen from outside. Without the bug it doesn't, and all of this passes.
BUG_SECONDS = 10.0
# Between what a failpoint shows and what a process does next, such as an acknowledgement.
SOON_SECONDS = 4.0
# A lost message is seen when the lease is over, that is after LEASE_SECONDS and twice this model's time-out.
TIMEOUT_SECONDS = 2.0
# Longer than a worker takes to start again, and than one that is gone counts as alive.
LEASE_SECONDS = 30.0
CLAIM_SECONDS = 3.0


@dataclass(frozen=True)
class Scenario:
    """What is done to a running system, how the bug shows, and what the checker is told."""

    bug: str
    # How the checker's line about it begins.
    shows_as: str
    act: Callable[[System], None]
    failpoints: str = ""
    # With the bug, for what would never end.
    patience: float = PATIENCE_SECONDS
    lease: float = LEASE_SECONDS
    timeout: float = TIMEOUT_SECONDS
    attempts: int = 20
    declared: dict[str, Any] = field(default_factory=lambda: {"broker_alone": True})

    def run(self, *, with_bug: bool) -> list[str]:
        """Start a system of its own, with the bug or without, act, and return the violations."""
        leases = {"LEASE_SECONDS": str(self.lease), "CLAIM_SECONDS": str(CLAIM_SECONDS)}
        variables = {"FAILPOINTS": self.failpoints, **leases}
        if with_bug:
            variables |= {"CHAOS_BUG": self.bug, "PYTHONPATH": str(FOLDER)}
        with running_system(timeout_seconds=self.timeout, attempts=self.attempts, **variables) as system:
            self.act(system)
            return system.check(self.patience if with_bug else PATIENCE_SECONDS, **self.declared)


def submit(system: System, jobs: int = JOBS, seconds: float = 0.0) -> None:
    """Have so many jobs accepted, spread over so many seconds."""
    with Load(system, [number * seconds / jobs for number in range(jobs)]) as load:
        assert load.wait(seconds + ACCEPTED_WITHIN_SECONDS), "the portal didn't accept the jobs"
        assert load.violations == []


def freeze_the_broker_under_publishes_and_kill_it(system: System) -> None:
    """What was sent lies in a socket that nobody will ever read."""
    assert system.node is not None
    # The dispatcher has a connection then.
    submit(system, 1)
    evidence.wait_until_final(system.database, ACCEPTED_WITHIN_SECONDS)
    assert system.node._process is not None
    for process in psutil.Process(system.node._process.pid).children(recursive=True):
        # The virtual machine alone: its helpers are in groups of their own, and end when it does.
        if process.name().startswith("beam"):
            process.suspend()
    submit(system)
    wait_while_nothing_is_sent(system)
    system.node.kill9()
    system.node.start()


def unbind_the_workers_queue_for_a_while(system: System) -> None:
    """No queue takes what is published meanwhile."""
    (spec,) = (spec for spec in topology.TABLE if spec.name == "inference.cpu")
    assert system.node is not None
    with Connection(system.node.url()) as connection:
        connection.default_channel.queue_unbind(spec.name, spec.exchange, spec.routing_key)
        submit(system)
        wait_while_nothing_is_sent(system)
        connection.default_channel.queue_bind(spec.name, spec.exchange, spec.routing_key)


def wait_while_nothing_is_sent(system: System) -> None:
    """Wait until the dispatcher believes that a job which is still open was sent; only a bug makes it believe that."""
    end = time.monotonic() + BUG_SECONDS
    sent = "SELECT 1 FROM jobs_job WHERE sent_at IS NOT NULL AND finished_at IS NULL LIMIT 1"
    while time.monotonic() < end and not evidence.query(system.database, sent):
        time.sleep(0.1)


def kill_the_worker_once_it_has_run_something(system: System) -> None:
    """Kill its parent and its children at once, when it may have acknowledged what it has run."""
    submit(system)
    wait_for(lambda: fired(system.stack.folder, "worker.before_ack"), ACCEPTED_WITHIN_SECONDS, system.stack.logs)
    time.sleep(SOON_SECONDS)
    processes = victims.processes(system.stack)
    for process in [*processes["worker"], *processes["worker child"]]:
        process.kill()


def submit_one(system: System) -> None:
    """One job, so that it meets the failpoints in the order of its way."""
    submit(system, 1)


SCENARIOS = (
    Scenario("no-confirm", "lease", freeze_the_broker_under_publishes_and_kill_it),
    Scenario("no-mandatory", "lease", unbind_the_workers_queue_for_a_while),
    Scenario(
        "early-ack",
        "lease",
        submit_one,
        # The sleep gives the parent the time to acknowledge before it dies.
        failpoints=f"worker.received=sleep:{SOON_SECONDS:g},worker.before_predict=kill-parent",
        timeout=2.5 * SOON_SECONDS,
    ),
    Scenario("no-attempt-guard", "applied twice", submit, failpoints="recorder.after_commit=kill"),
    Scenario(
        "ack-before-publish",
        "lease",
        kill_the_worker_once_it_has_run_something,
        # To be seen there, no more.
        failpoints="worker.before_ack=sleep:0*1",
    ),
    Scenario("no-sweep", "stuck", submit, failpoints="dispatcher.after_claim=kill", patience=30.0),
    Scenario(
        "no-delivery-limit",
        "stuck",
        submit_one,
        failpoints="worker.received=kill-parent*1000",
        patience=120.0,
        # Else the lease would end it, as it ends everything.
        lease=600.0,
        attempts=1,
        declared={"broker_alone": True, "poison": True},
    ),
    # Only a child dies, which is soon replaced.
    Scenario("recorder-acks-early", "lease", submit, failpoints="recorder.before_commit=kill", lease=15.0),
)
