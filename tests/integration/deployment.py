"""The services of compose.yaml outside containers: its commands and variables, secrets as files, one account a role."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import yaml

from deploy import make_secrets
from tests.ports import free_port
from tests.rabbitmq_node import RabbitMQNode
from tests.stack import ROOT

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
# What compose mounts beside models and secrets.
MOUNTED = {"/sinks.yaml": str(ROOT / "deploy" / "sinks.yaml")}
# What the image sets, and a place for each path inside it.
DOCKERFILE = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MODEL_STORE": str(ROOT / "models_store")}


class Deployment:
    """Processes as compose would start them, on a broker and a database of the test's own."""

    def __init__(self, folder: Path, node: RabbitMQNode, database_url: str) -> None:
        self.folder = folder
        self.node = node
        self.ports = {"8000": str(free_port()), "5555": str(free_port())}
        self.role = f"inference_app_{uuid4().hex[:12]}"
        self._database_url = database_url
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for path in self.secrets.glob("broker_url_*"):
            self._rewrite(path.name, path.read_text().replace(make_secrets.RABBITMQ, f"127.0.0.1:{node.port}"))
        self._rewrite("database_url_owner", database_url)
        server = urlsplit(database_url)
        password = urlsplit((self.secrets / "database_url_app").read_text()).password
        address = server._replace(netloc=f"{self.role}:{password}@{server.hostname}:{server.port}")
        self._rewrite("database_url_app", urlunsplit(address))

    @property
    def secrets(self) -> Path:
        """Where the secrets lie; `definitions_for` made them."""
        return self.folder / "secrets"

    @property
    def portal_url(self) -> str:
        """Where the portal listens."""
        return f"http://127.0.0.1:{self.ports['8000']}"

    @property
    def flower_url(self) -> str:
        """Where Flower listens."""
        return f"http://127.0.0.1:{self.ports['5555']}"

    def broker_url(self, account: str) -> str:
        """Return an account's address."""
        return (self.secrets / f"broker_url_{account.replace('-', '_')}").read_text()

    def run(self, service: str, command: list[str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a service's command, or another one in its environment, to its end."""
        return subprocess.run(
            command or shlex.split(SERVICES[service]["command"]),
            cwd=ROOT,
            env=self.environment(service),
            capture_output=True,
            text=True,
            timeout=120,
            **options,
        )

    def start(self, *services: str) -> None:
        """Start services in the background."""
        for service in services:
            with self.log_path(service).open("ab") as log:
                self._running[service] = subprocess.Popen(
                    shlex.split(SERVICES[service]["command"]),
                    cwd=ROOT,
                    env=self.environment(service),
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def stop(self, service: str) -> int:
        """Stop a service as compose does; return its exit status."""
        process = self._running.pop(service)
        process.terminate()
        try:
            return process.wait(40)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def freeze(self, service: str, number: signal.Signals) -> None:
        """Send SIGSTOP or SIGCONT to a service."""
        self._running[service].send_signal(number)

    def health(self, service: str) -> subprocess.CompletedProcess[str]:
        """Run a service's health check."""
        test = [self._adapt(part) for part in SERVICES[service]["healthcheck"]["test"][1:]]
        return self.run(service, test)

    def log_path(self, service: str) -> Path:
        """Where a service's output goes."""
        return self.folder / f"{service}.log"

    def environment(self, service: str) -> dict[str, str]:
        """Return what compose would set, with this machine's places."""
        inside = MOUNTED | {
            f"/run/secrets/{entry if isinstance(entry, str) else entry['target']}": str(
                self.secrets / (entry if isinstance(entry, str) else entry["source"])
            )
            for entry in SERVICES[service].get("secrets", [])
        }
        values = {
            name: inside.get(value, self._adapt(value))
            for name, value in SERVICES[service].get("environment", {}).items()
            if value is not None
        }
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        home = {"PATH": path, "HOME": "/nonexistent", "RUN_DIR": str(self.folder / "run")}
        listen = {"GRANIAN_HOST": "127.0.0.1"} if "GRANIAN_HOST" in values else {}
        return home | DOCKERFILE | values | listen | {"FLOWER_ADDRESS": "127.0.0.1"}

    def __enter__(self) -> "Deployment":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for service in list(self._running):
            self.freeze(service, signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop(service)
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [self.role]).fetchone():
                connection.execute(f'DROP OWNED BY "{self.role}"')
                connection.execute(f'DROP ROLE "{self.role}"')

    def _adapt(self, text: str) -> str:
        text = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)
        for inside, outside in self.ports.items():
            text = re.sub(rf"\b{inside}\b", outside, text)
        return text

    def _rewrite(self, name: str, text: str) -> None:
        path = self.secrets / name
        path.chmod(0o600)
        path.write_text(text)
        path.chmod(make_secrets.FILE_MODE)


@contextlib.contextmanager
def broker_with_accounts(folder: Path) -> Iterator[RabbitMQNode]:
    """Make the secrets in `folder` and run a node that has loaded its definitions, with compose's own settings."""
    make_secrets.make(folder / "secrets")
    lines = (ROOT / "deploy" / "rabbitmq.conf").read_text().splitlines()
    settings = dict(line.split(" = ", 1) for line in lines if line and not line.startswith("#"))
    settings["load_definitions"] = str(folder / "secrets" / "rabbitmq_definitions.json")
    with RabbitMQNode(folder / "node", settings) as node:
        yield node
