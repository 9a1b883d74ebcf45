"""A PostgreSQL server of a test's own, which the test may stop, kill and start again."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import psutil
import psycopg

from tests.ports import free_port
from tests.stack import wait_for

PATIENCE_SECONDS = 60.0


class ServerError(RuntimeError):
    """The server didn't start; the text holds the end of its log."""


def postgres_programs() -> Path | None:
    """Return the folder with this machine's newest PostgreSQL programs, if it has any."""
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if newest:
        return newest[-1].parent
    found = shutil.which("initdb")
    return Path(found).parent if found else None


def answers(server: str) -> bool:
    """Tell whether the server at this address (without a database name) takes a connection."""
    try:
        psycopg.connect(f"{server}/postgres", connect_timeout=3).close()
    except psycopg.OperationalError:
        return False
    return True


class PostgresServer:
    """One server with its own port and data; the data is `folder`/data, which may be a file system of its own.

    `settings` are lines of postgresql.conf. PostgreSQL refuses to run as root: root becomes the user `postgres`, who
    must be able to enter the folder. Used as a context manager it runs inside the block; `stop` or `kill9`, then
    `start`, keep the data in between.
    """

    def __init__(self, folder: Path, port: int | None = None, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.url = f"postgres://postgres@127.0.0.1:{self.port}"
        self._data = folder / "data"
        self._log = folder / "postgres.log"
        self._settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Tell whether its first process lives; after a PANIC it may have ended by itself."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it takes connections. Raises ServerError."""
        if not (self._data / "PG_VERSION").exists():
            self._create()
        end = time.monotonic() + PATIENCE_SECONDS
        while not self._start_once(end):
            # Processes of the one that was killed may hold the shared memory for another moment.
            if time.monotonic() > end:
                raise ServerError(f"the server is not up:\n{self.log()}")
            time.sleep(0.2)

    def stop(self, *, immediate: bool = False) -> None:
        """Stop in good order, without waiting for clients; `immediate` leaves the recovery to the next start."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill9()
        self._process = None

    def kill9(self) -> None:
        """Kill every process of the server as a power cut would."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            # So that it starts no further ones meanwhile.
            self._process.send_signal(signal.SIGSTOP)
        family = self.processes()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(10)
        wait_for(lambda: all(_is_gone(process) for process in family), 10, lambda: "processes survive SIGKILL")
        self._process = None

    def processes(self) -> list[psutil.Process]:
        """Return its running processes, the first one first."""
        if not self.is_running:
            return []
        assert self._process is not None
        try:
            first = psutil.Process(self._process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def log(self) -> str:
        """Return the end of its log."""
        return self._log.read_text(errors="replace")[-4000:] if self._log.exists() else ""

    def __enter__(self) -> "PostgresServer":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _create(self) -> None:
        self._data.mkdir(parents=True, exist_ok=True)
        if user := _user():
            shutil.chown(self._data, user, user)
        command = [_program("initdb"), "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        done = subprocess.run(command, user=_user(), group=_user(), cwd="/", capture_output=True, text=True)
        if done.returncode:
            raise ServerError(f"initdb failed, can {_user() or 'this user'} enter {self._data}?\n{done.stderr}")

    def _start_once(self, end: float) -> bool:
        """Start it and wait; False when it ended again."""
        # Its owner is known to be gone. Its number may belong to somebody else by now, which would stop the start.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [_program("postgres"), "-D", str(self._data), *options],
                user=_user(),
                group=_user(),
                extra_groups=[] if _user() else None,
                cwd="/",
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while not answers(self.url):
            if self._process.poll() is not None:
                self._process = None
                return False
            if time.monotonic() > end:
                self.kill9()
                raise ServerError(f"the server doesn't answer:\n{self.log()}")
            time.sleep(0.05)
        return True


def _is_gone(process: psutil.Process) -> bool:
    """Tell whether it has ended; its new parent may take a while to ask for its status."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _program(name: str) -> str:
    programs = postgres_programs()
    if programs is None:
        raise ServerError("PostgreSQL is not installed")
    return str(programs / name)


def _user() -> str | None:
    return "postgres" if os.geteuid() == 0 else None
