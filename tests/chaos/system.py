"""The whole system on servers of its own, which may be killed, with a ledger and the log of effects beside it."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos import checker, effects, evidence, ledger, samples
from tests.postgres_server import PostgresServer
from tests.rabbitmq_node import RabbitMQNode
from tests.stack import Stack, running

STACKS = ("full", "embedded")


@dataclass(frozen=True)
class System:
    """A running system and what belongs to it; the embedded one has no servers."""

    stack: Stack
    database: str
    broker: str
    node: RabbitMQNode | None
    postgres: PostgresServer | None
    ledger: ledger.Ledger
    ledger_path: Path

    def evidence(self) -> checker.Evidence:
        """Collect what the checker compares."""
        return evidence.collect(ledger.read(self.ledger_path), self.database, self.broker)

    def check(self, patience: float, **declared: Any) -> list[str]:
        """Wait until every job is final, at most `patience` seconds, and return the violations (see the checker)."""
        evidence.wait_until_final(self.database, patience)
        return checker.violations(self.evidence(), samples.expected, **declared)

    def stop(self) -> list[str]:
        """Stop everything as Ctrl-C does, and return the violations: what lives on."""
        self.stack.stop()
        return [
            f"left behind: process {process.pid} ({' '.join(process.cmdline())[:100]}) outlives the system"
            for process in self.stack.processes()
        ]


@contextlib.contextmanager
def running_system(
    kind: str = "full",
    *,
    timeout_seconds: float = 5.0,
    attempts: int = 20,
    folder: Path | None = None,
    **variables: str,
) -> Iterator[System]:
    """Start a system of this kind (STACKS); variables are its environment. Nothing is left of it afterwards.

    `folder` keeps logs and data for a look afterwards; else they are in a temporary folder that goes too.
    """
    with contextlib.ExitStack() as context:
        if folder is None:
            folder = Path(
                context.enter_context(tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True))
            )
        folder.mkdir(parents=True, exist_ok=True)
        # PostgreSQL runs as a user of its own, who must be able to pass.
        folder.chmod(0o711)
        store = samples.store_copy(folder / "store", timeout_seconds=timeout_seconds, attempts=attempts)
        node = postgres = None
        addresses = {}
        database, broker = str(folder / "run" / "portal.sqlite3"), str(folder / "run" / "broker")
        if kind == "full":
            postgres = context.enter_context(PostgresServer(folder / "postgres"))
            node = context.enter_context(RabbitMQNode(folder / "rabbitmq"))
            database, broker = f"{postgres.url}/inference", node.url()
            addresses = {"database_url": database, "broker_url": broker}
        stack = Stack(folder / "run", **addresses, MODEL_STORE=str(store), **variables)
        context.enter_context(running(stack))
        effects.install(database)
        path = folder / "ledger"
        book = context.enter_context(ledger.Ledger(path))
        yield System(stack, database, broker, node, postgres, book, path)
