"""The whole system on servers of its own, which may be killed, with a ledger and the log of effects beside it."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import services
from tests.chaos import checker, effects, evidence, ledger, samples, victims
from tests.chaos.teams import team_key
from tests.postgres_server import PostgresServer
from tests.rabbitmq_node import RabbitMQNode
from tests.stack import START_SECONDS, Stack, running, wait_for

STACKS = ("full", "embedded")


@dataclass(frozen=True)
class System:
    """A running system and what belongs to it; the embedded one has no servers."""

    stack: Stack
    # An API key of each team that submits.
    keys: list[str]
    database: str
    node: RabbitMQNode | None
    postgres: PostgresServer | None
    ledger: ledger.Ledger
    ledger_path: Path

    def evidence(self) -> checker.Evidence:
        """Collect what the checker compares."""
        broker = self.node or self.stack.folder / "broker"
        return evidence.collect(ledger.read(self.ledger_path), self.database, broker)

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
    backoff_seconds: float = 0.1,
    teams: int = 1,
    doubled: bool = False,
    folder: Path | None = None,
    **variables: str,
) -> Iterator[System]:
    """Start a system of this kind (STACKS); variables are its environment. Nothing is left of it afterwards.

    Of `teams` the first is the demo one. `doubled` starts a second dispatcher and recorder (full stack only).
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
        store = samples.store_copy(
            folder / "store", timeout_seconds=timeout_seconds, attempts=attempts, backoff_seconds=backoff_seconds
        )
        node = postgres = None
        addresses = {}
        database = str(folder / "run" / "portal.sqlite3")
        if kind == "full":
            postgres = context.enter_context(PostgresServer(folder / "postgres"))
            node = context.enter_context(RabbitMQNode(folder / "rabbitmq"))
            database = f"{postgres.url}/inference"
            services.make_database(postgres.url, "inference")
            addresses = {"database_url": database, "broker_url": node.url()}
        stack = Stack(
            folder / "run", **addresses, doubled=doubled and kind == "full", MODEL_STORE=str(store), **variables
        )
        context.enter_context(running(stack))
        if stack.doubled:
            wait_for(lambda: len(victims.processes(stack)["recorder child"]) == 2, START_SECONDS, stack.logs)
        effects.install(database)
        path = folder / "ledger"
        book = context.enter_context(ledger.Ledger(path))
        keys = [stack.api_key, *(team_key(stack, f"team-{number}") for number in range(1, teams))]
        yield System(stack, keys, database, node, postgres, book, path)
