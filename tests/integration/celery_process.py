"""Single Celery processes as the supervisor would start them, on the broker of the test and on its database."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from celery import Celery
from django.conf import settings

from tests.integration import rows
from tests.stack import ROOT, wait_for
from workers import topology
from workers.contract import BundleResult, Heartbeat

# These machines are slow at times.
PATIENCE_SECONDS = 180.0


class CeleryProcess:
    """A running `celery worker`: its parent process and its log."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self._log = log

    def log(self) -> str:
        """Return the end of what it said, for a failure's message."""
        return self._log.read_text(errors="replace")[-6000:]

    def children(self) -> list[psutil.Process]:
        """Return its children, which run the models."""
        return psutil.Process(self.process.pid).children()

    def lives(self) -> bool:
        """Tell whether it is still the process that was started."""
        return self.process.poll() is None


@contextmanager
def celery_process(app: str, queue: str, log: Path, **variables: str) -> Iterator[CeleryProcess]:
    """Run one Celery worker with one child, in the test's environment and with these variables."""
    command = [sys.executable, "-m", "celery", "-A", app, "worker", "-n", f"{log.stem}@%h", "-Q", queue, "-c", "1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--without-gossip", "--without-mingle"],
            cwd=ROOT,
            env=os.environ | variables,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield CeleryProcess(process, log)
    finally:
        # Whatever it was doing: the whole session, its children too.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@contextmanager
def worker(folder: Path, queue: str = "inference.cpu", **variables: str) -> Iterator[CeleryProcess]:
    """Run a worker of models. Its run folder is `run` in `folder`, as the embedded broker of the test has it."""
    (folder / "run").mkdir(exist_ok=True)
    variables.setdefault("RUN_DIR", str(folder / "run"))
    with celery_process("workers.app", queue, folder / "worker.log", **variables) as running:
        yield running


@contextmanager
def recorder(folder: Path) -> Iterator[CeleryProcess]:
    """Run the recorder, on the test's database."""
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        url = f"sqlite:///{database['NAME']}"
    else:
        url = f"postgres://{database['USER']}@{database['HOST']}:{database['PORT']}/{database['NAME']}"
    secret = "only-for-this-test-run-" + "x" * 40
    queues = topology.RECORDER
    with celery_process(
        "inference_portal.celery",
        queues,
        folder / "recorder.log",
        DATABASE_URL=url,
        DJANGO_SECRET_KEY=secret,
        DJANGO_SETTINGS_MODULE="inference_portal.settings",
    ) as running:
        yield running


class Reports:
    """What workers have sent to the recorder, read in its place."""

    def __init__(self, app: Celery, process: CeleryProcess) -> None:
        self._app = app
        self._process = process
        self.results: list[BundleResult] = []
        self.heartbeats: list[Heartbeat] = []

    def read(self) -> None:
        """Take everything out of the queue."""
        for message in rows.drain(self._app, topology.RECORDER):
            if "outcomes" in message:
                self.results.append(BundleResult.from_message(message))
            elif "sent" in message:
                self.heartbeats.append(Heartbeat.from_message(message))

    def result(self, bundle: str, seconds: float = PATIENCE_SECONDS) -> BundleResult:
        """Wait for the result of a bundle."""

        def came() -> bool:
            self.read()
            return any(result.bundle == bundle for result in self.results)

        wait_for(came, seconds, lambda: f"no result of {bundle}\n{self._process.log()}")
        return next(result for result in self.results if result.bundle == bundle)

    def heartbeat(self) -> Heartbeat:
        """Wait for the next heartbeat."""
        seen = len(self.heartbeats)

        def came() -> bool:
            self.read()
            return len(self.heartbeats) > seen

        wait_for(came, PATIENCE_SECONDS, lambda: f"no heartbeat\n{self._process.log()}")
        return self.heartbeats[-1]
