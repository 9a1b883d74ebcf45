"""The whole system as its own processes, started as a user would start it, on its own port and folder."""

import configparser
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests import migrated
from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
# What may run twice.
DOUBLES = ("dispatcher", "recorder")
START_SECONDS = 180.0


class Stack:
    """`manage.py up` in a folder of its own; without a database and a broker, on the embedded ones.

    `doubled` adds a second dispatcher and a second recorder, under a supervisor of their own. `first` begins with
    nothing at all, as on a new machine; the others have a database with its tables in it (on PostgreSQL see
    `services.migrated_database`).
    """

    def __init__(
        self,
        folder: Path,
        *,
        database_url: str = "",
        broker_url: str = "",
        doubled: bool = False,
        first: bool = False,
        **variables: str,
    ) -> None:
        self.folder = folder
        self.doubled = doubled
        self._first = first
        self.port = free_port()
        self._variables = {
            "PORT": str(self.port),
            "RUN_DIR": str(folder),
            "FLOWER_PORT": str(free_port()),
            "METRICS_ADDRESS": f"127.0.0.1:{free_port()}",
            **variables,
        }
        if database_url:
            self._variables |= {
                "DATABASE_URL": database_url,
                "BROKER_URL": broker_url,
                "DJANGO_SECRET_KEY": "only-for-this-test-run-" + "x" * 40,
            }
        self._process: subprocess.Popen[bytes] | None = None
        self._doubles: subprocess.Popen[bytes] | None = None
        self.client: httpx.Client

    @property
    def flower_url(self) -> str:
        """Where Flower listens (full stack only)."""
        return f"http://127.0.0.1:{self._variables['FLOWER_PORT']}"

    @property
    def metrics_url(self) -> str:
        """Where the portal shows its metrics without a key."""
        return f"http://{self._variables['METRICS_ADDRESS']}/metrics"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its processes, for commands that act on the same system."""
        inherited = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "BROKER_URL", "FAILPOINTS")}
        return inherited | self._variables

    def start(self) -> None:
        """Start everything and wait until it says that it is ready. Raises RuntimeError with its output."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self._first or "DATABASE_URL" in self._variables or (self.folder / migrated.NAME).exists()):
            migrated.copy_sqlite(self.folder)
        output = self.folder / "up.log"
        with output.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "up"],
                cwd=ROOT,
                env=self.environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for(
            lambda: "Ctrl-C stops" in output.read_text() or self._process.poll() is not None,
            START_SECONDS,
            lambda: f"not ready:\n{output.read_text()}\n{self.logs()}",
        )
        if self._process.poll() is not None:
            raise RuntimeError(f"ended at the start:\n{output.read_text()}\n{self.logs()}")
        if self.doubled:
            self._start_doubles()
        demo = dict(line.split("=", 1) for line in (self.folder / "demo.env").read_text().splitlines())
        self.url, self.api_key = demo["PORTAL_URL"], demo["PORTAL_API_KEY"]
        self.user, self.password = demo["PORTAL_USER"], demo["PORTAL_PASSWORD"]
        self.client = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.api_key}"}, timeout=60)

    def stop(self, number: int = signal.SIGINT) -> int:
        """Stop it as Ctrl-C does and return its exit status; every process is gone then."""
        assert self._process is not None
        if self._doubles is not None:
            self._doubles.terminate()
            self._doubles.wait(60)
        self._process.send_signal(number)
        status = self._process.wait(60)
        self.client.close()
        return status

    def kill_everything(self) -> None:
        """SIGKILL every process at once, as a power cut would."""
        assert self._process is not None
        for process in [*self.supervisors, *self.processes()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(10)
        if self._doubles is not None:
            self._doubles.wait(10)
        wait_for(lambda: not self.processes(), 10, lambda: "processes survive SIGKILL")

    @property
    def supervisors(self) -> list[psutil.Process]:
        """The living supervisors; the processes that they started are their children."""
        started = [process for process in (self._process, self._doubles) if process is not None]
        return [psutil.Process(process.pid) for process in started if process.poll() is None]

    def _start_doubles(self) -> None:
        """Start the same commands in the same environment once more, only that a Celery node has its own name."""
        given = configparser.RawConfigParser()
        given.read(ROOT / "deploy" / "supervisord.conf")
        wanted = configparser.RawConfigParser()
        wanted["supervisord"] = dict(given["supervisord"]) | {
            "logfile": str(self.folder / "logs" / "doubles.log"),
            "pidfile": str(self.folder / "doubles.pid"),
        }
        for name in DOUBLES:
            program = dict(given[f"program:{name}"])
            program["command"] = program["command"].replace(f"-n {name}@", f"-n {name}-2@")
            program["stdout_logfile"] = str(self.folder / "logs" / f"{name}-2.log")
            wanted[f"program:{name}-2"] = program
        path = self.folder / "doubles.conf"
        with path.open("w") as file:
            wanted.write(file)
        (first,) = self.supervisors
        self._doubles = subprocess.Popen(
            ["supervisord", "-c", str(path)], cwd=ROOT, env=first.environ(), start_new_session=True
        )

    def processes(self, *words: str) -> list[psutil.Process]:
        """Return its running processes, those only whose command line has all the words."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("SUPERVISED_IN") == str(self.folder):
                    command = " ".join(process.cmdline())
                    if process.status() != psutil.STATUS_ZOMBIE and all(word in command for word in words):
                        found.append(process)
        return found

    def manage(self, *arguments: str, stdin: str = "") -> str:
        """Run a `manage.py` command on this system and return what it prints."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def logs(self) -> str:
        """Return the end of every log, for a failure's message."""
        files = sorted((self.folder / "logs").glob("*.log"))
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-3000:]}" for file in files)

    def infer(self, model: str, body: Any, **headers: str) -> httpx.Response:
        """POST one request; keyword arguments are headers, `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(f"/v2/models/{model}/infer", json=body, headers=named)

    def result(self, accepted: httpx.Response, seconds: float = 60) -> httpx.Response:
        """Follow a 202's ResultPath until the job is final."""
        path = accepted.json()["ResultPath"]
        end = time.monotonic() + seconds
        while True:
            answer = self.client.get(path, params={"wait": 5})
            if answer.status_code != 202:
                return answer
            if time.monotonic() > end:
                raise AssertionError(f"{path} is still open after {seconds} s\n{self.logs()}")


@contextlib.contextmanager
def running(stack: Stack) -> Iterator[Stack]:
    """Start the stack, and leave nothing of it behind."""
    try:
        stack.start()
        yield stack
    finally:
        if hasattr(stack, "client"):
            stack.client.close()
        if stack._process is not None and stack._process.poll() is None:
            stack.kill_everything()
        for process in stack.processes():
            process.kill()


def wait_for(condition: Any, seconds: float, message: Any) -> None:
    """Wait until the condition holds. Raises AssertionError with the message (a callable) when it doesn't in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(message())
        time.sleep(0.05)
